"""Gates of 0, of 1, of the smallest numbers, and strong ones followed by weak ones: right, finite,
differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seqc.conformance.case import BATCH, Case, cast
from seqc.conformance.checks.gradients import compare_gradients, expected_gradients
from seqc.conformance.compare import is_finite, is_moderate, single
from seqc.conformance.matching import compare_run, short
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 65


def _alternating(time: int) -> Tensor:
    return (torch.arange(time) % 2).double()


def _of_both_signs(time: int) -> Tensor:
    return torch.where(torch.arange(time) % 3 == 1, -0.7, 0.95).double()


def _strong_then_weak(time: int) -> Tensor:
    return torch.where(torch.arange(time) % 30 < 10, 1e-30, 0.999).double()


PATTERNS: dict[str, Callable[[int], Tensor]] = {
    "0": lambda time: torch.zeros(time, dtype=torch.float64),
    "1": lambda time: torch.ones(time, dtype=torch.float64),
    "1e-6": lambda time: torch.full((time,), 1e-6, dtype=torch.float64),
    "nearly 0": lambda time: torch.full((time,), 0.002, dtype=torch.float64),
    "nearly 1": lambda time: torch.full((time,), 0.998, dtype=torch.float64),
    "1e-38": lambda time: torch.full((time,), 1e-38, dtype=torch.float64),
    "0 and 1 in turn": _alternating,
    "strong, then weak": _strong_then_weak,
}


# With little time, only these are tried.
FAST = ("0", "1", "strong, then weak", "nearly 0", "nearly 1")


@dataclass(frozen=True, slots=True)
class Patterns:
    """Inputs of which some rows of the batch have gates that follow one pattern, the next rows another."""

    names: tuple[str, ...]
    inputs: dict[str, Tensor]

    @property
    def key(self) -> object:
        return "gates", self.names

    @property
    def rows(self) -> dict[str, slice]:
        return {name: slice(BATCH * i, BATCH * (i + 1)) for i, name in enumerate(self.names)}

    def only(self, kept: Callable[[slice], bool]) -> Patterns:
        """Those whose rows are kept."""
        rows = {name: rows for name, rows in self.rows.items() if kept(rows)}
        inputs = {name: torch.cat([x[part] for part in rows.values()]) for name, x in self.inputs.items()}
        return Patterns(tuple(rows), inputs) if len(rows) < len(self.names) else self


def applies(case: Case, subject: Subject) -> str:
    return "" if case.gates() else "no input is a gate"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    tried = comparable(case, patterns(case))
    if not tried.names:
        return
    if subject.differentiable:
        yield from _gradients(case, subject, tried)
    for dtype in subject.dtypes:
        answer = case.answer(tried.key, tried.inputs, dtype)
        given = cast(tried.inputs, dtype)
        wrt = [x.requires_grad_() for x in given.values()] if subject.differentiable else []
        got, after = subject.run(given, dtype)
        finite = _finite(got, wrt, tried)
        for name, rows in tried.rows.items():
            what = f"gates {name}, {short(dtype)}"
            if is_moderate(x[rows] for x in answer.values):
                yield from compare_run(subject, got, after, answer, what, rows)
                if wrt:
                    yield Finding(f"{what}, gradients finite", 0.0 if finite[name] else float("inf"), 0.0)


def comparable(case: Case, tried: Patterns) -> Patterns:
    """Without the patterns at which the rule itself explodes."""
    answer = case.answer(tried.key, tried.inputs, torch.float64)
    return tried.only(lambda rows: is_moderate(x[rows] for x in answer.values))


def _gradients(case: Case, subject: Subject, tried: Patterns) -> Iterator[Finding]:
    wanted = expected_gradients(case, tried.key, tried.inputs, torch.float64)
    tried = tried.only(lambda rows: is_moderate(wanted[name][rows] for name in tried.inputs))
    if tried.names:
        rows = {f"gates {name}, fp64": rows for name, rows in tried.rows.items()}
        what = "gates of all patterns, fp64"
        yield from compare_gradients(case, subject, tried.key, tried.inputs, torch.float64, what, rows=rows)


def patterns(case: Case) -> Patterns:
    """All gates following one pattern; then each gate alone of either sign, which many rules do not bear in
    all.
    """
    # What two whole blocks hand on is seen only where gates let it through.
    time = 2 * case.usual
    made = {
        name: gated(case, pattern(time), case.gates())
        for name, pattern in PATTERNS.items()
        if name in FAST or not case.fast
    }
    for gate in case.gates():
        made[f"`{gate}` of both signs"] = gated(case, _of_both_signs(time), (gate,))
    leaves = [leaf.name for leaf in case.inputs]
    return Patterns(
        tuple(made), {leaf: single(torch.cat([each[leaf] for each in made.values()])) for leaf in leaves}
    )


def gated(case: Case, pattern: Tensor, gates: tuple[str, ...]) -> dict[str, Tensor]:
    """Inputs whose gates follow a pattern over time, from one end to the other of what the rule wants of them."""
    inputs = case.draw(len(pattern))
    for name in gates:
        x = inputs[name]
        shaped = case.roles[name].gate(pattern).reshape(1, -1, *(1,) * (x.ndim - 2))
        inputs[name] = shaped.expand(x.shape).contiguous()
    return inputs


def _finite(outputs: tuple[Tensor, ...], wrt: list[Tensor], tried: Patterns) -> dict[str, bool]:
    """Whether all gradients by the inputs of a pattern are finite."""
    reached = [x for x in outputs if x.requires_grad]
    if not wrt:
        return {}
    ones = [torch.ones_like(x) for x in reached]
    found = torch.autograd.grad(reached, wrt, ones, allow_unused=True, materialize_grads=True)
    return {name: is_finite(x[rows] for x in found) for name, rows in tried.rows.items()}
