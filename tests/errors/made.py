"""Faults that no short text shows, or that need a file beside it: each is made here, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import seqc
from seqc.diagnostics import Diagnostic, SpecError
from seqc.diagnostics.rules import NotDifferentiableHere
from seqc.diagnostics.targets import ModeNotAllowed, NotSupported
from seqc.source import Source
from seqc.syntax.lexer import MAX_CHARACTERS, MAX_NAME
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
    "E0901": said(NotSupported, "onnx", "`step` of this model", "it reads the future"),
    "E0902": said(ModeNotAllowed, "chunk", ("scan", "loop"), "its update is not affine in `h`"),
}
