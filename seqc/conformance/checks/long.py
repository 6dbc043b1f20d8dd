"""A long sequence, in single precision: nothing overflows and errors do not pile up."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from seqc.conformance.case import Case, cast
from seqc.conformance.matching import compare_run
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 75


def applies(case: Case, subject: Subject) -> str:
    return ""


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = torch.float32
    inputs, answer = case.expected(case.long, dtype)
    with torch.no_grad():
        got, after = subject.run(cast(inputs, dtype), dtype)
    yield from compare_run(subject, got, after, answer, f"{case.long} tokens")
