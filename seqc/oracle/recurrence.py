"""A recurrence, one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seqc.ir.expr import Axes, DType, Expr, Leaf, LeafKind
from seqc.ir.paths import count_name
from seqc.ir.recurrence import Recurrence, Store
from seqc.oracle.evaluate import Frame, Growing, Order, evaluate, order, spread
from seqc.oracle.primitives import COMPLEX, REAL

States = dict[str, Tensor]
Watch = Callable[[int, Order, Mapping[Expr, Tensor]], None]


@dataclass(frozen=True, slots=True)
class Token:
    """The orders of evaluation of one recurrence: its initial states, what it stores, one token's whole work."""

    recurrence: Recurrence
    initial: Order
    entries: Order
    work: Order


def prepare(recurrence: Recurrence, lets: bool = False) -> Token:
    """Find the order in which one token's work is done; an update that needs itself is an error.

    With `lets`, whatever has a name is evaluated, also where nothing else needs it as a value of its own.
    """
    definitions: dict[Expr, Expr] = {
        state.next: update for state, update in zip(recurrence.states, recurrence.updates, strict=True)
    }
    roots = [*recurrence.updates, *(store.value for store in recurrence.stores), *recurrence.outputs]
    roots += [state.next for state in recurrence.states]
    roots += [expr for _, expr in recurrence.names if lets]
    initial = order([state.initial for state in recurrence.states])
    entries = order([store.value for store in recurrence.stores], definitions)
    work = order(roots, definitions, [store.axis for store in recurrence.stores])
    return Token(recurrence, initial, entries, work)


def run(
    token: Token,
    inputs: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    reset: Tensor | None,
    shape: tuple[int, int],
    watch: Watch | None = None,
) -> tuple[tuple[Tensor, ...], States]:
    """All tokens of a batch; `state` may be empty.  `watch` is shown the values of every node at every token."""
    batch, time = shape
    recurrence = token.recurrence
    known = parameter_leaves(recurrence, parameters)
    initial = initial_states(token, known, batch)
    states: States = {**initial, **{name: state[name] for name in initial if name in state}}
    full = {
        leaf: spread_input(inputs[leaf.name], leaf, recurrence.sizes, shape) for leaf in recurrence.inputs
    }
    outputs: list[tuple[Tensor, ...]] = []
    for t in range(time):
        if reset is not None:
            states = {name: _reset(value, initial[name], reset[:, t]) for name, value in states.items()}
        here: dict[Expr, Tensor] = {**known, **{leaf: value[:, t] for leaf, value in full.items()}}
        values, states = step(token, here, states, batch)
        if watch is not None:
            watch(t, token.work, values)
        outputs.append(
            tuple(
                spread(values[out], out.axes, axes, Frame((batch,), recurrence.sizes, {}), (batch,))
                for out, axes in zip(recurrence.outputs, recurrence.returns, strict=True)
            )
        )
    return _over_time(recurrence, outputs, batch), states


def step(
    token: Token, known: Mapping[Expr, Tensor], states: Mapping[str, Tensor], batch: int
) -> tuple[dict[Expr, Tensor], States]:
    """One token: the value of every node, and the states that it hands over."""
    recurrence = token.recurrence
    leaves = dict(known)
    leaves.update({state.leaf: states[state.name] for state in recurrence.states})
    frame = Frame((batch,), recurrence.sizes, leaves)
    after: States = {}
    if recurrence.stores:
        leaves, frame, after = _append(token, leaves, states, batch)
    values = evaluate(token.work, frame)
    for state in recurrence.states:
        after[state.name] = spread(values[state.next], state.axes, state.axes, frame, (batch,))
    return values, after


# --- Stores -------------------------------------------------------------------------------------------------


