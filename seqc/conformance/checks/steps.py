"""Token by token from the start, and after a stretch that was taken at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from seqc.conformance.case import Case, at, cast, part
from seqc.conformance.matching import compare_outputs, compare_states
from seqc.conformance.report import Finding
from seqc.conformance.subject import State, Subject

ORDER = 35


def applies(case: Case, subject: Subject) -> str:
    return "" if case.steps else "it reads the future, so it has no step"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    inputs, answer = case.expected(case.usual, dtype)
    given = cast(inputs, dtype)
    for start in (0, case.usual - 9):
        state: State = None
        pieces: list[tuple[Tensor, ...]] = []
        if start:
            got, state = subject.run(part(given, 0, start), dtype)
            pieces.append(got)
        stop = case.usual if start else min(case.usual, 20)
        for token in range(start, stop):
            got, state = subject.step(at(given, token), dtype, state)
            pieces.append(tuple(x.unsqueeze(1) for x in got))
        whole = [torch.cat(series, 1) for series in zip(*pieces, strict=True)]
        what = f"steps after {start} tokens"
        yield from compare_outputs(whole, answer, what, stop=stop)
        if stop == case.usual:
            yield from compare_states(subject, state, answer, what)
