"""A reset begins a row anew, wherever it falls, and no other row."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from seqc.conformance.case import Case, cast
from seqc.conformance.matching import compare_run
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 45

# The tokens at which each row begins anew: in the middle, one after another, at the edges of a block.
PLACES: tuple[tuple[tuple[int, ...], ...], ...] = (((5, 6, 40), ()), ((0, 63), (64,)))


def applies(case: Case, subject: Subject) -> str:
    if not case.steps:
        return "it reads the future, so it takes no resets"
    return "" if subject.resets else "this form takes no resets"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    inputs = case.draw(case.usual)
    for places in PLACES:
        reset = torch.zeros(len(places), case.usual, dtype=torch.bool)
        for row, tokens in enumerate(places):
            for token in tokens:
                reset[row, token] = True
        answer = case.answer(("reset", places), inputs, dtype, reset)
        got, after = subject.run(cast(inputs, dtype), dtype, None, reset)
        yield from compare_run(subject, got, after, answer, f"reset at {places}")
