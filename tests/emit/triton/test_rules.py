"""Kernels over time in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from seqc.ir.ops import OPS
from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import CLASSES, EVERY, LONGER, MAKERS, NOT_WRITTEN, SPELLINGS, kernels_of

pytest.importorskip("triton")

# Of what others show.
MORE = {"complex", "long average", "key decay", "delta with a gate a key", "dense, two states", "turned"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in {*LONGER, *MORE})) for name in EVERY]
)
def test_kernels_compute_what_tokens_compute(name: str, interpreted: Interpreted) -> None:
    """35 tokens are no whole number of blocks; states are given, and sequences begin anew."""
    assert max(interpreted(parts.compared, name, 35, True, begun=True)) < 2e-6


@pytest.mark.parametrize("name", CLASSES)
def test_a_token_alone(name: str, interpreted: Interpreted) -> None:
    assert max(interpreted(parts.compared, name, 1, False, begun=True)) < 2e-6


@pytest.mark.parametrize("name", ["key decay", "gated delta", "nearly one"])
def test_a_rule_in_blocks_has_a_loop_as_well(name: str, interpreted: Interpreted) -> None:
    """35 tokens are a segment of the loop and three more."""
    assert kernels_of(MAKERS[name]()).stages
    assert max(interpreted(parts.compared, name, 35, True, None, "loop")) < 2e-6


def test_a_rule_too_wide_for_a_loop_has_blocks(interpreted: Interpreted) -> None:
    """Its maps are PyTorch's, and its blocks have no products of matrices. 35 tokens, then one alone."""
    made = kernels_of(MAKERS["no loop"]())
    assert made.kernel is None
    assert all(stage.kernels.face.exact for stage in made.stages)
    assert made.staged(on_nvidia(torch.float32), 1)
    assert max(interpreted(parts.compared, "no loop", 35, True, begun=True)) < 2e-6
    assert max(interpreted(parts.compared, "no loop", 1, False, begun=True)) < 2e-6


def test_blocks_are_as_exact_as_what_pytorch_makes_of_parameters(interpreted: Interpreted) -> None:
    """Of gates that are almost 1 it loses digits, which a loop does not."""
    for ours, theirs in interpreted(parts.beside_torch, "nearly one", 35):
        assert ours < max(2 * theirs, 2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "time"), [("selective", 5), ("gated delta", 5), ("gate a value", 35)])
def test_inputs_of_16_bits(name: str, time: int, dtype: torch.dtype, interpreted: Interpreted) -> None:
    """Each result is rounded once, which the interpreter does towards zero: in a loop, and in blocks."""
    assert max(interpreted(parts.compared, name, time, True, dtype=dtype)) < torch.finfo(dtype).eps


def test_blocks_write_what_a_rule_gives_in_its_type(interpreted: Interpreted) -> None:
    """What PyTorch computes something else from stays single precision: here the states that a matrix reads."""
    for dtype in (torch.bfloat16, torch.float16):
        assert interpreted(parts.types_of_results, "key decay", dtype) == {dtype}
    assert interpreted(parts.types_of_results, "key decay", torch.float32) == {torch.float32}
    assert interpreted(parts.types_of_results, "no loop", torch.bfloat16) == {torch.float32}


def test_products_of_11_bits_do_for_inputs_of_16(interpreted: Interpreted) -> None:
    """And not for single precision, which has to be told so: else it is a loop."""

    def worst(dtype: torch.dtype, asked: str) -> float:
        return max(interpreted(parts.with_rounded_products, "gated delta", 40, dtype, asked))

    assert worst(torch.bfloat16, "highest") < torch.finfo(torch.bfloat16).eps
    assert worst(torch.float32, "highest") < 2e-6
    assert 1e-5 < worst(torch.float32, "high") < 2e-2


@pytest.mark.parametrize(
    ("name", "gate"),
    [
        ("gate a head", None),
        ("stabilised", None),
        ("delta", None),
        ("linear attention", 1.0),
        ("linear attention", 1e-38),
        ("gated delta", 0.0),
        ("gated delta", 1.0),
        pytest.param("gate a key", None, marks=pytest.mark.slow),
        pytest.param("delta, gate a key", None, marks=pytest.mark.slow),
        pytest.param("diagonal and low rank", None, marks=pytest.mark.slow),
    ],
)
def test_products_of_16_bits_do_for_inputs_of_16(
    name: str, gate: float | None, interpreted: Interpreted
) -> None:
    """Outputs and states, and gradients: all less exact than without."""
    found = interpreted(parts.with_rounded_products, name, 70, torch.bfloat16, gate=gate)
    assert max(found) < 5e-3


