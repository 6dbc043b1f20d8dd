"""Expressions over the few kinds of node that loops are made of: elementwise functions, sums, maxima and moves.

- `Softmax`, `Rank` and `Put` are written out; a sum of a product over several axes is taken an axis at a time where
  that is less work.
- What remains: leaves, numbers, `Apply`, `Reduce`, and the moves, which only say where an entry is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir import build
from seqc.ir.build import ONE, ZERO, apply, where
from seqc.ir.expr import (
    Apply,
    At,
    Concat,
    Const,
    Expr,
    Index,
    Leaf,
    Put,
    Rank,
    Reduce,
    Rename,
    Scan,
    Shift,
    Size,
    Slice,
    Softmax,
    Solve,
    Take,
)
from seqc.ir.traverse import rewrite, walk

from .diagnose import Unsupported

MINUS_INFINITY = Const(float("-inf"))
MOVES = (Rename, Slice, Concat, At, Shift, Take)
NUMBERS = (Const, Size, Index)
KNOWN = (*NUMBERS, *MOVES, Leaf, Apply, Reduce, Scan, Solve)


def simplified(roots: Sequence[Expr]) -> tuple[Expr, ...]:
    """The same values over the kinds of node above.  Raises `Unsupported` for what has no such form."""
    result = rewrite(roots, _written_out)
    for node in walk(result):
        if not isinstance(node, KNOWN) or (isinstance(node, Scan) and node.columns is not None):
            raise Unsupported(f"there is no loop for `{type(node).__name__.lower()}`")
    return rewrite(result, _contracted)


def _written_out(node: Expr) -> Expr | None:
    match node:
        case Softmax():
            return _softmax(node)
        case Rank():
            return _rank(node)
        case Put():
            return _put(node)
        case _:
            return None


def _softmax(node: Softmax) -> Expr:
    """A row whose entries are all minus infinity is 0."""
    top = build.reduce("max", node.over, node.arg)
    powers = apply("exp", build.sub(node.arg, where(apply("eq", top, MINUS_INFINITY), ZERO, top)))
    total = build.sum_over(node.over, powers)
    return build.div(powers, where(apply("eq", total, ZERO), ONE, total))


def _rank(node: Rank) -> Expr:
    other = f"{node.axis}~other"
    there = build.rename(node.arg, {node.axis: other})
    first = apply("lt", Index(other), Index(node.axis))
    equal = apply("and", apply("eq", there, node.arg), first)
    return build.sum_over([other], where(apply("or", apply("gt", there, node.arg), equal), ONE, ZERO))


def _put(node: Put) -> Expr:
    renamed = {axis: f"{axis}~from" for axis in node.over}
    arg, index = build.rename(node.arg, renamed), build.rename(node.index, renamed)
    here = where(apply("eq", index, Index(node.axis)), arg, ZERO)
    return build.sum_over([renamed[axis] for axis in node.over], here)


def _contracted(node: Expr) -> Expr | None:
    """`Σ_ab x[a] y[a, b] z[b]` as `Σ_a x[a] Σ_b y[a, b] z[b]`: factors without an axis stay out of its sum."""
    if not (isinstance(node, Reduce) and node.op == "sum"):
        return None
    factors = factors_of(node.arg)
    if len(factors) < 2:
        return None
    for axis in node.over:
        inside = [factor for factor in factors if axis in factor.axes]
        outside = [factor for factor in factors if axis not in factor.axes]
        if not outside or not inside:
            continue
        total = Reduce("sum", (axis,), build.product(inside))
        rest = [other for other in node.over if other != axis]
        return _contracted_again(build.sum_over(rest, build.product([*outside, total])))
    return None


def _contracted_again(node: Expr) -> Expr:
    again = _contracted(node)
    return node if again is None else again


def factors_of(node: Expr) -> list[Expr]:
    """What a product is made of."""
    found: list[Expr] = []
    stack = [node]
    while stack:
        factor = stack.pop()
        if isinstance(factor, Apply) and factor.op == "mul":
            stack.extend(reversed(factor.args))
        elif isinstance(factor, Apply) and factor.op == "neg":
            stack.append(factor.args[0])
            found.append(Const(-1.0))
        else:
            found.append(factor)
    return found
