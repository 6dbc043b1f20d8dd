"""Stages of complex numbers as stages of pairs of real ones: what was complex is two, named `….re` and `….im`.

Only scans with complex gates stay complex: their operands are pairs, put together, and their parts are what is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from seqc.ir.build import apply
from seqc.ir.expr import DType, Expr, Leaf
from seqc.ir.plan import Adjoint, Stage, StageInput, StageRead
from seqc.ir.traverse import walk

from ..cpu.planes import pairs, parts, split_state
from .ends import ended
from .scans import outside_scans


def paired(stage: Stage, adjoint: Adjoint) -> tuple[Stage, Adjoint]:
    """The same over real numbers.  Cotangents are derivatives by the two parts.

    Raises `Unsupported` for what has no form in pairs: triangular systems of complex numbers.
    """
    roots = [*(expr for _, expr in stage.pre), *stage.updates, *(read.value for read in stage.reads)]
    if not any(node.dtype is DType.COMPLEX for node in walk(roots)):
        return stage, adjoint

    def split(values: Iterable[Expr], leaves: Iterable[Leaf]) -> tuple[Expr, ...]:
        found = pairs(outside_scans(ended(tuple(values), stage.sizes)))
        both = zip(found, leaves, strict=True)
        return tuple(part for pair, leaf in both for part in pair[: len(parts(leaf))])

    def each(named: Sequence[tuple[Leaf, Expr]]) -> tuple[tuple[Leaf, Expr], ...]:
        own = [leaf for leaf, _ in named]
        names = [part for leaf in own for part in parts(leaf)]
        return tuple(zip(names, split([expr for _, expr in named], own), strict=True))

    states = [state.leaf for state in stage.carried]
    inputs = [item.leaf for item in stage.inputs]
    reads = each([(read.leaf, read.value) for read in stage.reads])
    found = replace(
        stage,
        carried=tuple(part for state in stage.carried for part in split_state(state)),
        inputs=tuple(part for item in stage.inputs for part in _inputs(item)),
        pre=each(stage.pre),
        updates=split(stage.updates, states),
        reads=tuple(StageRead(leaf, value) for leaf, value in reads),
    )
    back = Adjoint(
        pre=each(adjoint.pre),
        direct=split(adjoint.direct, states),
        steps=split(adjoint.steps, states),
        inputs=split(adjoint.inputs, inputs),
    )
    return found, back


def _inputs(item: StageInput) -> list[StageInput]:
    own = parts(item.leaf)
    if len(own) == 1:
        return [item]
    return [
        StageInput(leaf, apply(part, item.value), padding, item.constant)
        for leaf, part, padding in zip(own, ("real", "imag"), (item.padding, 0.0), strict=True)
    ]
