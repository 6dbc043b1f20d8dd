"""Lengths that are shorter than a block, that fill one exactly, and that do not: every form agrees at each."""

from __future__ import annotations

from collections.abc import Iterator

from seqc.conformance.case import Case, cast
from seqc.conformance.matching import compare_run
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 30


def applies(case: Case, subject: Subject) -> str:
    return ""


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    for time in case.lengths:
        inputs, answer = case.expected(time, dtype)
        got, after = subject.run(cast(inputs, dtype), dtype)
        yield from compare_run(subject, got, after, answer, f"length {time}")
