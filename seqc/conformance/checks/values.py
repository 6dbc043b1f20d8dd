"""Outputs and final states are those of the oracle, in every width that the form computes in."""

from __future__ import annotations

from collections.abc import Iterator

from seqc.conformance.case import Case, cast
from seqc.conformance.matching import compare_run, short
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 10


def applies(case: Case, subject: Subject) -> str:
    return ""


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    for dtype in subject.dtypes:
        inputs, answer = case.expected(case.usual, dtype)
        got, after = subject.run(cast(inputs, dtype), dtype)
        yield from compare_run(subject, got, after, answer, short(dtype))
