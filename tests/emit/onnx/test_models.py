"""Whole models: calls, repetitions, convolutions, caches, tied and learned things, and what reads the future."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import seqc

from .running import error, export
from .texts import BOTH_WAYS, HYBRID


def test_a_hybrid_model_with_resets(tmp_path: Path) -> None:
    exported = export(seqc.loads(HYBRID).model().whole, tmp_path)
    inputs = exported.inputs(3, 70)
    reset = np.random.default_rng(1).random((3, 70)) < 0.05
    for mask in (None, reset):
        (wanted,) = exported.expected(inputs, mask)
        assert error(exported.whole(inputs, mask)[0][0], wanted) < 1e-5
        assert error(exported.split(inputs, [1, 2, 50], mask)[0], wanted) < 1e-5
        assert error(exported.steps(inputs, 60, mask)[0], wanted[:, 60:]) < 1e-5


def test_the_manifest_says_what_the_graphs_take(tmp_path: Path) -> None:
    exported = export(seqc.loads(HYBRID).model(layers=1).whole, tmp_path)
    manifest = exported.session.manifest
    assert [x.name for x in manifest.inputs] == ["tokens"]
    assert [x.name for x in manifest.outputs] == ["logits"]
    layouts = {state.name: (state.layout, state.shape) for state in manifest.states}
    assert {layout for layout, _ in layouts.values()} == {"tensor", "window", "cache", "count"}
    for file in ("prefill.onnx", "step.onnx"):
        session = exported.session.graph(file)
        assert [x.name for x in session.get_inputs()] == ["tokens", *(s.input for s in manifest.states)]
        assert {x.name for x in session.get_outputs()} == {"logits", *(s.output for s in manifest.states)}
        assert [x.name for x in session.get_overridable_initializers()] == ["reset"]
    learned = next(state for state in manifest.states if state.name.endswith("mix.h"))
    assert learned.initial == learned.name
    assert exported.session.init_state(2)[learned.name].shape == (2, 8)


def test_a_model_that_reads_the_future_has_one_graph(tmp_path: Path) -> None:
    exported = export(seqc.loads(BOTH_WAYS).model().whole, tmp_path)
    manifest = exported.session.manifest
    assert manifest.step is None
    assert manifest.states == ()
    assert not (tmp_path / "step.onnx").exists()
    for batch, time in ((1, 1), (3, 65)):
        inputs = exported.inputs(batch, time)
        (wanted,) = exported.expected(inputs)
        assert error(exported.whole(inputs)[0][0], wanted[:, -1]) < 1e-5
    with pytest.raises(ValueError, match="reads the future"):
        exported.session.step(exported.inputs(1, 1))
