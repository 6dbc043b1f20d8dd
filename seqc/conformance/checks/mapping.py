"""A rule over values with a further axis does to each of them what it does to one."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from seqc.conformance.case import Case, cast
from seqc.conformance.matching import compare_outputs
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject

ORDER = 60


def applies(case: Case, subject: Subject) -> str:
    return "" if subject.maps else "only rules in PyTorch take further axes"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    """The rows of the batch, once as they are and once, in two parts, as a mapped axis of a batch of one."""
    dtype = subject.dtypes[0]
    inputs, answer = case.expected(case.usual, dtype)
    given = {name: x.transpose(0, 1).unsqueeze(0) for name, x in cast(inputs, dtype).items()}
    first, state = subject.run({name: x[:, :30] for name, x in given.items()}, dtype)
    second, _ = subject.run({name: x[:, 30:] for name, x in given.items()}, dtype, state)
    flat = [torch.cat(both, 1).squeeze(0).transpose(0, 1) for both in zip(first, second, strict=True)]
    yield from compare_outputs(flat, answer, "mapped over an axis")
