"""Real-time recurrent learning: how every state changes with every parameter, carried forward beside the states.

Where an entry of a state depends on no other entry of the past, its derivative by a parameter is one number an entry of
both, whatever came before: the trace J of a state s by a parameter w obeys J' = ds'/ds J + ds'/dw (Williams and Zipser
1989; for such recurrences Mozer 1989).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import Apply, DType, Expr, Leaf, Reduce
from seqc.ir.recurrence import Parameter, Recurrence, State
from seqc.ir.text import format_expr
from seqc.ir.traverse import children, depends_on, leaves, substitute, walk
from seqc.passes.derive import NotDifferentiable, gradient
from seqc.passes.groups import inlined
from seqc.passes.jacobian import entrywise, is_entrywise


class NotElementwise(Exception):
    """A recurrence whose traces would be larger than an entry of a state by an entry of a parameter."""


@dataclass(frozen=True, slots=True)
class Trace:
    """How `state` changes with `parameter`: `own`, a state itself, over the axes of the state and then of the other."""

    state: State
    parameter: Parameter
    own: State


def with_traces(recurrence: Recurrence) -> tuple[Recurrence, tuple[Trace, ...]]:
    """The recurrence with its traces as further states; its updates are over the values before the token only."""
    if recurrence.stores:
        raise NotElementwise(f"`{recurrence.stores[0].name}` grows with every token")
    states, updates = recurrence.states, inlined(recurrence.states, recurrence.updates_by_name)
    for state, update in zip(states, updates, strict=True):
        if not is_entrywise([update], [other.leaf for other in states]):
            raise NotElementwise(
                f"an entry of `{state.name}'` depends on others than its own before the token"
            )
    slopes = {
        (state.name, other.name): slope
        for state, update in zip(states, updates, strict=True)
        for other in states
        if (slope := entrywise(update, other.leaf)) is not ZERO
    }
    traces: list[Trace] = []
    changes: list[Expr] = []
    for parameter in recurrence.parameters:
        found = _traces_of(parameter, recurrence, updates, slopes)
        traces += found
        changes += _changes(found, updates, recurrence, slopes)
    augmented = replace(
        recurrence,
        states=(*states, *(trace.own for trace in traces)),
        updates=(*updates, *changes),
    )
    return augmented, tuple(traces)


def _traces_of(
    parameter: Parameter,
    recurrence: Recurrence,
    updates: Sequence[Expr],
    slopes: Mapping[tuple[str, str], Expr],
) -> list[Trace]:
    """A trace for every state that a parameter reaches, at its start, in its update or through another state."""
    pairs = list(zip(recurrence.states, updates, strict=True))
    reached = {state.name for state, update in pairs if parameter.leaf in leaves([update, state.initial])}
    while more := {to for to, of in slopes if of in reached} - reached:
        reached |= more
    found: list[Trace] = []
    for state, _ in pairs:
        if state.name in reached:
            axes = (*state.axes, *(axis for axis in parameter.axes if axis not in state.axes))
            initial = _derivative(state.initial, state, parameter)
            found.append(Trace(state, parameter, State(f"{state.name}/{parameter.name}", axes, initial)))
    return found


def _changes(
    traces: Iterable[Trace],
    updates: Sequence[Expr],
    recurrence: Recurrence,
    slopes: Mapping[tuple[str, str], Expr],
) -> list[Expr]:
    """What each of a parameter's traces is after the token."""
    own = {trace.state.name: trace for trace in traces}
    written = dict(zip((state.name for state in recurrence.states), updates, strict=True))
    changes: list[Expr] = []
    for name, trace in own.items():
        terms = [_derivative(written[name], trace.state, trace.parameter)]
        for other, source in own.items():
            if (name, other) not in slopes:
                continue
            if shared := set(trace.parameter.axes) & set(trace.state.axes) - set(source.state.axes):
                raise NotElementwise(
                    f"every entry of `{name}` along `{min(shared)}` depends on all of `{trace.parameter.name}`"
                )
            terms.append(build.mul(slopes[name, other], source.own.leaf))
        changes.append(build.total(term for term in terms if term is not ZERO))
    return changes


def _derivative(value: Expr, state: State, parameter: Parameter) -> Expr:
    """The derivative of each entry of a state's new value by each entry of a parameter, the past being given.

    The parameter is taken to be one for each entry of the state, so that the gradient of the sum is that of each entry.
    """
    if parameter.leaf not in leaves([value]):
        return ZERO
    axes = (*parameter.axes, *(axis for axis in state.axes if axis not in parameter.axes))
    apart = Leaf(parameter.leaf.kind, f"{parameter.name}/{state.name}", axes, DType.REAL)
    (spread,) = substitute([value], {parameter.leaf: apart})
    dependent = depends_on([spread], [apart])
    for node in walk([spread]):
        if node in dependent and children(node) and not _keeps_apart(node, state.axes):
            raise NotElementwise(
                f"`{format_expr(node)}` mixes entries of `{state.name}` in `{parameter.name}`"
            )
    try:
        (found,) = gradient(spread, [apart])
    except NotDifferentiable as error:
        raise NotElementwise(f"`{format_expr(error.node)}` has no derivative") from error
    return substitute([found], {apart: parameter.leaf})[0]


def _keeps_apart(node: Expr, axes: Sequence[str]) -> bool:
    """Whether an entry of a node depends on entries at the same place along `axes` only."""
    match node:
        case Apply():
            return node.dtype is not DType.COMPLEX
        case Reduce():
            return not set(node.over) & set(axes)
        case _:
            return False
