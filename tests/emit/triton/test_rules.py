"""Kernels over time in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

import pytest
import torch

from seqc.ir.ops import OPS
from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import CLASSES, LONGER, MAKERS, NOT_WRITTEN, SPELLINGS, kernels_of

pytest.importorskip("triton")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONGER)) for name in MAKERS]
)
def test_kernels_compute_what_tokens_compute(name: str, interpreted: Interpreted) -> None:
    """35 tokens are no whole number of blocks; states are given, and sequences begin anew."""
    assert max(interpreted(parts.compared, name, 35, True, begun=True)) < 2e-6


@pytest.mark.parametrize("name", CLASSES)
def test_a_token_alone(name: str, interpreted: Interpreted) -> None:
    assert max(interpreted(parts.compared, name, 1, False, begun=True)) < 2e-6


@pytest.mark.parametrize("name", ["key decay", "linear attention", "gated delta", "delta with a gate a key"])
def test_a_rule_in_blocks_has_a_loop_as_well(name: str, interpreted: Interpreted) -> None:
    """35 tokens are a segment of the loop and three more."""
    assert kernels_of(MAKERS[name]()).stages
    assert max(interpreted(parts.compared, name, 35, True, None, "loop")) < 2e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "time"), [("selective", 5), ("gated delta", 5), ("gate a value", 35)])
def test_inputs_of_16_bits(name: str, time: int, dtype: torch.dtype, interpreted: Interpreted) -> None:
    """Each result is rounded once, which the interpreter does towards zero: in a loop, and in blocks."""
    assert max(interpreted(parts.compared, name, time, True, dtype=dtype)) < torch.finfo(dtype).eps


def test_packed_sequences_are_computed_apart(interpreted: Interpreted) -> None:
    """In blocks, where sequences begin within them and one has no token at all."""
    assert max(interpreted(parts.packed, "gate a value", [0, 5, 5, 22, 40])) < 2e-6


def test_states_go_from_block_to_block(interpreted: Interpreted) -> None:
    assert max(interpreted(parts.compared, "gated delta", 130, False)) < 2e-6


@pytest.mark.parametrize("time", [1, 32])
def test_any_length(time: int, interpreted: Interpreted) -> None:
    assert max(interpreted(parts.compared, "average", time, False)) < 1e-6


def test_no_tokens_leave_the_state_as_it_is(interpreted: Interpreted) -> None:
    assert interpreted(parts.no_tokens)


@pytest.mark.parametrize("gate", [0.0, 1.0, 1e-38])
def test_extreme_gates_are_exact_and_have_finite_gradients(gate: float, interpreted: Interpreted) -> None:
    assert max(interpreted(parts.compared, "linear attention", 35, False, gate)) < 2e-6


@pytest.mark.parametrize("name", ["average", "gated delta"])
def test_a_sequence_may_be_split(name: str, interpreted: Interpreted) -> None:
    assert interpreted(parts.split, name)


def test_inputs_with_more_axes_are_mapped(interpreted: Interpreted) -> None:
    assert max(interpreted(parts.mapped)) < 2e-6


def test_every_primitive_is_written() -> None:
    assert set(OPS) == set(SPELLINGS) | NOT_WRITTEN
