"""Symbolic reverse-mode differentiation of expressions.

`gradient` gives the cotangents of some nodes of an expression as expressions.  It serves three masters: the learner
of a rule (the gradient of the objective with respect to the memory), the adjoint of a recurrence, and the backward
pass of a scheduled chunk.  There is one rule a node kind here and one row a primitive in `ir.ops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import (
    Apply,
    At,
    Axes,
    Concat,
    Const,
    DType,
    Expr,
    Index,
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
from seqc.ir.ops import OPS
from seqc.ir.traverse import children, depends_on, walk


class NotDifferentiable(Exception):
    """A node without a derivative lies between the output and a node it is differentiated by."""

    def __init__(self, node: Expr) -> None:
        super().__init__(f"no derivative for {type(node).__name__}")
        self.node = node


def gradient(output: Expr, wrt: Sequence[Expr], cotangent: Expr = ONE) -> tuple[Expr, ...]:
    """The cotangent of each of `wrt`, for a cotangent of `output` (1 for a scalar).

    A result has the axes of the node it belongs to, or fewer where it is constant along the others.
    """
    return pullback({output: cotangent}, wrt)


def pullback(cotangents: Mapping[Expr, Expr], wrt: Sequence[Expr]) -> tuple[Expr, ...]:
    """Like `gradient`, for several outputs at once, each with its cotangent."""
    active = depends_on(cotangents, wrt)
    flowing: dict[Expr, Expr] = {}
    for node, given in cotangents.items():
        _accumulate(flowing, node, given)
    order = [node for node in walk(cotangents) if node in active]
    for node in reversed(order):
        g = flowing.get(node)
        if g is None or not any(child in active for child in children(node)):
            continue
        for index, (child, share) in enumerate(zip(children(node), _back(node, g), strict=True)):
            if share is not None and child in active:
                over = [axis for axis in _domain(node, index) if axis not in child.axes]
                _accumulate(flowing, child, build.sum_over(over, share))
    return tuple(flowing.get(node, ZERO) for node in wrt)


def _accumulate(flowing: dict[Expr, Expr], node: Expr, g: Expr) -> None:
    if node.dtype is not DType.COMPLEX and g.dtype is DType.COMPLEX:
        g = build.apply("real", g)
    flowing[node] = build.add(flowing[node], g) if node in flowing else g


def _domain(node: Expr, index: int) -> Axes:
    """The axes over which a child's cotangent ranges before it is summed to the child's own."""
    match node:
        case Apply():
            return node.axes
        case Concat():
            return tuple(node.parts[index] if axis == node.axis else axis for axis in node.axes)
        case Put() if index == 0:
            return tuple(dict.fromkeys((*node.arg.axes, *node.index.axes)))
        case Scan(columns=(_, read)) if index == 0:
            return (*node.axes, read)
        case Scan():
            return node.axes
        case Solve() if index == 0:
            return (*node.axes, node.columns)
        case Solve():
            return node.axes
        case _:
            return children(node)[index].axes


def _back(node: Expr, g: Expr) -> tuple[Expr | None, ...]:  # noqa: C901  # one case a node kind
    """The cotangent of each child of `node`, for the cotangent `g` of the node."""
    match node:
        case Apply():
            rule = OPS[node.op].gradient
            return (None,) * len(node.args) if rule is None else rule(node.args, node, g)
        case Reduce(op="sum"):
            return (g,)
        case Reduce():
            hit = build.apply("eq", node.arg, node)
            ties = build.sum_over(node.over, build.where(hit, ONE, ZERO))
            return (build.where(hit, build.div(g, ties), ZERO),)
        case Softmax():
            return (build.mul(node, build.sub(g, build.sum_over(node.over, build.mul(node, g)))),)
        case Rename():
            return (build.rename(g, {new: old for old, new in node.pairs}),)
        case Slice():
            here = build.apply("eq", Index(node.axis), build.add(Index(node.new), Const(node.start)))
            return (build.sum_over([node.new], build.where(here, g, ZERO)),)
        case Concat():
            stretches = zip(node.parts, node.starts, strict=True)
            return tuple(build.narrow(g, node.axis, part, start) for part, start in stretches)
        case At():
            position = Const(node.index) if node.index >= 0 else build.add(Size(node.axis), Const(node.index))
            return (build.where(build.apply("eq", Index(node.axis), position), g, ZERO),)
        case Take():
            kept = [axis for axis in node.arg.axes if axis != node.axis]
            over = tuple(axis for axis in node.index.axes if axis not in kept)
            return Put(g, node.index, node.axis, over), None
        case Put():
            return build.take(g, node.index, node.axis), None
        case Rank():
            return (None,)
        case Shift():
            return (_shift(g, node, -node.by),)
        case Scan():
            return _back_scan(node, g)
        case Solve():
            return _back_solve(node, g)
        case _:
            raise NotDifferentiable(node)


def _shift(g: Expr, node: Shift, by: int) -> Expr:
    spread = g if node.axis in g.axes else build.where(build.apply("ge", Index(node.axis), ZERO), g, ZERO)
    return Shift(node.axis, by, spread) if node.axis in spread.axes else spread  # else 0, which stays 0


def _conj(x: Expr) -> Expr:
    return build.apply("conj", x)


def _back_scan(node: Scan, g: Expr) -> tuple[Expr | None, ...]:
    """s[i] = g[i] + decay[i+1]ᵀ s[i+1]; the source gets s, the decay s[i] h[i-1]: no division, exact at 0."""
    ahead = 1 if node.reverse else -1
    decay = Shift(node.axis, ahead, node.decay) if node.axis in node.decay.axes else node.decay
    before: Expr = Shift(node.axis, -ahead, node)
    if node.columns is not None:
        written, read = node.columns
        decay = build.rename(decay, {written: read, read: written})
        before = build.rename(before, {written: read})
    back = Scan(_conj(decay), g, node.axis, not node.reverse, node.columns)
    return build.mul(back, _conj(before)), back


def _back_solve(node: Solve, g: Expr) -> tuple[Expr | None, ...]:
    """With (I - M) x = b: the cotangent of b solves the transposed system, and that of M is its product with x."""
    transposed = build.rename(node.matrix, {node.rows: node.columns, node.columns: node.rows})
    back = Solve(_conj(transposed), g, node.rows, node.columns, not node.upper)
    return build.mul(back, _conj(build.rename(node, {node.rows: node.columns}))), back
