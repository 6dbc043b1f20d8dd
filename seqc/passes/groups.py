"""Which states are solved together, and in what order.

A state that others depend on is solved first and is a known input of the rest (a max-stabiliser, a gate's history);
only genuine cycles are solved together, and states of one shape that feed each other elementwise (a velocity and the
memory it moves), which have a common chunked form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from seqc.ir import build
from seqc.ir.expr import Expr, LeafKind
from seqc.ir.plan import RESET
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import leaves, substitute
from seqc.passes.linear import NotAffine, read_affine


def with_resets(recurrence: Recurrence) -> Recurrence:
    """The recurrence with every state read as its initial value where `RESET` is true."""
    mapping: dict[Expr, Expr] = {
        state.leaf: build.where(RESET, state.initial, state.leaf) for state in recurrence.states
    }
    # A replaced leaf is not looked into, so the mapping may mention the leaf it replaces.
    updates = substitute(recurrence.updates, mapping)
    outputs = substitute(recurrence.outputs, mapping)
    values = substitute((store.value for store in recurrence.stores), mapping)
    stores = tuple(
        replace(store, value=value) for store, value in zip(recurrence.stores, values, strict=True)
    )
    return replace(recurrence, updates=updates, outputs=outputs, stores=stores)


def reads_of(expr: Expr, states: Iterable[State]) -> set[str]:
    """The states (before or after the token) that an expression mentions."""
    names = {state.name for state in states}
    kinds = (LeafKind.STATE, LeafKind.NEXT)
    return {leaf.name for leaf in leaves([expr]) if leaf.kind in kinds and leaf.name in names}


def inlined(group: Sequence[State], updates: Mapping[str, Expr]) -> list[Expr]:
    """The updates of a group over the values before the token only."""
    return inline_next(group, updates, [updates[state.name] for state in group])


def inline_next(group: Sequence[State], updates: Mapping[str, Expr], exprs: Sequence[Expr]) -> list[Expr]:
    """Expressions with the values after the token of the group's states written out."""
    mapping: dict[Expr, Expr] = {state.next: updates[state.name] for state in group}
    result = tuple(exprs)
    while any(leaf in mapping for leaf in leaves(result)):
        result = substitute(result, mapping)
    return list(result)


def components(states: Sequence[State], updates: Mapping[str, Expr]) -> list[list[State]]:
    """Strongly connected components of the states, each after those that it depends on."""
    direct = {state.name: reads_of(updates[state.name], states) for state in states}
    reach = {name: _reachable(name, direct) for name in direct}
    groups: list[list[State]] = []
    placed: set[str] = set()
    for state in sorted(states, key=lambda s: len(reach[s.name])):
        if state.name in placed:
            continue
        group = [
            s for s in states if s is state or (s.name in reach[state.name] and state.name in reach[s.name])
        ]
        placed |= {s.name for s in group}
        groups.append(group)
    return groups


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    front = [start]
    while front:
        for name in edges[front.pop()] - found:
            found.add(name)
            front.append(name)
    return found


def merge_coupled(groups: list[list[State]], updates: Mapping[str, Expr]) -> list[list[State]]:
    """Join groups of matrix states of one shape where one feeds the other elementwise."""
    merged: list[list[State]] = []
    for group in groups:
        mates = [g for g in merged if _coupled(g, group, updates)]
        joined = [state for g in mates for state in g] + group
        merged = [g for g in merged if g not in mates] + [joined]
    return merged


def _coupled(first: list[State], second: list[State], updates: Mapping[str, Expr]) -> bool:
    states = [*first, *second]
    if len({state.axes for state in states}) != 1 or len(states[0].axes) < 2:
        return False
    if not any(reads_of(updates[s.name], first) for s in second):
        return False
    try:
        affine = read_affine(states, inlined(states, updates))
    except NotAffine:
        return False
    if not any(reads_of(updates[f.name], first) for f in first):
        return False  # a shift of what is known before: it is solved by itself
    return any((s.name, f.name) in affine.diagonal for f in first for s in second)
