"""Keys of norm 0, and inputs that are all 0."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from seqc.conformance.case import Case, cast
from seqc.conformance.compare import is_moderate
from seqc.conformance.matching import compare_run
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 70


def applies(case: Case, subject: Subject) -> str:
    return "" if any(leaf.dtype == "real" for leaf in case.inputs) else "its inputs are tokens"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    everything = tuple(leaf.name for leaf in case.inputs if leaf.dtype == "real")
    for what, names in (("keys of 0", case.keys()), ("all inputs 0", everything)):
        if not names:
            continue
        inputs = case.draw(case.usual)
        for name in names:
            inputs[name] = torch.zeros_like(inputs[name])
        answer = case.answer(what, inputs, dtype)
        if is_moderate(answer.values):
            got, after = subject.run(cast(inputs, dtype), dtype)
            yield from compare_run(subject, got, after, answer, what)
