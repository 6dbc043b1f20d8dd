"""Machine code without a GPU: every class compiles, spills nothing and fits into shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.emit.triton import parts
from tests.emit.triton.parts import aot, of_spec

pytest.importorskip("triton")

KEYS = {"n": 64, "m": 64}
WIDE = {
    "diagonal": of_spec("gated/hgrn", "hgrn", d=256),
    "diagonal, complex": of_spec("gated/lru", "lru", d=256),
    "gate an element": of_spec("gated/mamba", "selective_scan", d=256, n=16),
    "gate a head": of_spec("linear/mamba2", "mamba2", p=64, n=64),
    "gate a key": of_spec("linear/gla", "gla", **KEYS),
    "delta": of_spec("delta/deltanet", "delta", **KEYS),
    "delta, gate a head": of_spec("delta/gated_delta", "gated_delta", **KEYS),
    "delta, gate a key": of_spec("delta/kda", "kda", **KEYS),
    "delta, several terms": of_spec("delta/gated_delta_product", "gated_delta_product", **KEYS),
    "diagonal and low rank": of_spec("delta/rwkv7", "rwkv7", **KEYS),
    "stabilised": of_spec("xlstm/mlstm", "mlstm", **KEYS),
    "held, linear": of_spec("deep/titans", "titans_linear", n=16, m=16),
    "dense": of_spec("nonlinear/gru", "gru", d=64),
}


def everything(rule: Any, target: Any, dtype: str, precision: str | None) -> Iterator[Any]:
    """All kernels of a rule, compiled."""
    for kernel in ("forward", "backward"):
        yield aot.compiled(rule, kernel, target, dtype, resets=True)
    for stage in rule.stages:
        for kernel in aot.block_kernels(stage.kernels.face):
            yield aot.compiled_blocks(stage.kernels, kernel, target, precision)


def spilling(name: str, target: str, dtype: str, precision: str | None) -> list[tuple[str, int, int]]:
    """The kernels of a class that spill, or need more shared memory than there is."""
    (gpu,) = aot.targets(target)
    made = list(everything(parts.kernels_of(WIDE[name]()), gpu, dtype, precision))
    assert all(each.code for each in made)
    return [(x.kernel, x.spills, x.shared) for x in made if x.spills or x.shared > gpu.shared]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
@pytest.mark.parametrize("name", WIDE)
def test_every_class_compiles_and_spills_nothing(name: str, target: str) -> None:
    assert spilling(name, target, "bfloat16", None) == []
