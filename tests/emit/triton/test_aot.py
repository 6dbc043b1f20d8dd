"""Machine code without a GPU: kernels of rules that begin anew spill nothing and fit into shared memory.

`test_kernels.py` has those of all specs, without resets.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seqc.ir.recurrence import Recurrence
from tests.emit.triton import parts
from tests.emit.triton.parts import aot, of_spec

pytest.importorskip("triton")

KEYS = {"n": 64, "m": 64}
WIDE: dict[str, Callable[[], Recurrence]] = {
    "diagonal": of_spec("gated/hgrn", "hgrn", d=256),
    "diagonal, complex": of_spec("gated/lru", "lru", d=256),
    "gate an element": of_spec("gated/mamba", "selective_scan", d=256, n=16),
    "gate a head": of_spec("linear/mamba2", "mamba2", p=64, n=64),
    "gate a key": of_spec("linear/gla", "gla", **KEYS),
    "delta": of_spec("delta/deltanet", "delta", **KEYS),
    "delta, gate a head": of_spec("delta/gated_delta", "gated_delta", **KEYS),
    "stabilised": of_spec("xlstm/mlstm", "mlstm", **KEYS),
    "dense": of_spec("nonlinear/gru", "gru", d=64),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDE)
def test_kernels_spill_nothing(name: str) -> None:
    (gpu,) = aot.targets("sm_90")
    sources = aot.sources(parts.kernels_of(WIDE[name]()), gpu, "bfloat16", resets=True)
    made = [aot.compile_source(each, gpu) for each in sources]
    assert all(each.code for each in made)
    assert [(x.kernel, x.spills, x.shared) for x in made if x.spills or x.shared > gpu.shared] == []
