"""The state takes the memory that `explain` declares, and grows by what it declares a token, counted in
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch

from seqc.conformance.case import BATCH, Case, cast
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject
from seqc.ir.expr import DType
from seqc.ir.recurrence import Store

ORDER = 80

BYTES = {torch.float64: 8, torch.float32: 4}


def applies(case: Case, subject: Subject) -> str:
    return "" if case.steps else "it reads the future, so it has no state"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    dtype = subject.dtypes[0]
    windows = [s.source.window or 0 for s in case.states.values() if isinstance(s.source, Store)]
    first = max([8, *(window + 2 for window in windows)])
    later = first + 24
    sizes: list[int] = []
    for time in (first, later):
        with torch.no_grad():
            _, after = subject.run(cast(case.draw(time), dtype), dtype)
        sizes.append(subject.bytes_of(after))
    declared = growth(case) * BYTES[dtype] * BATCH * (later - first)
    yield Finding(
        f"{declared} bytes more after {later - first} tokens", float(abs(sizes[1] - sizes[0] - declared)), 0
    )


def growth(case: Case) -> int:
    """Numbers a token and row: what the stores without a window append."""
    total = 0
    for known in case.states.values():
        if isinstance(known.source, Store) and known.source.window is None:
            numbers = 2 if known.source.value.dtype is DType.COMPLEX else 1
            total += numbers * prod(known.shape[1:])
    return total
