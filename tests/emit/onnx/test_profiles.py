"""Operators for whole recurrences, used where the structure is theirs and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import seqc

from .parts import find_native
from .running import Array, error, export
from .texts import HYBRID, RULES, SIZES

OTHERS = """
rule by_equations(q[n], k[n], v[m], g, beta) {
    state S[n, m] = 0
    let   R = exp(-g) * S
    S'    = R + beta * k * (v - sum[n](R * k))
    return 0.125 * sum[n](S' * q)
}

rule normalised(q[n], k[n], v[m]) {
    state S[m, n] = 0
    state z[n] = 0
    S'    = S + k * v
    z'    = z + k
    return sum[n](S' * q) / (1 + abs(sum[n](z' * q)))
}

rule reads_before(q[n], k[n], v[m]) {
    state S[m, n] = 0
    S'    = S + k * v
    return sum[n](S * q)
}

rule two_keys(q[n], k[n], p[n], v[m]) {
    state S[m, n] = 0
    S'    = S - sum[n](S * p) * k + k * v
    return sum[n](S' * q)
}

rule gate_of_values(q[n], k[n], v[m], f[m]) {
    state S[m, n] = 1
    S'    = f * S + k * v
    return sum[n](S' * q)
}
"""

SPEC = seqc.loads(RULES + OTHERS)
COVERED = {
    "retnet": "gated",
    "gla": "gated",
    "gated_delta": "gated_delta",
    "kda": "gated_delta",
    "by_equations": "gated_delta",
    "normalised": "linear",
    "mlstm": "gated",
}


def recurrence(name: str) -> seqc.ir.recurrence.Recurrence:
    sizes = {axis: SIZES[axis] for axis in SPEC.checked.default_sizes(name) if axis in SIZES}
    return SPEC.rule(name, **sizes).recurrence


def operators(path: Path) -> Iterator[str]:
    stack = list(onnx.load(path).graph.node)
    while stack:
        node = stack.pop()
        yield node.op_type
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                stack.extend(attribute.g.node)


@pytest.mark.parametrize("name", SPEC.rules)
def test_structure_decides(name: str) -> None:
    found = [native.rule for native in find_native(recurrence(name)).values()]
    assert found == ([COVERED[name]] if name in COVERED else [])


@pytest.mark.parametrize("name", sorted(COVERED))
def test_the_operator_of_the_runtime(tmp_path: Path, name: str) -> None:
    exported = export(recurrence(name), tmp_path, profile="ort")
    assert "LinearAttention" in operators(tmp_path / "prefill.onnx")
    (lowering,) = exported.session.manifest.lowerings
    assert lowering.native == f"com.microsoft.LinearAttention({COVERED[name]})"
    inputs = exported.inputs(2, 70)
    reset = np.random.default_rng(3).random((2, 70)) < 0.05
    for mask in (None, reset):
        (wanted,) = exported.expected(inputs, mask)
        assert error(exported.whole(inputs, mask)[0][0], wanted) < 1e-5
        assert error(exported.split(inputs, [1, 30], mask)[0], wanted) < 1e-5
        assert error(exported.steps(inputs, 60, mask)[0], wanted[:, 60:]) < 1e-5


def gates_of_either_sign(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(-1, 1, shape)


def gates_of_nothing(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.choice([0.0, 1.0, 1e-38], size=shape)


@pytest.mark.parametrize("draw", [gates_of_either_sign, gates_of_nothing])
@pytest.mark.parametrize("name", ["gated_delta", "gla"])
def test_gates_that_have_no_logarithm(tmp_path: Path, name: str, draw: object) -> None:
    exported = export(recurrence(name), tmp_path, profile="ort")
    inputs = exported.inputs(2, 70, {"g": draw})  # type: ignore[dict-item]  # one of the two above
    (wanted,) = exported.expected(inputs)
    assert error(exported.whole(inputs)[0][0], wanted) < 1e-5
    assert error(exported.steps(inputs, 66)[0], wanted[:, 66:]) < 1e-5


def test_grouped_queries(tmp_path: Path) -> None:
    axes = {"q": "kv h n", "k": "kv n", "v": "kv m", "g": "kv", "beta": "kv"}
    exported = export(SPEC.rule("gated_delta", n=8, m=6, kv=2, h=3).mapped(axes), tmp_path, profile="ort")
    (state,) = exported.session.manifest.states
    assert (state.axes, state.shape) == (("batch", "kv", "n", "m"), ("batch", 2, 8, 6))
    inputs = exported.inputs(2, 66)
    assert error(exported.whole(inputs)[0][0], exported.expected(inputs)[0]) < 1e-5


SHARED = {
    "keys and queries": ({"q": "kv n", "k": "kv n", "v": "kv h m", "g": "kv h", "beta": "kv h"}, 2),
    "keys": ({"q": "kv h n", "k": "kv n", "v": "kv h m", "g": "kv h", "beta": "kv h"}, 6),
    "over the first heads": ({"q": "h n", "k": "h n", "v": "kv h m", "g": "kv h", "beta": "kv"}, 3),
}


@pytest.mark.parametrize(("axes", "heads"), SHARED.values(), ids=list(SHARED))
def test_heads_of_values_that_share_keys(tmp_path: Path, axes: dict[str, str], heads: int) -> None:
    exported = export(SPEC.rule("gated_delta", n=8, m=6, kv=2, h=3).mapped(axes), tmp_path, profile="ort")
    (state,) = exported.session.manifest.states
    assert sorted(state.axes[1].split()) == ["h", "kv"]
    assert state.shape == ("batch", 6, 8, 6)
    inputs = exported.inputs(2, 19)
    (wanted,) = exported.expected(inputs)
    assert error(exported.whole(inputs)[0][0], wanted) < 1e-5
    assert error(exported.steps(inputs, 11)[0], wanted[:, 11:]) < 1e-5
    (node,) = (n for n in onnx.load(tmp_path / "prefill.onnx").graph.node if n.op_type == "If")
    (branch,) = (a.g for a in node.attribute if a.name == "else_branch")
    (operator,) = (n for n in branch.node if n.op_type == "LinearAttention")
    assert heads == next(a.i for a in operator.attribute if a.name == "q_num_heads")


def test_a_model_uses_the_convolution_of_the_runtime_for_a_token(tmp_path: Path) -> None:
    exported = export(seqc.loads(HYBRID).model(layers=1).whole, tmp_path, profile="ort")
    assert "CausalConvWithState" in operators(tmp_path / "step.onnx")
    assert "CausalConvWithState" not in operators(tmp_path / "prefill.onnx")
    inputs = exported.inputs(2, 20)
    assert error(exported.steps(inputs, 3)[0], exported.expected(inputs)[0][:, 3:]) < 1e-5


@pytest.mark.parametrize("name", ["gated_delta", "gla", "normalised"])
def test_the_standard_operator(tmp_path: Path, name: str) -> None:
    exported = export(recurrence(name), tmp_path, profile="opset27")
    model = onnx.load(tmp_path / "prefill.onnx")
    assert {x.domain: x.version for x in model.opset_import} == {"": 27}
    assert "LinearAttention" in operators(tmp_path / "prefill.onnx")
    inputs = exported.inputs(2, 20)
    (wanted,) = exported.expected(inputs)
    assert error(exported.whole(inputs)[0][0], wanted) < 1e-5
    assert error(exported.steps(inputs, 11)[0], wanted[:, 11:]) < 1e-5


def test_conformance_examines_every_profile_with_an_operator() -> None:
    wanted = {
        "gated_delta": {"portable", "ort", "opset27"},
        "ema": {"portable"},
        "hybrid": {"portable", "ort", "opset27"},
    }
    spec = seqc.loads(RULES + HYBRID)
    for name, profiles in wanted.items():
        report = seqc.conform(spec, ["onnx"], [name], only=["values", "steps", "gates"])
        assert {outcome.mode for outcome in report.outcomes} == profiles
        assert report.passed, report.failures


def test_loading_leaves_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLOW_RELEASED_ONNX_OPSET_ONLY", raising=False)
    export(recurrence("gla"), tmp_path, profile="opset27").session.graph("prefill.onnx")
    assert "ALLOW_RELEASED_ONNX_OPSET_ONLY" not in os.environ
    monkeypatch.setenv("ALLOW_RELEASED_ONNX_OPSET_ONLY", "1")
    with pytest.raises(ValueError, match="cannot load"):
        export(recurrence("gla"), tmp_path, profile="opset27").session.graph("prefill.onnx")
