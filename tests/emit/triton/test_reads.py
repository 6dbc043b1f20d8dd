"""Reads of growing stores in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import seqc
from seqc.passes.schedule import schedule
from tests.emit.triton import reading
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import BACKEND, aot, definitions, functions, of_spec, run_written

if TYPE_CHECKING:
    from backends.triton import aot_reads  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.attention import print_reads  # noqa: TID251
    from backends.triton.runtime.attention import ReadKernels  # noqa: TID251
else:
    from seqc.backends.triton import aot_reads
    from seqc.backends.triton.attention import print_reads
    from seqc.backends.triton.runtime.attention import ReadKernels

pytest.importorskip("triton")

QUICK = ("forget gates", "a window, sinks", "two results")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in reading.RULES]
)
def test_kernels_compute_what_tokens_compute(name: str, interpreted: Interpreted) -> None:
    """70 tokens are no whole number of blocks; sequences begin anew within them."""
    assert interpreted(reading.compared, name, 70, True) < 2e-6


@pytest.mark.parametrize("name", ["forget gates", pytest.param("a window, sinks", marks=pytest.mark.slow)])
def test_entries_of_before_are_read_and_have_gradients(name: str, interpreted: Interpreted) -> None:
    assert interpreted(reading.compared, name, 45, False, (1, 20)) < 2e-6


def test_large_scores_do_not_overflow(interpreted: Interpreted) -> None:
    """Scores of hundreds, and gates that hide what was before them."""
    assert interpreted(reading.compared, "forget gates", 40, False, (), 30.0) < 2e-5


@pytest.mark.slow
def test_heads_may_share_keys(interpreted: Interpreted) -> None:
    assert interpreted(reading.grouped) < 5e-6


def kernels_of(name: str, rule: str, **sizes: float) -> ReadKernels:
    return ReadKernels(*print_reads(schedule(of_spec(name, rule, **sizes)()), name), rule)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("kernel", ["read", "back_queries", "back_entries0", "back_entries1"])
def test_kernels_compile_without_a_gpu_and_spill_nothing(size: int, kernel: str) -> None:
    """With products in TF32."""
    (gpu,) = aot.targets("sm_90")
    made = kernels_of("attention/fox", "forgetting_attention", n=size, m=size)
    assert kernel in aot_reads.kernels(made.face)
    found = aot.compile_source(aot_reads.source(made, kernel, gpu, "tf32"), gpu)
    assert found.dots > 0
    assert found.spills == 0
    assert found.shared <= gpu.shared


@pytest.mark.parametrize(
    "text",
    [
        "rule two(q, k) { store K[s] = k return sum[s](tanh(K' - sum[s](q * K'))) }",
        "rule largest(q, k) { store K[s] = k return max[s](q * K') }",
        "rule uneven(q, k) { store K[s] = k return sum[s](softmax[s](q * K')^2 * K') }",
    ],
)
def test_other_reads_run_in_torch(text: str) -> None:
    """Sums of sums, largest entries, and powers of weights: no sum that is taken a block at a time."""
    program = seqc.loads(text).rule().program()
    assert BACKEND.unit(program) == ""
    assert BACKEND.module(program) is not None


def test_the_reads_beside_the_kernels_are_what_is_written() -> None:
    text = kernels_of("attention/fox", "forgetting_attention", n=40, m=100).text
    for name in ("flow", "add", "zero", "store", "back"):
        text = text.replace(f"{name}_entries0", f"{name}_entries")
    for file in ("read", "attention"):
        assert functions("\n".join(definitions(file).values())).items() <= functions(text).items()


ALONE = """
import sys
import torch
from kernels import attached
from kernels.attention import ReadKernels
import alibi

count = 0
launch = ReadKernels.launch

def counted(self, *args, **fixed):
    global count
    count += 1
    launch(self, *args, **fixed)

ReadKernels.launch = counted
draw = torch.Generator().manual_seed(0)
q, k, v = (torch.randn(1, 40, n, generator=draw) for n in (5, 5, 3))
given = {"q": q, "k": k, "v": v, "slope": torch.full((1, 40), 0.1)}
plain, _ = alibi.Alibi()(**given)
whole, _ = attached(alibi.Alibi())(**given)
assert count == 1, count
assert torch.allclose(plain, whole, atol=1e-5)
assert "seqc" not in sys.modules
"""


def test_a_written_folder_reads_without_the_compiler(tmp_path: Path) -> None:
    run_written(seqc.loads(reading.ALIBI).rule(n=5, m=3).program(), tmp_path, ALONE)
