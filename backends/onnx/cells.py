"""ONNX's `GRU` and `LSTM` operators.

A reset begins a row anew, for which the operators have no input: where a call has one, the graph takes the stage's own
nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from seqc.ir.plan import RESET, Stage
from seqc.passes.cells import Cell

from .control import branch
from .lower import Lowering
from .pairs import Number
from .stages import StageRunner, run_stage
from .tensors import BATCH, TIME, Space, Tensor


def cell_runner(cell: Cell) -> StageRunner:
    def run(token: Lowering, stage: Stage, initial: Sequence[Number]) -> dict[str, Number]:
        before = dict(zip((s.name for s in stage.carried), initial, strict=True))
        given = [token.real(gate.given) for gate in cell.gates]
        weights = [token.real(gate.weight) for gate in cell.gates]
        recalled = None if cell.recalled is None else token.real(cell.recalled)
        (read,) = stage.reads
        reset = token.env[RESET]
        assert isinstance(reset, Tensor)
        axes = cell.states[0].axes

        def slow(space: Space) -> list[Tensor]:
            inner = Lowering(space, token.env)
            finals = run_stage(inner, stage, initial)
            found = [space.expand(inner.real(read.leaf), (BATCH, TIME, *axes))]
            return [*found, *(_plain(space, cell, finals[s.name]) for s in cell.states)]

        def fast(space: Space) -> list[Tensor]:
            states = [_plain(space, cell, before[s.name]) for s in cell.states]
            return _emit(space, cell, given, weights, recalled, states)

        results = branch(token.space, reset, slow, fast) if reset.axes else fast(token.space)
        token.env[read.leaf] = results[0]
        return dict(zip((s.name for s in cell.states), results[1:], strict=True))

    return run


def _plain(space: Space, cell: Cell, value: Number) -> Tensor:
    assert isinstance(value, Tensor)
    return space.expand(value, (BATCH, *cell.states[0].axes))


def _emit(
    space: Space,
    cell: Cell,
    given: Sequence[Tensor],
    weights: Sequence[Tensor],
    recalled: Tensor | None,
    states: Sequence[Tensor],
) -> list[Tensor]:
    """The read at every token, then the states after the last one."""
    b, (axis,) = space.builder, cell.states[0].axes
    width, count = space.guess((axis,)), len(cell.gates)
    inputs = [space.expand(x, (TIME, BATCH, axis)).value for x in given]
    rows = [space.transpose(w, (axis, gate.inner)).value for w, gate in zip(weights, cell.gates, strict=True)]
    flags: dict[str, Any] = {} if recalled is None else {"linear_before_reset": 1}
    results = b.ops(
        cell.op,
        b.op("Concat", *inputs, axis=2),
        b.constant(np.eye(count * width)[None], "float32"),
        b.op("Unsqueeze", b.op("Concat", *rows, axis=0), b.ints(0)),
        None if recalled is None else _biases(space, space.expand(recalled, (axis,)), count),
        None,
        *(b.op("Unsqueeze", state.value, b.ints(0)) for state in states),
        count=1 + len(states),
        hidden_size=width,
        **flags,
    )
    whole = Tensor(b.op("Squeeze", results[0], b.ints(1)), (TIME, BATCH, axis))
    finals = [Tensor(b.op("Squeeze", x, b.ints(0)), (BATCH, axis)) for x in results[1:]]
    return [space.transpose(whole, (BATCH, TIME, axis)), *finals]


def _biases(space: Space, last: Tensor, count: int) -> ir.Value:
    """The biases of the inputs and of the state, gate by gate, of which all but the last are 0."""
    b, (axis,) = space.builder, last.axes
    none = b.constant(np.zeros((2 * count - 1) * space.guess((axis,))), "float32")
    return b.op("Unsqueeze", b.op("Concat", none, last.value, axis=0), b.ints(0))
