"""A rule over further axes of its inputs: the same recurrence, whose states have them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seqc.ir.expr import Expr, Leaf
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import substitute


def mapped(recurrence: Recurrence, lengths: Sequence[int], has: Sequence[Sequence[bool]]) -> Recurrence:
    """The rule mapped over axes of these lengths; `has` says for each input which of them it has."""
    names = tuple(f"%row{k}" for k in range(len(lengths)))
    inputs = tuple(
        Leaf(
            leaf.kind,
            leaf.name,
            (*(a for a, own in zip(names, flags, strict=True) if own), *leaf.over),
            leaf.number,
        )
        for leaf, flags in zip(recurrence.inputs, has, strict=True)
    )
    states = tuple(replace(state, axes=(*names, *state.axes)) for state in recurrence.states)
    mapping: dict[Expr, Expr] = dict(zip(recurrence.inputs, inputs, strict=True))
    for old, new in zip(recurrence.states, states, strict=True):
        mapping.update({old.leaf: new.leaf, old.next: new.next})
    return replace(
        recurrence,
        inputs=inputs,
        states=states,
        updates=tuple(substitute(recurrence.updates, mapping)),
        outputs=tuple(substitute(recurrence.outputs, mapping)),
        returns=tuple((*names, *axes) for axes in recurrence.returns),
        sizes={**recurrence.sizes, **dict(zip(names, lengths, strict=True))},
        names=(),
    )
