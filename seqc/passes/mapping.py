"""A recurrence applied to values with more axes than the rule declares.

Inputs get the extra axes.  A state gets only those that its update depends on, which is a least fixed point over the
updates: with queries `q[kv, g, n]` and keys `k[kv, n]` a memory has the axis `kv` and not `g`, so that multi-query and
grouped-query sharing follow from the axes alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from seqc.ir.expr import Axes, Expr, Leaf, LeafKind
from seqc.ir.recurrence import Recurrence, State, Store
from seqc.ir.traverse import leaves, substitute

# The kinds of leaf that a state or a store appears as.
_KINDS = (LeafKind.STATE, LeafKind.NEXT, LeafKind.STORE, LeafKind.STORED)


def map_recurrence(rec: Recurrence, inputs: Mapping[str, Axes], sizes: Mapping[str, int]) -> Recurrence:
    """`rec` with the extra axes `inputs[name]` on each input named; `sizes` gives their lengths.

    Extra axes stand before the declared ones, in the order in which the inputs bring them.  Their names must not be
    those of axes of the rule.
    """
    order = tuple(dict.fromkeys(axis for leaf in rec.inputs for axis in inputs.get(leaf.name, ())))
    own = tuple(axis for parameter in rec.parameters for axis in parameter.axes if axis not in rec.sizes)
    order = tuple(dict.fromkeys((*order, *own)))
    if not order:
        return rec
    extra = _spread(rec, inputs, order)
    swap: dict[Expr, Expr] = {}
    for leaf in leaves(_everything(rec)):
        if axes := extra.get(_owner(leaf), ()):
            swap[leaf] = _widen(leaf, axes)

    def mapped(*exprs: Expr) -> tuple[Expr, ...]:
        return substitute(exprs, swap)

    outputs = mapped(*rec.outputs)
    origins = zip(mapped(*rec.origins), rec.origins.values(), strict=True)
    return replace(
        rec,
        inputs=tuple(_widen(leaf, extra.get(_owner(leaf), ())) for leaf in rec.inputs),
        states=tuple(_state(state, extra) for state in rec.states),
        stores=tuple(_store(store, extra, mapped(store.value)[0]) for store in rec.stores),
        updates=mapped(*rec.updates),
        outputs=outputs,
        returns=tuple(
            (*(a for a in order if a in new.axes), *old)
            for new, old in zip(outputs, rec.returns, strict=True)
        ),
        sizes={**rec.sizes, **{axis: sizes[axis] for axis in order if axis in sizes}},
        names=tuple((name, mapped(expr)[0]) for name, expr in rec.names),
        origins=dict(origins),
        mapped=(*rec.mapped, *order),
    )


def _everything(rec: Recurrence) -> list[Expr]:
    named = [expr for _, expr in rec.names]
    return [*rec.updates, *rec.outputs, *(store.value for store in rec.stores), *named, *rec.origins]


def _owner(leaf: Leaf) -> tuple[str, str]:
    return ("state" if leaf.kind in _KINDS else leaf.kind.value, leaf.name)


def _widen(leaf: Leaf, axes: Axes) -> Leaf:
    new = tuple(axis for axis in axes if axis not in leaf.over)
    if leaf.kind in (LeafKind.STORE, LeafKind.STORED):  # the growing axis stays the first
        return Leaf(leaf.kind, leaf.name, (leaf.over[0], *new, *leaf.over[1:]), leaf.number)
    return Leaf(leaf.kind, leaf.name, (*new, *leaf.over), leaf.number)


def _spread(rec: Recurrence, inputs: Mapping[str, Axes], order: Axes) -> dict[tuple[str, str], Axes]:
    """Which extra axes every input, state and store gets."""
    found: dict[tuple[str, str], set[str]] = {
        ("input", leaf.name): set(inputs.get(leaf.name, ())) for leaf in rec.inputs
    }
    needs: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for parameter in rec.parameters:
        found["param", parameter.name] = {axis for axis in parameter.axes if axis in order}
    written = [(s.name, [u, s.initial]) for s, u in zip(rec.states, rec.updates, strict=True)]
    written += [(store.name, [store.value]) for store in rec.stores]
    for name, exprs in written:
        needs["state", name] = {_owner(leaf) for leaf in leaves(exprs)}
        found["state", name] = set()
    changed = True
    while changed:
        changed = False
        for owner, sources in needs.items():
            wider = found[owner].union(*(found.get(source, set[str]()) for source in sources))
            if wider != found[owner]:
                found[owner], changed = wider, True
    # A parameter keeps its declared axes: its own mapped axis is already among them.
    return {
        owner: tuple(a for a in order if a in axes) for owner, axes in found.items() if owner[0] != "param"
    }


def _state(state: State, extra: Mapping[tuple[str, str], Axes]) -> State:
    axes = extra.get(("state", state.name), ())
    return replace(state, axes=(*(a for a in axes if a not in state.axes), *state.axes))


def _store(store: Store, extra: Mapping[tuple[str, str], Axes], value: Expr) -> Store:
    axes = extra.get(("state", store.name), ())
    return replace(store, axes=(*(a for a in axes if a not in store.axes), *store.axes), value=value)
