"""Whether two recurrences are the same, however they were spelt."""

from __future__ import annotations

from seqc.ir.expr import Expr
from seqc.ir.recurrence import Recurrence
from seqc.passes.canonical import canonical
from seqc.passes.groups import inline_next


def normal_form(recurrence: Recurrence) -> tuple[Expr, ...]:
    """Initial values, updates, stored values and outputs in canonical form, over the states before the token."""
    updates = recurrence.updates_by_name
    values = [store.value for store in recurrence.stores]
    exprs = inline_next(recurrence.states, updates, [*recurrence.updates, *values, *recurrence.outputs])
    return tuple(canonical(expr) for expr in (*(state.initial for state in recurrence.states), *exprs))


def same_recurrence(one: Recurrence, other: Recurrence) -> bool:
    """Equal inputs, parameters and states (by name and axes), and equal normal forms."""
    return _shape(one) == _shape(other) and all(
        x is y for x, y in zip(normal_form(one), normal_form(other), strict=True)
    )


def _shape(recurrence: Recurrence) -> tuple[object, ...]:
    return (
        set(recurrence.inputs),
        {(p.name, p.axes, canonical(p.initial)) for p in recurrence.parameters},
        tuple((s.name, s.axes, s.dtype) for s in recurrence.states),
        tuple((s.name, s.axis, s.axes, s.window, s.sinks) for s in recurrence.stores),
        tuple(frozenset(axes) for axes in recurrence.returns),
    )
