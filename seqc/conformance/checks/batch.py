"""The rows of a batch do not know of one another."""

from __future__ import annotations

from collections.abc import Iterator

from seqc.conformance.case import BATCH, Case, cast
from seqc.conformance.matching import compare_outputs
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 55


def applies(case: Case, subject: Subject) -> str:
    return ""


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    inputs, answer = case.expected(case.usual, dtype)
    for row in range(BATCH):
        alone = {name: x[row : row + 1] for name, x in cast(inputs, dtype).items()}
        got, _ = subject.run(alone, dtype)
        yield from compare_outputs(got, answer, f"row {row} alone", slice(row, row + 1))
