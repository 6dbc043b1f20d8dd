"""Faults that no short text shows, or that need a file beside it: each is made here, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import seqc
from seqc.diagnostics import Diagnostic, SpecError
from seqc.diagnostics.learners import NotDifferentiableHere
from seqc.passes.schedule import schedule
from seqc.source import Source
from seqc.spec import Spec
from seqc.syntax.lexer import MAX_CHARACTERS, MAX_NAME
from seqc.views.attention import attention
from seqc.views.uses import uses
from tests.errors.compiled import check_in, diagnose

Made = Callable[[Path], tuple[Diagnostic, ...]]


def rule(value: str) -> Made:
    return lambda _: diagnose(f"rule r(x[d]) {{ return {value} }}")


def too_much_work(_: Path) -> tuple[Diagnostic, ...]:
    return diagnose("model m(x[f]; f = 4) { repeat 4096 as l { x = x" + " + x * l" * 60 + " } return x }")


def not_text(folder: Path) -> tuple[Diagnostic, ...]:
    (folder / "picture.seq").write_bytes(b"\xff\xd8\xff")
    return check_in(folder, 'use "picture.seq"')


def use_too_deep(folder: Path) -> tuple[Diagnostic, ...]:
    for number in range(100):
        (folder / f"f{number}.seq").write_text(f'use "f{number + 1}.seq"\n', encoding="utf-8")
    return check_in(folder, 'use "f0.seq"')


def no_such_item(_: Path) -> tuple[Diagnostic, ...]:
    spec = seqc.loads("rule keep(x[d]) {\n    return x\n}\n")
    with pytest.raises(SpecError) as caught:
        spec.rule("kept", d=4)
    return caught.value.diagnostics


def refused(act: Callable[[], object]) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as caught:
        act()
    return caught.value.diagnostics


def rule_too_large(_: Path) -> tuple[Diagnostic, ...]:
    states = "".join(f"state h{i}[f] = 0\n h{i}' = 0.5 * h{i} + x\n" for i in range(200))
    spec = seqc.loads(f"rule r(x[f]; f = 4) {{ {states} return h0' }}")
    return refused(spec.explain)


def mode_not_allowed(_: Path) -> tuple[Diagnostic, ...]:
    spec = seqc.loads("rule r(x[f]; f = 4) { state h[f] = 0\n h' = tanh(h + x)\n return h' }")
    found = refused(lambda: spec.rule().torch(mode="scan"))
    alone = refused(lambda: schedule(spec.rule().recurrence, "scan"))
    assert alone[0].notes == refused(lambda: spec.rule().program("scan"))[0].notes
    assert "its modes are `newton` and `loop`" in alone[0].notes
    assert "its modes are `newton`, `loop`, `step` and `reference`" in found[0].notes
    return found


def state_of_a_store() -> Spec:
    kept = "store K[s, n] = k\n state h[n] = 0\n h' = h + sum[s](softmax[s](sum[n](q * K')) * K')"
    return seqc.loads(f"rule r(q[n], k[n]; n = 4) {{ {kept}\n return h' }}")


def no_parallel_form(_: Path) -> tuple[Diagnostic, ...]:
    spec = state_of_a_store()
    assert refused(lambda: spec.rule().torch())[0].code == "E0903"
    return refused(spec.explain)


def no_attention(_: Path) -> tuple[Diagnostic, ...]:
    rule = seqc.loads(
        "rule r(x[d], y[d]; d = 2) { state h[d] = 0\n h' = tanh(x) * h + y\n return h' }"
    ).rule()
    (use,) = uses(rule.whole, 3)
    assert attention(use).value.name == "y"
    return refused(lambda: attention(use, "x", rule.place))


def said(diagnostic: type[Diagnostic], *facts: object) -> Made:
    """One that no text gives today: a backend says it, or a later primitive without a derivative."""
    return lambda _: (diagnostic(Source("text").span(0, 4), *facts),)


MADE: dict[str, Made] = {
    "E0404": too_much_work,
    "E0514": said(NotDifferentiableHere),
    "E0704": not_text,
    "E0705": use_too_deep,
    "E0707": no_such_item,
    "E0801": lambda _: diagnose("#" * (MAX_CHARACTERS + 1)),
    "E0802": rule("(" * 100 + "x" + ")" * 100),
    "E0804": rule("x" * (MAX_NAME + 1)),
    "E0805": rule_too_large,
    "E0901": lambda _: refused(lambda: state_of_a_store().rule().torch(mode="step")),
    "E0902": mode_not_allowed,
    "E0903": no_parallel_form,
    "E1001": no_attention,
}
