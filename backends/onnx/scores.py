"""Scores of tokens whose gates differ from key to key: `Σ_n a[i, n] · (Π gate[l, n] over j < l <= i) · b[j, n]`.

With `P` the running product of the gates, the product between two tokens is `P[i] / P[j]`, and the scores are those of
`P · a` and `b / P`: one product of matrices.  Where a block's gates leave so little that this would lose digits, or one
is negative, the graph writes the products between all pairs of tokens out instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seqc.ir.expr import DType, Expr, Reduce, Shift
from seqc.ir.plan import OTHER, TOKEN
from seqc.ir.traverse import walk

from .control import branch
from .gates import product_between
from .lower import Lowering
from .scans import running_product
from .tensors import Space, Tensor

LEAST = math.exp(-24)  # of a product or its inverse: they are exact to so many units in the last place


@dataclass(frozen=True, slots=True)
class Scores:
    """`node` is the sum over keys of a product of the gates between two tokens with what only one of them has.

    With `before`, the gates are those up to the token before.
    """

    node: Reduce
    gate: Expr
    here: tuple[Expr, ...]
    there: tuple[Expr, ...]
    before: bool


def find_scores(lowering: Lowering, roots: Iterable[Expr]) -> dict[Expr, list[Scores]]:
    """The scores in expressions, by their gates."""
    found: dict[Expr, list[Scores]] = {}
    for node in walk(roots):
        if isinstance(node, Reduce) and (scores := _scores(lowering, node)) is not None:
            found.setdefault(scores.gate, []).append(scores)
    return found


def _scores(lowering: Lowering, node: Reduce) -> Scores | None:
    if node.op != "sum" or node.dtype is not DType.REAL or not {TOKEN, OTHER} <= set(node.axes):
        return None
    gates: list[tuple[Expr, bool]] = []
    here: list[Expr] = []
    there: list[Expr] = []
    for factor in lowering.factors_of(node.arg):
        before = isinstance(factor, Shift) and factor.axis == TOKEN and factor.by == 1
        gate = product_between(factor.arg if isinstance(factor, Shift) and before else factor)
        if gate is not None and set(gate.axes) & set(node.over):
            gates.append((gate, before))
        elif OTHER not in factor.axes:
            here.append(factor)
        elif TOKEN not in factor.axes:
            there.append(factor)
        else:
            return None
    if len(gates) != 1:
        return None
    ((gate, before),) = gates
    return Scores(node, gate, tuple(here), tuple(there), before)


def emit_scores(lowering: Lowering, gate: Expr, scores: Sequence[Scores]) -> None:
    """Make scores with one gate known to `lowering`."""
    for one in scores:
        lowering.values((*one.here, *one.there))
    space = lowering.space
    until = running_product(space, lowering.real(gate), TOKEN)
    since = space.elementwise("Reciprocal", until)

    def apart(inner: Space) -> list[Tensor]:
        slow = Lowering(inner, lowering.env)
        return [slow.real(one.node) for one in scores]

    def together(inner: Space) -> list[Tensor]:
        return [_by_matrices(Lowering(inner, lowering.env), one, until, since) for one in scores]

    results = branch(space, _is_moderate(space, until, since), together, apart)
    lowering.env.update((one.node, result) for one, result in zip(scores, results, strict=True))


def _is_moderate(space: Space, product: Tensor, inverse: Tensor) -> Tensor:
    """Whether no entry is negative, too small or too large."""
    least = space.builder.op("ReduceMin", space.elementwise("Min", product, inverse).value, keepdims=0)
    return space.elementwise("GreaterOrEqual", Tensor(least, ()), space.number(LEAST), kind=DType.BOOL)


def _by_matrices(lowering: Lowering, scores: Scores, until: Tensor, since: Tensor) -> Tensor:
    space = lowering.space
    if scores.before:
        until = space.shift(until, TOKEN, 1)
    since = space.rename(since, {TOKEN: OTHER})
    left, right = ([lowering.real(x) for x in side] for side in (scores.here, scores.there))
    for factor in left:
        until = space.mul(factor, until)
    for factor in right:
        since = space.mul(factor, since)
    product = space.contract([until, since], scores.node.over)
    places = space.positions(TOKEN), space.positions(OTHER)
    seen = space.elementwise("Greater" if scores.before else "GreaterOrEqual", *places, kind=DType.BOOL)
    return space.elementwise("Where", seen, product, space.number(0), kind=DType.REAL)
