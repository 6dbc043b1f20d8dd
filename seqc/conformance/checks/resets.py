"""A reset begins a row anew, wherever it falls, and no other row; no gradient passes it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from seqc.conformance.case import Case, at, cast, part
from seqc.conformance.checks.gradients import compare_gradients
from seqc.conformance.matching import compare_run
from seqc.conformance.report import Finding
from seqc.conformance.subject import State, Subject

ORDER = 45

# The tokens at which each row begins anew: in the middle, nowhere, at the edges of a block, at the very end.
PLACES: tuple[tuple[int, ...], ...] = ((5, 6, 40), (), (0, 63), (64,), (Case.usual - 1,))

# Where the state is handed over, to a stretch and then to single tokens, which no reset meets.
STRETCH, SINGLE = 66, 68


def applies(case: Case, subject: Subject) -> str:
    if not case.steps:
        return "it reads the future, so it takes no resets"
    return "" if subject.resets else "this form takes no resets"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    inputs = case.draw(case.usual, batch=len(PLACES))
    given, reset = cast(inputs, dtype), _resets(case.usual)
    if subject.differentiable:
        yield from compare_gradients(case, subject, "reset", inputs, dtype, "gradient", reset)
    answer = case.answer("reset", inputs, dtype, reset)
    got, after = subject.run(given, dtype, None, reset)
    pieces, end = _carried_on(subject, given, dtype, reset)
    for row, places in enumerate(PLACES):
        rows, what = slice(row, row + 1), f"reset at {places}"
        yield from compare_run(subject, got, after, answer, what, rows)
        if max(places, default=0) < STRETCH:
            yield from compare_run(subject, pieces, end, answer, f"{what}, then carried on by steps", rows)


def _resets(time: int) -> Tensor:
    reset = torch.zeros(len(PLACES), time, dtype=torch.bool)
    for row, tokens in enumerate(PLACES):
        reset[row, list(tokens)] = True
    return reset


def _carried_on(
    subject: Subject, given: dict[str, Tensor], dtype: torch.dtype, reset: Tensor
) -> tuple[list[Tensor], State]:
    """The resets that lie before the state is handed over."""
    first, state = subject.run(part(given, 0, STRETCH), dtype, None, reset[:, :STRETCH])
    second, state = subject.run(part(given, STRETCH, SINGLE), dtype, state)
    pieces = [first, second]
    for token in range(SINGLE, reset.shape[1]):
        got, state = subject.step(at(given, token), dtype, state)
        pieces.append(tuple(x.unsqueeze(1) for x in got))
    return [torch.cat(series, 1) for series in zip(*pieces, strict=True)], state
