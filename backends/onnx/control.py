"""Control flow: ONNX's `Scan` and `If` around tensors with named axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from seqc.ir.expr import Axes, DType

from .builder import Builder
from .tensors import BATCH, STORED, TIME, Space, Tensor


class Unsupported(Exception):
    """What this backend cannot express; the text completes the sentence "the ONNX backend cannot …"."""


Body = Callable[[Space, list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]]


def loop(
    space: Space, axis: str, states: Sequence[Tensor], scanned: Sequence[Tensor], body: Body
) -> tuple[list[Tensor], list[Tensor]]:
    """An ONNX `Scan` over `axis`: the states after the last entry, and what `body` returns, stacked along `axis`.

    `body(space, states, entries)` gets the tensors without `axis`; the states that it returns are brought to the axes
    of those that came in.
    """
    scanned = list(scanned) or [space.positions(axis)]
    child = Builder(space.builder)
    inner = space.inside(child)
    states_in = [_body_input(inner, "before", t, t.axes) for t in states]
    entries = [_body_input(inner, "entry", t, tuple(a for a in t.axes if a != axis)) for t in scanned]
    after, results = body(inner, states_in, entries)
    after = [inner.expand(t, s.axes) for t, s in zip(after, states, strict=True)]
    outs: list[Tensor] = []
    for tensor in (*after, *results):
        value = child.result(tensor.value, {t.value for t in outs})
        outs.append(Tensor(value, tensor.axes, tensor.kind))
    places = [int(axis == TIME and BATCH in t.axes) for t in outs[len(states) :]]
    values = space.builder.ops(
        "Scan",
        *(t.value for t in states),
        *(t.value for t in scanned),
        count=len(outs),
        body=child.graph("body", [t.value for t in outs], {}),
        num_scan_inputs=len(scanned),
        scan_input_axes=[t.axes.index(axis) for t in scanned],
        scan_output_axes=places,
    )
    finals = [Tensor(v, t.axes, t.kind) for v, t in zip(values, states, strict=False)]
    stacked = [
        Tensor(v, (*t.axes[:place], axis, *t.axes[place:]), t.kind)
        for v, t, place in zip(values[len(states) :], outs[len(states) :], places, strict=True)
    ]
    return finals, stacked


def _body_input(space: Space, name: str, tensor: Tensor, axes: Axes) -> Tensor:
    shape: list[int | str] = []
    for axis in axes:
        size = space.fixed(axis)
        shape.append(size if size is not None else axis.strip("%"))
    return Tensor(space.builder.input(name, STORED[tensor.kind], shape), axes, tensor.kind)


def any_negative(space: Space, tensor: Tensor) -> Tensor:
    """Whether an entry is below 0."""
    b = space.builder
    lowest = b.op("ReduceMin", tensor.value, keepdims=0)
    return Tensor(b.op("Less", lowest, b.constant(0, "float32")), (), DType.BOOL)


def branch(
    space: Space,
    condition: Tensor,
    then: Callable[[Space], list[Tensor]],
    otherwise: Callable[[Space], list[Tensor]],
) -> list[Tensor]:
    """An ONNX `If` on whether any entry of `condition` holds; both branches give tensors with the same axes."""
    b, flag = space.builder, condition.value
    if condition.axes:
        flag = b.op("Cast", b.op("ReduceMax", space.cast(condition, DType.INT).value, keepdims=0), to=9)
    graphs: list[ir.Graph] = []
    orders: list[tuple[str, ...]] = []
    for make in (otherwise, then):
        child = Builder(b, hoist=False)
        results = make(space.inside(child))
        if not orders:
            orders = [space.ordered(t.axes) for t in results]
        outs = [
            child.op("Identity", space.inside(child).transpose(t, o).value)
            for t, o in zip(results, orders, strict=True)
        ]
        graphs.append(child.graph("branch", outs, {}))
    values = b.ops("If", flag, count=len(orders), else_branch=graphs[0], then_branch=graphs[1])
    return [Tensor(v, o) for v, o in zip(values, orders, strict=True)]
