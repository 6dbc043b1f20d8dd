"""Reads of growing stores in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

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
MOST = {torch.bfloat16: (5e-3, 2e-2), torch.float16: (1e-3, 5e-3)}  # errors of outputs and of gradients


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in reading.RULES]
)
def test_kernels_compute_what_tokens_compute(name: str, interpreted: Interpreted) -> None:
    """70 tokens are no whole number of blocks; sequences begin anew within them."""
    assert max(interpreted(reading.compared, name, 70, True)) < 2e-6


@pytest.mark.parametrize("name", ["forget gates", pytest.param("a window, sinks", marks=pytest.mark.slow)])
def test_entries_of_before_are_read_and_have_gradients(name: str, interpreted: Interpreted) -> None:
    assert max(interpreted(reading.compared, name, 45, False, (1, 20))) < 2e-6


def test_large_scores_do_not_overflow(interpreted: Interpreted) -> None:
    """Scores of hundreds, and gates that hide what was before them."""
    assert max(interpreted(reading.compared, "forget gates", 40, False, (), 30.0)) < 2e-5


@pytest.mark.slow
def test_heads_may_share_keys(interpreted: Interpreted) -> None:
    assert interpreted(reading.grouped) < 5e-6


def split(name: str, found: list[float]) -> tuple[float, float]:
    """The largest error of an output, and of a gradient."""
    inputs = len(reading.RULES[name]().inputs)
    return max(found[:-inputs]), max(found[-inputs:])


@pytest.mark.parametrize("dtype", MOST)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "forget gates")) for name in reading.RULES],
)
def test_products_of_16_bits_do_for_inputs_of_16(
    name: str, dtype: torch.dtype, interpreted: Interpreted
) -> None:
    outputs, gradients = split(name, interpreted(reading.with_rounded_products, name, 70, dtype, True))
    assert outputs < MOST[dtype][0]
    assert gradients < MOST[dtype][1]


def test_states_beside_stores_stay_single_precision(interpreted: Interpreted) -> None:
    """Whose gates PyTorch adds up, while the kernels take keys of 16 bits."""
    found = interpreted(reading.with_rounded_products, "forget gates of heads", 45, torch.bfloat16, False)
    outputs, gradients = MOST[torch.bfloat16]
    assert found[0] < outputs
    assert max(found) < gradients


def test_what_is_computed_is_rounded_to_the_inputs_type(interpreted: Interpreted) -> None:
    """Weights, and on the way back what flows to scores: a gate's gradient, which is not rounded itself, shows it."""
    name, given = "forget gates", {"dtype": torch.bfloat16}
    rounded = split(name, interpreted(reading.with_rounded_products, name, 45, torch.bfloat16, False))
    single = split(name, interpreted(reading.compared, name, 45, False, **given))
    assert single[0] < rounded[0]
    assert 1.3 * single[1] < rounded[1]


@pytest.mark.parametrize("gate", [0.0, -30.0, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_gates_keep_and_hide_all(gate: float, dtype: torch.dtype, interpreted: Interpreted) -> None:
    """A gate that is closed leaves a token its own entry."""
    given = {"log_f": gate}
    found = interpreted(reading.with_rounded_products, "forget gates", 45, dtype, True, given=given)
    outputs, gradients = split("forget gates", found)
    most = MOST.get(dtype, (1e-4, 1e-4))
    assert outputs < most[0]
    assert gradients < most[1]


@pytest.mark.parametrize("name", ["forget gates", pytest.param("a window, sinks", marks=pytest.mark.slow)])
def test_entries_of_16_bits_are_kept_as_they_are(name: str, interpreted: Interpreted) -> None:
    """From call to call; what was kept by single tokens is single precision, and goes on so."""
    found = interpreted(reading.with_rounded_products, name, 45, torch.bfloat16, False, (1, 20))
    outputs, gradients = split(name, found)
    assert outputs < 5e-3
    assert gradients < 2e-2
    assert interpreted(reading.kinds, name) == [torch.bfloat16, torch.float32, torch.float32]


def kernels_of(name: str, rule: str, **sizes: float) -> ReadKernels:
    text, face, _ = print_reads(schedule(of_spec(name, rule, **sizes)()), name)
    return ReadKernels(text, face, rule)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [*aot_reads.ARGUMENTS])
@pytest.mark.parametrize(
    ("size", "dtype", "instruction"),
    [
        (64, "bfloat16", r"wgmma\.mma_async\.\S*\.bf16\.bf16 "),
        (128, "bfloat16", r"wgmma\.mma_async\.\S*\.bf16\.bf16 "),
        (64, "float16", r"mma\S*\.f16\.f16"),
        (64, "float32", r"mma\S*\.tf32\.tf32"),
    ],
)
def test_kernels_compile_without_a_gpu_and_spill_nothing(
    size: int, dtype: str, instruction: str, kernel: str
) -> None:
    """In single precision with products in three steps."""
    (gpu,) = aot.targets("sm_90")
    made = kernels_of("attention/fox", "forgetting_attention", n=size, m=size)
    found = aot.compile_source(aot_reads.source(made, kernel, gpu, dtype), gpu)
    assert re.search(instruction, found.assembly)
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
