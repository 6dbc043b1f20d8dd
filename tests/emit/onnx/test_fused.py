"""What the profiles write as one node: norms, activations, and gates by their logarithms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import seqc

from .running import error, export

NORMS = """
block norms(x[d]; d, h, n = d / h) {
    let u[h, n] = linear(rms_norm(x))
    let v[h, n] = head_norm[h, n](u) + joint_norm[h, n](u) + unit_rms[n](u)
    let w[h, n] = layer_norm[n](v) + head_layer_norm[h, n](u + 10)
    return 0.5 * l2_norm[n](v) + scaled[n](l2_norm[n](u)) + w
}
"""
OTHERS = """
block others(x[d], y[d]; d) {
    let of_another = x / sqrt(mean[d](y * y) + 0.1)
    let without_root = x / (mean[d](x * x) + 0.1)
    let negative = x / sqrt(2 - 0.01 * mean[d](x * x))
    return of_another + without_root + negative
}
"""
GATES = """
rule gated(q[n], k[n], v[m], a) {
    state  S[m, n] = 0
    S'     = a * S + v * k
    return sum[n](S' * q)
}

block inner(q[n], k[n], v[m], a) {
    return gated(q, k, v, a)
}

block exponential(q[h, n], k[h, n], v[h, m], x[h]; h, n, m) {
    return inner(q, k, v, exp(-x * x) * sigmoid(x))
}

block complement(q[h, n], k[h, n], v[h, m], x[h]; h, n, m) {
    return gated(q, k, v, (1 - sigmoid(x))^0.5)
}

block chosen(q[h, n], k[h, n], v[h, m], x[h]; h, n, m) {
    return gated(q, k, v, where(x > 0, exp(-x), 0.5))
}

block number(q[h, n], k[h, n], v[h, m], x[h]; h, n, m) {
    return gated(q, k, v, tanh(x))
}
"""
SIZES = {"h": 3, "n": 5, "m": 7}


def operators(path: Path) -> Iterator[str]:
    return (node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("profile", ["portable", "ort", "opset27"])
def test_norms_are_one_node_each(tmp_path: Path, profile: str) -> None:
    exported = export(seqc.loads(NORMS).block("norms", d=21, h=3).whole, tmp_path, profile=profile)
    inputs = exported.inputs(2, 5)
    inputs["x"][0, 1] = 0
    assert error(exported.whole(inputs)[0][0], exported.expected(inputs)[0]) < 1e-5
    found = list(operators(tmp_path / "prefill.onnx"))
    plain = profile == "portable"
    assert found.count("RMSNormalization") == (0 if plain else 5)
    assert found.count("LayerNormalization") == (0 if plain else 2)
    assert ("Sqrt" in found) == (profile == "portable")


def test_other_quotients_are_no_norms(tmp_path: Path) -> None:
    exported = export(seqc.loads(OTHERS).block("others", d=5).whole, tmp_path, profile="ort")
    inputs = exported.inputs(2, 5)
    assert error(exported.whole(inputs)[0][0], exported.expected(inputs)[0]) < 1e-5
    assert "RMSNormalization" not in operators(tmp_path / "prefill.onnx")


@pytest.mark.parametrize("profile", ["portable", "ort"])
@pytest.mark.parametrize("name", ["exponential", "complement", "chosen", "number"])
def test_gates_come_as_their_logarithms(tmp_path: Path, name: str, profile: str) -> None:
    exported = export(seqc.loads(GATES).block(name, **SIZES).whole, tmp_path, profile=profile)
    inputs = exported.inputs(2, 70)
    inputs["x"] *= 4
    reset = np.random.default_rng(3).random((2, 70)) < 0.05
    for mask in (None, reset):
        (wanted,) = exported.expected(inputs, mask)
        assert error(exported.whole(inputs, mask)[0][0], wanted) < 1e-5
        assert error(exported.steps(inputs, 66, mask)[0], wanted[:, 66:]) < 1e-5
    signs = "ReduceMin" in operators(tmp_path / "prefill.onnx") or "If" in operators(tmp_path / "step.onnx")
    assert not signs or name == "number"


def test_an_activation_belongs_to_the_convolution_before_it(tmp_path: Path) -> None:
    text = "block conv(x[h, n]; h, n) { return sum[n](silu(causal_conv(x, width = 3))) }"
    exported = export(seqc.loads(text).block("conv", h=3, n=5).whole, tmp_path, profile="ort")
    inputs = exported.inputs(2, 9)
    assert error(exported.steps(inputs, 4)[0], exported.expected(inputs)[0][:, 4:]) < 1e-5
    found = list(operators(tmp_path / "step.onnx"))
    assert "CausalConvWithState" in found
    assert not {"QuickGelu", "Sigmoid"} & set(found)


def test_axes_of_one_entry_cost_nothing(tmp_path: Path) -> None:
    counts: list[int] = []
    for groups in (1, 2):
        axes = {"q": "h n", "k": "h n", "v": "h g m", "a": "h g"}
        rule = seqc.loads(GATES).rule("gated", n=5, m=7, h=3, g=groups).mapped(axes)
        (tmp_path / str(groups)).mkdir()
        exported = export(rule, tmp_path / str(groups), profile="ort")
        inputs = exported.inputs(2, 9)
        assert error(exported.steps(inputs, 4)[0], exported.expected(inputs)[0][:, 4:]) < 1e-5
        counts.append(len(list(operators(tmp_path / str(groups) / "step.onnx"))))
    assert counts[0] <= counts[1]
