"""The state grows, and a token costs more the longer the past is, exactly as `explain` declares: counted in bytes
and in numbers that operations touch, never by a clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm, prod

import torch

from seqc.conformance.case import BATCH, Case, at, cast, part
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject
from seqc.ir.expr import Apply, Const, DType
from seqc.ir.paths import instances
from seqc.ir.recurrence import Recurrence, Store
from seqc.ir.traverse import walk
from seqc.passes import cost

ORDER = 80

BYTES = {torch.float64: 8, torch.float32: 4}
APART = 24  # tokens between two measurements, at least


def applies(case: Case, subject: Subject) -> str:
    return "" if case.steps else "it reads the future, so it has no state"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    """After three lengths of the past that lie equally far apart, the shortest beyond all windows."""
    dtype = subject.dtypes[0]
    period = period_of(case)
    apart = period * -(-APART // period)
    first = max([8, *(cost.visible(store) or 0 for store in stores(case))]) + 2
    inputs = case.draw(first + 2 * apart + 1)
    sizes: list[int] = []
    touched: list[int] = []
    for time in (first, first + apart, first + 2 * apart):
        with torch.no_grad():
            _, after = subject.run(cast(part(inputs, 0, time), dtype), dtype)
            touched.append(subject.touched(cast(at(inputs, time), dtype), dtype, after))
        sizes.append(subject.bytes_of(after))
    declared = growth(case) * BYTES[dtype] * BATCH * apart
    for more in differences(sizes):
        yield Finding(f"{declared} bytes more after {apart} tokens", float(abs(more - declared)), 0)
    yield _operations(case, differences(touched))


def _operations(case: Case, more: tuple[int, int]) -> Finding:
    """What a token touches more after so many more of them: nothing, or each time as much again."""
    linear = bool(cost.decode(case.whole).context or cost.decode_bytes(case.whole).context)
    if not linear:
        return Finding("operations a token: constant", float(max(map(abs, more))), 0)
    uneven = abs(more[1] - more[0])
    return Finding("operations a token: linear in the past", float(uneven if more[0] > 0 else "inf"), 0)


def differences(measured: list[int]) -> tuple[int, int]:
    return measured[1] - measured[0], measured[2] - measured[1]


def stores(case: Case) -> list[Store]:
    return [known.source for known in case.states.values() if isinstance(known.source, Store)]


def growth(case: Case) -> int:
    """Numbers a token and row: what the stores without a window append."""
    total = 0
    for known in case.states.values():
        if isinstance(known.source, Store) and known.source.window is None:
            numbers = 2 if known.source.value.dtype is DType.COMPLEX else 1
            total += numbers * prod(known.shape[1:])
    return total


def period_of(case: Case) -> int:
    """After how many tokens the work of a token is the same again: rules count, and do some of it now and then."""
    owners = {instance.owner for instance in instances(case.whole)}
    updates = [update for owner in owners if isinstance(owner, Recurrence) for update in owner.updates]
    counts = [
        int(node.args[1].value)
        for node in walk(updates)
        if isinstance(node, Apply) and node.op == "mod" and isinstance(node.args[1], Const)
    ]
    return lcm(*(count for count in counts if count > 0))
