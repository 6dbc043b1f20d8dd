"""A sequence may be cut anywhere and carried on from the state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from seqc.conformance.case import Case, cast, part
from seqc.conformance.matching import compare_run
from seqc.conformance.report import Finding
from seqc.conformance.subject import State, Subject

ORDER = 40

CUTS = ((1,), (64,), (17, 18, 50))


def applies(case: Case, subject: Subject) -> str:
    return "" if case.steps else "it reads the future, so it takes no state"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    inputs, answer = case.expected(case.usual, dtype)
    for cuts in CUTS:
        state: State = None
        pieces: list[tuple[Tensor, ...]] = []
        for start, stop in pairwise((0, *cuts, case.usual)):
            got, state = subject.run(cast(part(inputs, start, stop), dtype), dtype, state)
            pieces.append(got)
        whole = [torch.cat(series, 1) for series in zip(*pieces, strict=True)]
        what = f"cut before {', '.join(map(str, cuts))}"
        yield from compare_run(subject, whole, state, answer, what)