def test_what_is_computed_is_rounded_to_the_inputs_type(interpreted: Interpreted) -> None:
    """Where nothing grows from it: a rule of triangular systems keeps the states that others may round."""

    def state(name: str, dtype: torch.dtype) -> float:
        return float(interpreted(parts.with_rounded_products, name, 40, dtype)[1])

    assert state("gate a head", torch.float16) < 6e-4 < state("gate a head", torch.bfloat16)
    assert state("delta", torch.bfloat16) < 2e-3


def test_inputs_that_stages_read_as_they_are_stay_of_16_bits() -> None:
    """All but those that PyTorch needs, after the stage or because a gate takes many operations."""
    assert parts.kept(MAKERS["linear attention"]()) >= {"k", "v"}
    assert parts.kept(MAKERS["delta, gate a key"]()) == {"q", "k", "v", "alpha", "beta"}
    assert parts.kept(MAKERS["gate a head"]()) == {"x", "B", "C", "dt", "a"}
    assert parts.kept(parts.written(parts.COMPUTED, n=5, m=3)()) == {"k", "q", "w", "alpha", "v"}
    outside = parts.COMPUTED.replace(
        "return sum[n](S' * k) + 0.3 * v", "return tanh(sum[n](S' * k) + 0.3 * v)"
    )
    assert parts.kept(parts.written(outside, n=5, m=3)()) == {"k", "q", "w", "alpha"}


def on_nvidia(dtype: torch.dtype) -> SimpleNamespace:
    return SimpleNamespace(dtype=dtype, is_cuda=True, device=torch.device("cuda"))


@pytest.mark.parametrize("asked", ["highest", "high"])
def test_blocks_run_where_their_products_are_exact_enough(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NVIDIA single precision is a loop, unless PyTorch is told that products may be rounded."""
    found, before = kernels_of(MAKERS["gated delta"]()), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(asked)
    try:
        assert found.staged(on_nvidia(torch.float32), 64) == (asked == "high")
        assert found.staged(on_nvidia(torch.bfloat16), 64)
        assert not found.staged(on_nvidia(torch.bfloat16), 31)
        assert found.staged(torch.zeros(1), 64)
        monkeypatch.setattr(torch.version, "hip", "6.4")
        assert found.staged(on_nvidia(torch.float32), 64)  # whose products are exact there
    finally:
        torch.set_float32_matmul_precision(before)


def test_packed_sequences_are_computed_apart(interpreted: Interpreted) -> None:
    """In blocks, where sequences begin within them and one has no token at all."""
    assert max(interpreted(parts.separated, "gate a value", [0, 5, 5, 22, 40])) < 2e-6


@pytest.mark.parametrize("name", ["diagonal", "diagonal, complex", "key decay", "gated delta", "dense"])
def test_packed_sequences_have_states_of_their_own(name: str, interpreted: Interpreted) -> None:
    """Pieces in blocks and in loops, of a sequence of no token, of one, and of others."""
    assert max(interpreted(parts.packed_with_states, name, [0, 35, 35, 36, 43])) < 2e-6


@pytest.mark.parametrize("name", ["dense", "gated delta"])
def test_a_compiled_module_is_one_graph_with_the_kernels_in_it(name: str, interpreted: Interpreted) -> None:
    """A loop, and blocks."""
    differences, launches = interpreted(parts.in_one_graph, name)
    assert max(differences) == 0
    assert launches > 1


def test_states_go_from_block_to_block(interpreted: Interpreted) -> None:
    assert max(interpreted(parts.compared, "gated delta", 70, False)) < 2e-6


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
    """As a loop bit for bit; parts too short for blocks go on where blocks end."""
    assert max(interpreted(parts.split, name, "loop")) == 0
    assert max(interpreted(parts.split, name, None)) < 2e-6


@pytest.mark.parametrize("output", [True, False])
def test_what_nobody_differentiates_has_no_cotangents(output: bool, interpreted: Interpreted) -> None:
    assert max(interpreted(parts.in_part, output)) < 2e-6


def test_inputs_with_more_axes_are_mapped(interpreted: Interpreted) -> None:
    assert max(interpreted(parts.mapped)) < 2e-6


def test_every_primitive_is_written() -> None:
    assert set(OPS) == set(SPELLINGS) | NOT_WRITTEN
