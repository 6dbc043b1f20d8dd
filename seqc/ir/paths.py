"""The full names of parameters and states: one place, used by the oracle and by every backend.

A name is the path of the calls that lead to its owner, then its own name, joined by dots:

- a call adds the `name` of its `Invoke`; what is not called (the recurrence, the model) adds nothing;
- a `Repeat` called `layers` adds `layers.0`, `layers.1`, …; when it is shared, its parameters are named under
  `layers` and its states still under `layers.<i>`: this is why an instance has two paths;
- a parameter that the caller passes in (`Invoke.given`) belongs to the caller and has no name below the
  callee.

States, each `[batch, …]`:

| what               | name              | shape after the batch axis                            |
| ------------------ | ----------------- | ----------------------------------------------------- |
| a `State`          | `<path>.<name>`   | its axes                                              |
| a `Conv`           | `<conv>.window`   | width - 1, then the argument's axes; oldest first     |
| a `Store`: entries | `<path>.<name>`   | entries, then its axes; kept as the backend pleases   |
| a `Store`: count   | `<store>.count`   | none; what the row has appended since its last reset  |

Only what the outputs reach has a name: a `let` that nothing uses has neither parameters nor states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from seqc.ir.expr import Axes, Conv, Invoke
from seqc.ir.program import Function, Model, Repeat
from seqc.ir.recurrence import Parameter, Recurrence, State, Store
from seqc.ir.traverse import walk


def join(path: str, name: str) -> str:
    """`name` below `path`; the outermost path is empty."""
    return f"{path}.{name}" if path else name


@dataclass(frozen=True, slots=True)
class Instance:
    """One use of a recurrence or a function, with the prefixes of its states and of its parameters.

    `given` names the parameters that the caller passes in.
    """

    owner: Recurrence | Function
    path: str
    parameter_path: str
    given: frozenset[str] = frozenset()

    def parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The instance's own parameters, by full name."""
        for parameter in self.owner.parameters:
            if parameter.name not in self.given:
                yield join(self.parameter_path, parameter.name), parameter


@dataclass(frozen=True, slots=True)
class NamedParameter:
    """A parameter with its full name and the sizes of its axes, in the order of `parameter.axes`."""

    name: str
    parameter: Parameter
    shape: tuple[int, ...]
    owner: Recurrence | Function


@dataclass(frozen=True, slots=True)
class NamedState:
    """What one token hands to the next, by full name; `axes` and `shape` leave out the batch.

    For a `Conv`, `axes` begins with its taps, of which the state has `width - 1`.  For a `Store`, `shape`
    begins with -1: the number of entries.
    """

    name: str
    source: State | Conv | Store
    axes: Axes
    shape: tuple[int, ...]
    owner: Recurrence | Function


def root(whole: Recurrence | Function | Model) -> Recurrence | Function:
    return whole.body if isinstance(whole, Model) else whole


@lru_cache(maxsize=1024)
def calls(function: Function) -> tuple[Invoke, ...]:
    """The calls in a function's body, callees of callees not included, in the order of evaluation."""
    return tuple(node for node in walk(function.outputs) if isinstance(node, Invoke))


@lru_cache(maxsize=1024)
def convolutions(function: Function) -> tuple[Conv, ...]:
    return tuple(node for node in walk(function.outputs) if isinstance(node, Conv))


def callees(call: Invoke, path: str, parameter_path: str) -> Iterator[Instance]:
    """What a call of the instance at `path` leads to: one instance, or one a repetition."""
    given = frozenset(name for name, _ in call.given)
    inner, inner_parameters = join(path, call.name), join(parameter_path, call.name)
    callee = call.callee
    if not isinstance(callee, Repeat):
        yield Instance(callee, inner, inner_parameters, given)
        return
    for index, body in enumerate(callee.bodies):
        own = inner_parameters if callee.shared else join(inner_parameters, str(index))
        yield Instance(body, join(inner, str(index)), own, given)


def instances(whole: Recurrence | Function | Model) -> Iterator[Instance]:
    """Every instance, callers before callees."""
    pending = [Instance(root(whole), "", "")]
    while pending:
        instance = pending.pop()
        yield instance
        if isinstance(instance.owner, Function):
            below = [
                inner
                for call in calls(instance.owner)
                for inner in callees(call, instance.path, instance.parameter_path)
            ]
            pending.extend(reversed(below))


def parameter_table(whole: Recurrence | Function | Model) -> dict[str, NamedParameter]:
    """Every parameter by its full name."""
    table: dict[str, NamedParameter] = {}
    for instance in instances(whole):
        for name, parameter in instance.parameters():
            shape = shape_of(parameter.axes, instance.owner.sizes)
            table.setdefault(name, NamedParameter(name, parameter, shape, instance.owner))
    return table


def state_table(whole: Recurrence | Function | Model) -> dict[str, NamedState]:
    """Everything that one token hands to the next, by its full name (a store's count is not listed)."""
    table: dict[str, NamedState] = {}
    for instance in instances(whole):
        owner = instance.owner
        found = _recurrence_states(owner) if isinstance(owner, Recurrence) else _function_states(owner)
        for own_name, source, axes, shape in found:
            name = join(instance.path, own_name)
            table[name] = NamedState(name, source, axes, shape, owner)
    return table


_Found = tuple[str, State | Conv | Store, Axes, tuple[int, ...]]


def _recurrence_states(owner: Recurrence) -> Iterator[_Found]:
    for state in owner.states:
        yield state.name, state, state.axes, shape_of(state.axes, owner.sizes)
    for store in owner.stores:
        yield store.name, store, (store.axis, *store.axes), (-1, *shape_of(store.axes, owner.sizes))


def _function_states(owner: Function) -> Iterator[_Found]:
    for conv in convolutions(owner):
        axes = conv.arg.axes
        shape = (owner.sizes[conv.taps] - 1, *shape_of(axes, owner.sizes))
        yield window_name(conv), conv, (conv.taps, *axes), shape


def window_name(conv: Conv) -> str:
    return join(conv.name, "window")


def count_name(store: Store) -> str:
    return join(store.name, "count")


def shape_of(axes: Axes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[axis] for axis in axes)
