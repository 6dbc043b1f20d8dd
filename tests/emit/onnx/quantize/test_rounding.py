"""Codes and scales: what they stand for, what ONNX Runtime makes of them, and what each method loses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from .parts import rounding

Array = npt.NDArray[Any]
RNG = np.random.default_rng(7)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def blocks_in_onnx(x: Array, weights: rounding.Blocks, level: int) -> Array:
    """`x` times a matrix by ONNX Runtime's operator for blocks of codes."""
    outputs, _, block = weights.codes.shape
    node = helper.make_node(
        "MatMulNBits",
        ["x", "codes", "scales"],
        ["y"],
        domain="com.microsoft",
        K=weights.inputs,
        N=outputs,
        bits=weights.bits,
        block_size=block,
        accuracy_level=level,
    )
    stored = [
        numpy_helper.from_array(weights.packed(), "codes"),
        numpy_helper.from_array(weights.scales, "scales"),
    ]
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def distance(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("inputs", "outputs", "block"), [(37, 5, 16), (64, 3, 32), (300, 7, 128), (129, 2, 128)]
)
def test_onnx_runtime_reads_the_codes_as_they_are_meant(
    bits: int, inputs: int, outputs: int, block: int
) -> None:
    x, matrix = normal(3, inputs), normal(inputs, outputs)
    weights = rounding.round_blocks(matrix, bits, block)
    assert distance(blocks_in_onnx(x, weights, level=0), x @ weights.matrix()) < 1e-5
    rounded = rounding.round_rows(x, block) @ weights.matrix()
    assert distance(blocks_in_onnx(x, weights, level=4), rounded) < 1e-3
    assert distance(weights.matrix(), matrix) < {4: 0.12, 8: 0.008}[bits]


def test_codes_stay_within_their_bits() -> None:
    matrix = normal(100, 9) * np.logspace(-20, 20, 9, dtype=np.float32)
    channels = rounding.round_channels(matrix)
    assert np.abs(channels.codes).max(0).tolist() == [63] * 9
    assert (np.abs(channels.matrix() - matrix) <= 0.51 * channels.scales).all()
    four = rounding.round_blocks(matrix, 4, 32)
    assert four.codes.min() == -8
    assert four.codes.max() <= 7


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_stay_zeros(bits: int) -> None:
    matrix = normal(64, 4)
    matrix[:, 1], matrix[:32, 2] = 0, 0
    for found in (rounding.round_blocks(matrix, bits, 32).matrix(), rounding.round_channels(matrix).matrix()):
        assert not found[:, 1].any()
        assert not found[:32, 2].any()
        assert np.isfinite(found).all()
    feedback = rounding.round_with_feedback(matrix, bits, 32, np.zeros((64, 64)))
    assert not feedback.matrix()[:, 1].any()


def test_the_search_loses_less_than_an_exact_largest_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = normal(256, 64)
    searched = distance(rounding.round_blocks(matrix, 4, 32).matrix(), matrix)
    monkeypatch.setattr(rounding, "SHARES", (1.0,))
    assert searched < 0.97 * distance(rounding.round_blocks(matrix, 4, 32).matrix(), matrix)


def test_feedback_makes_up_for_what_rounding_loses() -> None:
    """Inputs that go together, as those of a trained layer do."""
    inputs = normal(4000, 40) @ normal(40, 96) + 0.1 * normal(4000, 96)
    matrix = normal(96, 50)
    wanted = inputs @ matrix
    plain = distance(inputs @ rounding.round_blocks(matrix, 4, 32).matrix(), wanted)
    moments = (inputs.T @ inputs / len(inputs)).astype(np.float64)
    feedback = distance(inputs @ rounding.round_with_feedback(matrix, 4, 32, moments).matrix(), wanted)
    assert feedback < 0.6 * plain
