"""Gates of 0, of 1, of the smallest numbers, and strong ones followed by weak ones: right, finite,
differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from seqc.conformance.case import Answer, Case, cast
from seqc.conformance.checks.gradients import compare_gradients
from seqc.conformance.compare import is_finite, is_moderate
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


# With little time, only these are tried, and only the first three in every width.
FAST = ("0", "1", "strong, then weak", "nearly 0", "nearly 1")


def applies(case: Case, subject: Subject) -> str:
    return "" if case.gates() else "no input is a gate"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    for name, inputs in patterns(case):
        # The widest dtype tells whether it is right, the others whether they get through.
        for dtype in subject.dtypes[:1] if case.fast and name not in FAST[:3] else subject.dtypes:
            what = f"gates {name}, {short(dtype)}"
            answer = case.answer(("gates", name), inputs, dtype)
            if is_moderate(answer.values):
                yield from _at(case, subject, name, inputs, answer, what)


def _at(
    case: Case, subject: Subject, name: str, inputs: dict[str, Tensor], answer: Answer, what: str
) -> Iterator[Finding]:
    dtype = answer.dtype
    if dtype is torch.float64 and subject.differentiable:
        yield from compare_gradients(case, subject, name, inputs, dtype, what)
    given = cast(inputs, dtype)
    wrt = [x.requires_grad_() for x in given.values()] if subject.differentiable else []
    got, after = subject.run(given, dtype)
    yield from compare_run(subject, got, after, answer, what)
    if wrt:
        yield Finding(f"{what}, gradients finite", _unfinite(got, wrt), 0.0)


def patterns(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All gates following one pattern; then each gate alone of either sign, which many rules do not bear in
    all.
    """
    for name, pattern in PATTERNS.items():
        if case.fast and name not in FAST:
            continue
        # What two whole blocks hand on is seen only where gates let it through.
        time = 2 * case.usual if name.startswith("nearly") else case.usual
        yield name, gated(case, pattern(time), case.gates())
    for gate in case.gates():
        yield f"`{gate}` of both signs", gated(case, _of_both_signs(case.usual), (gate,))


def gated(case: Case, pattern: Tensor, gates: tuple[str, ...]) -> dict[str, Tensor]:
    """Inputs whose gates follow a pattern over time; they keep the sign that the rule wants of them."""
    inputs = case.draw(len(pattern))
    for name in gates:
        x = inputs[name]
        sign = 1.0 if case.roles[name].scale > 0 else -1.0
        shaped = pattern.reshape(1, -1, *(1,) * (x.ndim - 2))
        inputs[name] = (sign * shaped).expand(x.shape).contiguous()
    return inputs


def _unfinite(outputs: tuple[Tensor, ...], wrt: list[Tensor]) -> float:
    reached = [x for x in outputs if x.requires_grad]
    ones = [torch.ones_like(x) for x in reached]
    found = torch.autograd.grad(reached, wrt, ones, allow_unused=True, materialize_grads=True)
    return 0.0 if is_finite(found) else float("inf")
