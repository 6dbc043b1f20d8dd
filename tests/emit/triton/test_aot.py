"""Machine code without a GPU: kernels spill nothing and fit into shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from seqc.ir.recurrence import Recurrence
from tests.emit.triton import parts
from tests.emit.triton.parts import aot, of_spec

pytest.importorskip("triton")

KEYS = {"n": 64, "m": 64}
QUICK: dict[str, Callable[[], Recurrence]] = {
    "gate an element": of_spec("gated/mamba", "selective_scan", d=256, n=16),
    "delta, gate a head": of_spec("delta/gated_delta", "gated_delta", **KEYS),
}
LONGER: dict[str, Callable[[], Recurrence]] = {  # to compile
    "diagonal": of_spec("gated/hgrn", "hgrn", d=256),
    "gate a head": of_spec("linear/mamba2", "mamba2", p=64, n=64),
    "gate a key": of_spec("linear/gla", "gla", **KEYS),
    "delta": of_spec("delta/deltanet", "delta", **KEYS),
    "stabilised": of_spec("xlstm/mlstm", "mlstm", **KEYS),
    "dense": of_spec("nonlinear/gru", "gru", d=64),
}
WIDE = {**QUICK, **LONGER}


def everything(rule: Any, target: Any, dtype: str) -> Iterator[Any]:
    """All kernels of a rule whose inputs are of a type, compiled."""
    for kernel in ("forward", "backward"):
        yield aot.compiled(rule, kernel, target, dtype, resets=True)
    for stage in rule.stages:
        for kernel in aot.block_kernels(stage.kernels.face):
            yield aot.compiled_blocks(stage.kernels, kernel, target, dtype)


def spilling(name: str, target: str, dtype: str) -> list[tuple[str, int, int]]:
    """The kernels of a class that spill, or need more shared memory than there is."""
    (gpu,) = aot.targets(target)
    made = list(everything(parts.kernels_of(WIDE[name]()), gpu, dtype))
    assert all(each.code for each in made)
    return [(x.kernel, x.spills, x.shared) for x in made if x.spills or x.shared > gpu.shared]


@pytest.mark.parametrize("name", QUICK)
def test_kernels_spill_nothing(name: str) -> None:
    assert spilling(name, "sm_90", "bfloat16") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", LONGER)
def test_other_classes_spill_nothing(name: str) -> None:
    assert spilling(name, "sm_90", "bfloat16") == []
