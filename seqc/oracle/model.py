"""Blocks and models: every operation on whole sequences, each recurrence in it one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqc.ir.expr import Conv, Expr, Invoke, Item
from seqc.ir.paths import Instance, callees, count_name, join, window_name
from seqc.ir.program import Function, Repeat
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import walk
from seqc.oracle.evaluate import Frame, Order, align, order, spread, value_of
from seqc.oracle.primitives import REAL
from seqc.oracle.recurrence import States, Token, prepare, run, spread_input

Watch = Callable[[Instance, int | None, Order, Mapping[Expr, Tensor]], None]


@dataclass(slots=True)
class Run:
    """One evaluation of a program: what every instance in it shares.

    `prepared` keeps the order of evaluation of each distinct recurrence and function, `after` collects the
    states.
    """

    parameters: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    reset: Tensor | None
    shape: tuple[int, int]
    watch: Watch | None = None
    lets: bool = False
    after: States = field(default_factory=dict[str, Tensor])
    tokens: dict[Recurrence, Token] = field(default_factory=dict[Recurrence, Token])
    orders: dict[Function, Order] = field(default_factory=dict[Function, Order])


def run_instance(
    program: Run, instance: Instance, args: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """Apply an instance to inputs `[batch, time, …]`; `given` are the parameters that its caller computed."""
    owner = instance.owner
    if isinstance(owner, Recurrence):
        return _run_recurrence(program, instance, owner, args, given)
    return _run_function(program, instance, owner, args, given)


def _parameters(program: Run, instance: Instance, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = {parameter.name: program.parameters[name] for name, parameter in instance.parameters()}
    return {**own, **given}


def _run_recurrence(
    program: Run,
    instance: Instance,
    owner: Recurrence,
    args: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
) -> tuple[Tensor, ...]:
    token = program.tokens.get(owner)
    if token is None:
        token = program.tokens[owner] = prepare(owner, program.lets)
    names = [state.name for state in owner.states]
    names += [name for store in owner.stores for name in (store.name, count_name(store))]
    state = {
        name: program.state[full] for name in names if (full := join(instance.path, name)) in program.state
    }
    parameters = _parameters(program, instance, {name: x[:, 0] for name, x in given.items()})
    watch = program.watch

    def watch_token(t: int, what: Order, values: Mapping[Expr, Tensor]) -> None:
        assert watch is not None
        watch(instance, t, what, values)

    outputs, after = run(
        token, args, parameters, state, program.reset, program.shape, None if watch is None else watch_token
    )
    program.after.update({join(instance.path, name): value for name, value in after.items()})
    return outputs


def _run_function(
    program: Run, instance: Instance, owner: Function, args: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    what = program.orders.get(owner)
    if what is None:
        what = program.orders[owner] = order([*owner.outputs, *_lets(owner, program.lets)])
    values: dict[Expr, Tensor] = {
        leaf: spread_input(args[leaf.name], leaf, owner.sizes, program.shape) for leaf in owner.inputs
    }
    parameters = _parameters(program, instance, given)
    for parameter in owner.parameters:
        x = parameters[parameter.name].to(REAL)
        values[parameter.leaf] = x[None, None] if x.ndim == len(parameter.axes) else x
    frame = Frame(program.shape, owner.sizes, values)
    results: dict[Expr, tuple[Tensor, ...]] = {}
    for node in what.nodes:
        if isinstance(node, Invoke):
            results[node] = _call(program, instance, node, values)
        elif isinstance(node, Item):
            values[node] = results[node.call][node.index]
        elif isinstance(node, Conv):
            values[node] = _convolve(program, instance, node, values, frame)
        elif node not in values:
            values[node] = value_of(node, what, values, frame)
    if program.watch is not None:
        program.watch(instance, None, what, values)
    return tuple(
        spread(values[out], out.axes, axes, frame, program.shape)
        for out, axes in zip(owner.outputs, owner.returns, strict=True)
    )


def _lets(owner: Function, wanted: bool) -> list[Expr]:
    """The names of a block, less those that call what the outputs do not need: such a call has no parameters."""
    reached = {node for node in walk(owner.outputs) if isinstance(node, Invoke | Conv)}
    return [
        value
        for _, value in owner.bindings
        if wanted and all(node in reached for node in walk([value]) if isinstance(node, Invoke | Conv))
    ]


def _call(
    program: Run, instance: Instance, node: Invoke, values: Mapping[Expr, Tensor]
) -> tuple[Tensor, ...]:
    callee: Recurrence | Function | Repeat = node.callee
    frame = Frame(program.shape, callee_sizes(callee), {})
    given = _given(node, values, frame)
    args = [
        align(values[arg], arg.axes, leaf.axes, frame)
        for arg, leaf in zip(node.args, callee.inputs, strict=True)
    ]
    results: tuple[Tensor, ...] = ()
    for inner in callees(node, instance.path, instance.parameter_path):
        named = {leaf.name: x for leaf, x in zip(inner.owner.inputs, args, strict=True)}
        results = run_instance(program, inner, named, given)
        args = [*results, *args[len(results) :]]
    return results


def callee_sizes(callee: Recurrence | Function | Repeat) -> Mapping[str, int]:
    return callee.bodies[0].sizes if isinstance(callee, Repeat) else callee.sizes


def _given(node: Invoke, values: Mapping[Expr, Tensor], frame: Frame) -> dict[str, Tensor]:
    """The parameters that a call passes in, `[1, 1, *axes]` with the axes as the callee declares them."""
    callee: Recurrence | Function | Repeat = node.callee
    owner = callee.bodies[0] if isinstance(callee, Repeat) else callee
    axes = {parameter.name: parameter.axes for parameter in owner.parameters}
    return {name: spread(values[value], value.axes, axes[name], frame) for name, value in node.given}


# --- Convolution --------------------------------------------------------------------------------------------


def _convolve(
    program: Run, instance: Instance, node: Conv, values: Mapping[Expr, Tensor], frame: Frame
) -> Tensor:
    """The sum over the taps; an input from before the last reset is 0."""
    batch, time = program.shape
    width = frame.size(node.taps)
    x = spread(values[node.arg], node.arg.axes, node.arg.axes, frame, program.shape)
    name = join(instance.path, window_name(node))
    window = program.state.get(name, x.new_zeros(batch, width - 1, *x.shape[2:]))
    padded = torch.cat([window.to(x.dtype), x], 1)
    start = _document_starts(program.reset, batch, time, width)
    weight = values[node.weight]
    total = x.new_zeros(())
    for tap in range(width):
        positions = torch.arange(time) + tap - (width - 1)
        seen = _as_mask(positions >= start[:, :time], x)
        taken = torch.where(seen, padded[:, tap : tap + time], torch.zeros_like(x))
        here = weight.select(2 + node.weight.axes.index(node.taps), tap)
        axes = tuple(axis for axis in node.weight.axes if axis != node.taps)
        total = total + align(taken, node.arg.axes, node.axes, frame) * align(here, axes, node.axes, frame)
    kept = _as_mask(torch.arange(time - width + 1, time) >= start[:, time:], x)
    last = padded[:, time:]
    program.after[name] = torch.where(kept, last, torch.zeros_like(last))
    if node.bias is not None:
        total = total + align(values[node.bias], node.bias.axes, node.axes, frame)
    return total


def _document_starts(reset: Tensor | None, batch: int, time: int, width: int) -> Tensor:
    """For every token, and once more for the end, where its document began; before all of this when not here."""
    start = torch.full((batch, time + 1), -width)
    for t in range(time):
        before = start[:, t - 1] if t else start[:, 0]
        start[:, t] = before if reset is None else torch.where(reset[:, t], t, before)
    start[:, time] = start[:, time - 1] if time else -width
    return start


def _as_mask(seen: Tensor, x: Tensor) -> Tensor:
    return seen.reshape(*seen.shape, *(1,) * (x.ndim - 2))
