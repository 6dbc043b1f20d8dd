"""ONNX's own cells: used where an update is theirs, whatever its parts are called, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import seqc

from .running import error, export

CELLS = """
rule after(r[d], z[d], n[d]) {
    state  h[d] = 0.5
    let    keep = sigmoid(linear(h) -> [d] + z)
    let    recalled[d] = linear(h, bias = true)
    h'     = h * keep + (1 - keep) * tanh(sigmoid(r + linear(h) -> [d]) * recalled + n)
    return h'
}

rule before(r[d], z[d], n[d]) {
    state  h[d] = 0
    let    keep = sigmoid(z + linear(h) -> [d])
    let    recalled[d] = linear(sigmoid(r + linear(h) -> [d]) * h)
    h'     = h + (1 - keep) * (tanh(n + recalled) - h)
    return h'
}

rule long_short(a[d], b[d], e[d], g[d]) {
    state  inside[d] = 0
    state  shown[d] = 0
    let    kept = sigmoid(a + linear(shown) -> [d])
    inside' = sigmoid(b + linear(shown) -> [d]) * tanh(linear(shown) -> [d] + e) + kept * inside
    shown'  = sigmoid(linear(shown) -> [d] + g) * tanh(inside')
    return shown'
}
"""
OTHERS = """
rule exchanged(r[d], z[d], n[d]) {
    state  h[d] = 0
    let    keep = sigmoid(z + linear(h) -> [d])
    let    recalled[d] = linear(h, bias = true)
    h'     = keep * h + keep * tanh(n + sigmoid(r + linear(h) -> [d]) * recalled)
    return h'
}

rule reads_the_past(r[d], z[d], n[d]) {
    state  h[d] = 0
    let    keep = sigmoid(z + linear(h) -> [d])
    let    recalled[d] = linear(h, bias = true)
    h'     = keep * h + (1 - keep) * tanh(n + sigmoid(r + linear(h) -> [d]) * recalled)
    return h
}

rule peephole(a[d], b[d], e[d], g[d]) {
    param  p[d] = normal(0, 1)
    state  c[d] = 0
    state  h[d] = 0
    c'     = sigmoid(a + linear(h) -> [d] + p * c) * c + sigmoid(b + linear(h) -> [d]) * tanh(linear(h) -> [d] + e)
    h'     = sigmoid(linear(h) -> [d] + g) * tanh(c')
    return h'
}

rule diagonal(r[d], z[d], n[d]) {
    param  p[d] = normal(0, 1)
    state  h[d] = 0
    let    keep = sigmoid(z + p * h)
    h'     = keep * h + (1 - keep) * tanh(n + sigmoid(r + p * h) * p * h)
    return h'
}
"""
OPERATORS = {"after": "GRU", "before": "GRU", "long_short": "LSTM"}
SPEC = seqc.loads(CELLS + OTHERS)


def operators(path: Path) -> set[str]:
    stack, found = list(onnx.load(path).graph.node), set[str]()
    while stack:
        node = stack.pop()
        found.add(node.op_type)
        stack.extend(n for a in node.attribute if a.type == onnx.AttributeProto.GRAPH for n in a.g.node)
    return found & {"GRU", "LSTM"}


@pytest.mark.parametrize("name", SPEC.rules)
def test_structure_decides(tmp_path: Path, name: str) -> None:
    exported = export(SPEC.rule(name, d=5).recurrence, tmp_path)
    wanted = {OPERATORS[name]} if name in OPERATORS else set[str]()
    assert operators(tmp_path / "prefill.onnx") == wanted
    (lowering,) = exported.session.manifest.lowerings
    assert lowering.native == (f"ai.onnx.{OPERATORS[name]}" if name in OPERATORS else None)
    inputs = exported.inputs(3, 40)
    for reset in (None, np.random.default_rng(1).random((3, 40)) < 0.1):
        (found,), (expected,) = exported.whole(inputs, reset)[0], exported.expected(inputs, reset)
        assert error(found, expected) < 1e-5
        assert error(exported.split(inputs, [1, 17], reset)[0], expected) < 1e-5
        assert error(exported.steps(inputs, 30, reset)[0], expected[:, 30:]) < 1e-5


def test_a_wide_cell_stays_a_loop(tmp_path: Path) -> None:
    export(SPEC.rule("after", d=160).recurrence, tmp_path)
    assert operators(tmp_path / "prefill.onnx") == set()
