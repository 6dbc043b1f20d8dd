"""What comes later changes nothing that came before."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from seqc.conformance.case import Case, cast
from seqc.conformance.compare import distance
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 50

# Rounding may differ, for the same numbers are added to other zeros; a leak is far larger.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def applies(case: Case, subject: Subject) -> str:
    return "" if case.steps else "it reads the future, as it says"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    inputs, other = case.draw(case.usual), case.draw(case.usual, seed=7)
    before, _ = subject.run(cast(inputs, dtype), dtype)
    for token in (1, 33, 64, case.usual - 1):
        changed = {name: torch.cat([x[:, :token], other[name][:, token:]], 1) for name, x in inputs.items()}
        got, _ = subject.run(cast(changed, dtype), dtype)
        error = max(distance(x[:, :token], y[:, :token]) for x, y in zip(got, before, strict=True))
        yield Finding(f"changed from token {token}", error, TOLERANCE[dtype])
