"""Newton's iteration as kernels, in Triton's interpreter against the token loop: values and gradients."""

from __future__ import annotations

import pytest
import torch

from tests.emit.triton import parts, solving
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import aot, definitions, functions
from tests.emit.triton.solving import NAMES
from tests.emit.triton.test_rules import on_nvidia

pytest.importorskip("triton")

QUICK = {"gated"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in NAMES if name != "steep"],
)
def test_what_is_solved_is_what_tokens_compute(name: str, interpreted: Interpreted) -> None:
    """70 tokens are a block and six more; states are given, and sequences begin anew."""
    assert max(interpreted(solving.compared, name, 70)) < 2e-6


def test_a_few_corrections_settle_a_block(interpreted: Interpreted) -> None:
    """Not one a token; the way back is linear."""
    there, back = interpreted(solving.corrections, "gated", 64)
    assert there <= 2 * 6  # programs, corrections
    assert back <= 2 * 2


def test_slopes_whose_products_overflow(interpreted: Interpreted) -> None:
    """What goes back from one token is exact, though products of later slopes are infinite."""
    assert max(interpreted(solving.late_alone, "steep", 40, 5)) < 1e-6


def test_states_of_a_whole_matrix_stay_in_pytorch() -> None:
    assert solving.dense() == []


def test_single_precision_needs_no_rounded_products() -> None:
    """There are none, so that it is solved for whatever PyTorch is told of them."""
    assert solving.solved("gated").staged(on_nvidia(torch.float32), 64)
    assert not solving.solved("fed by a scan").staged(on_nvidia(torch.float32), 64)


def test_it_is_solved_only_where_that_is_asked_for() -> None:
    assert parts.kernels_of(NAMES["gated"]()).stages == []


def test_the_functions_beside_the_kernels_are_what_is_written() -> None:
    text = solving.solved("beside").stages[0].kernels.text
    for file in ("tangent", "newton"):
        assert functions("\n".join(definitions(file).values())).items() <= functions(text).items()


def test_machine_code_spills_nothing() -> None:
    (gpu,) = aot.targets("sm_90")
    (stage,) = solving.solved("gated, wide").stages
    for kernel in aot.block_kernels(stage.kernels.face):
        assert aot.compiled_blocks(stage.kernels, kernel, gpu).spills == 0
