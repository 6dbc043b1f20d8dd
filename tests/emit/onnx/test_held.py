"""Held gradients: windows of matrix products, whatever the phase they begin in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import seqc

from .running import Array, Exported, error, export
from .texts import RULES

SPEC = seqc.loads(RULES)
PERIODS = {"titans": 16, "held": 5}


@pytest.fixture(params=PERIODS, scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    name = str(request.param)
    return export(SPEC.rule(name, n=8, m=6).recurrence, tmp_path_factory.mktemp(name))


def period(exported: Exported) -> int:
    return PERIODS[exported.session.manifest.name]


def check(exported: Exported, found: list[Array], wanted: list[Array]) -> None:
    for x, y in zip(found, wanted, strict=True):
        assert error(x, y) < 1e-5


def scanned(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "Scan"]


def test_a_window_is_matrix_products(exported: Exported) -> None:
    (lowering,) = exported.session.manifest.lowerings
    assert f"windows of {period(exported)} tokens" in lowering.prefill
    (scan,) = scanned(onnx.load(exported.session.folder / "prefill.onnx").graph)
    (body,) = (a.g for a in scan.attribute if a.name == "body")
    assert sum(node.op_type == "MatMul" for node in body.node) >= 3


def test_every_phase_and_length(exported: Exported) -> None:
    """A first call leaves the rows in the midst of a window; the second one ends it, or does not even do that."""
    size = period(exported)
    inputs = exported.inputs(2, 2 * size + 3)
    wanted = exported.expected(inputs)
    for first in range(1, size + 2):
        check(exported, exported.split(inputs, [first]), wanted)
        check(exported, exported.split(inputs, [first, first + 1, first + size]), wanted)


@pytest.mark.parametrize("chance", [0.02, 0.3, 1.0])
def test_rows_are_reset_at_different_times(exported: Exported, chance: float) -> None:
    inputs = exported.inputs(4, 70)
    reset = np.random.default_rng(3).random((4, 70)) < chance
    reset[0], reset[1, 0] = False, True
    wanted = exported.expected(inputs, reset)
    check(exported, exported.whole(inputs, reset)[0], wanted)
    check(exported, exported.split(inputs, [1, 17, 33], reset), wanted)
    check(exported, exported.steps(inputs, 60, reset), [x[:, 60:] for x in wanted])


def test_the_state_is_that_of_single_steps(exported: Exported) -> None:
    inputs = exported.inputs(2, period(exported) + 2)
    _, after = exported.whole(inputs)
    state = None
    for t in range(period(exported) + 2):
        _, state = exported.session.step({name: x[:, t] for name, x in inputs.items()}, state)
    assert state is not None
    for name, value in after.items():
        assert error(value, state[name]) < 1e-5, name


def test_heads_have_their_own_windows(tmp_path: Path) -> None:
    axes = {"q": "h n", "k": "h n", "v": "h m", "small": "h", "g": "h"}
    handle = SPEC.rule("titans", n=8, m=6, h=3)
    exported = export(handle.mapped(axes), tmp_path)
    inputs = exported.inputs(2, 37)
    check(exported, exported.split(inputs, [5]), exported.expected(inputs))