def _append(
    token: Token, leaves: dict[Expr, Tensor], states: Mapping[str, Tensor], batch: int
) -> tuple[dict[Expr, Tensor], Frame, States]:
    """Put this token's entries into the stores, and say which entries each row of the batch sees."""
    recurrence = token.recurrence
    frame = Frame((batch,), recurrence.sizes, leaves)
    values = evaluate(token.entries, frame)
    growing: dict[str, Growing] = {}
    after: States = {}
    for store in recurrence.stores:
        entry = spread(values[store.value], store.value.axes, store.axes, frame, (batch,))
        entries = torch.cat([states[store.name], entry.unsqueeze(1)], 1)
        count = states[count_name(store)] + 1
        after[store.name], after[count_name(store)] = entries, count
        age = torch.arange(entries.shape[1] - 1, -1, -1)
        now = _visible(store, age, count)
        before = now & (age > 0)
        assert store.axis not in growing or torch.equal(growing[store.axis].now, now), (
            "one axis, one set of entries"
        )
        growing[store.axis] = Growing(now, before)
        leaves[store.next] = _blank(entries, now)
        leaves[store.leaf] = _blank(entries, before)
        for leaf in token.work.leaves:
            if leaf.kind is LeafKind.AGE and leaf.axes == (store.axis,):
                leaves[leaf] = age.to(REAL).unsqueeze(0)
    return leaves, Frame((batch,), recurrence.sizes, leaves, growing), after


def _visible(store: Store, age: Tensor, count: Tensor) -> Tensor:
    """Entries since the last reset, of the last `window` tokens or among the first `sinks`: `[batch,
    entries]`.
    """
    position = count[:, None] - 1 - age
    seen = position >= 0
    if store.window is not None:
        seen = seen & ((age < store.window) | (position < store.sinks))
    return seen


def _blank(entries: Tensor, seen: Tensor) -> Tensor:
    return torch.where(
        seen.reshape(*seen.shape, *(1,) * (entries.ndim - 2)), entries, torch.zeros_like(entries)
    )


# --- Leaves and states --------------------------------------------------------------------------------------


def of_kind(x: Tensor, dtype: DType) -> Tensor:
    """A tensor in the width that the oracle computes with."""
    match dtype:
        case DType.REAL:
            return x.to(REAL)
        case DType.COMPLEX:
            return x.to(COMPLEX)
        case DType.INT:
            return x.to(torch.int64)
        case DType.BOOL:
            return x.to(torch.bool)


def parameter_leaves(recurrence: Recurrence, parameters: Mapping[str, Tensor]) -> dict[Expr, Tensor]:
    """Parameters `[*axes]`, or `[1 or batch, *axes]` when a caller computed them, as leaves."""
    leaves: dict[Expr, Tensor] = {}
    for parameter in recurrence.parameters:
        x = parameters[parameter.name].to(REAL)
        leaves[parameter.leaf] = x.unsqueeze(0) if x.ndim == len(parameter.axes) else x
    return leaves


def initial_states(token: Token, known: Mapping[Expr, Tensor], batch: int) -> States:
    """Every state before the first token."""
    recurrence = token.recurrence
    frame = Frame((batch,), recurrence.sizes, known)
    values = evaluate(token.initial, frame)
    states: States = {}
    for state in recurrence.states:
        value = spread(values[state.initial], state.initial.axes, state.axes, frame, (batch,))
        states[state.name] = of_kind(value, state.dtype)
    for store in recurrence.stores:
        shape = (batch, 0, *(recurrence.sizes[axis] for axis in store.axes))
        states[store.name] = of_kind(torch.zeros(shape, dtype=REAL), store.value.dtype)
        states[count_name(store)] = torch.zeros(batch, dtype=torch.int64)
    return states


def _reset(value: Tensor, initial: Tensor, here: Tensor) -> Tensor:
    """The initial value in the rows that are reset.  A store keeps its entries: its count says they are not
    seen.
    """
    if value.shape != initial.shape:
        return value
    return torch.where(here.reshape(-1, *(1,) * (value.ndim - 1)), initial, value)


def spread_input(x: Tensor, leaf: Leaf, sizes: Mapping[str, int], shape: tuple[int, int]) -> Tensor:
    """An input `[batch, time, *leaf.axes]` at its full size."""
    return of_kind(x, leaf.dtype).expand(*shape, *(sizes[axis] for axis in leaf.axes))


def _over_time(recurrence: Recurrence, tokens: list[tuple[Tensor, ...]], batch: int) -> tuple[Tensor, ...]:
    if tokens:
        return tuple(torch.stack(series, 1) for series in zip(*tokens, strict=True))
    return tuple(
        of_kind(torch.zeros(batch, 0, *_lengths(axes, recurrence.sizes), dtype=REAL), out.dtype)
        for out, axes in zip(recurrence.outputs, recurrence.returns, strict=True)
    )


def _lengths(axes: Axes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[axis] for axis in axes)
