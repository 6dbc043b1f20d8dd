"""Root mean square norms as one node, where the opset has `RMSNormalization`; found by the structure of the quotient.

`x / sqrt(b · Σ x² + e)` along axes with n entries is `c · x / sqrt(mean(x²) + e')` with `c = (b n)^-½` and
`e' = e / (b n)`: the RMS norm, the L2 norm, and the layer norm of what is centred already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isclose, prod

import numpy as np

from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Leaf, LeafKind, Reduce, Size

from .tensors import Space, Tensor

OPSET = 23  # the first with the operator


@dataclass(frozen=True, slots=True)
class Norm:
    """`factor · weight · x / sqrt(share · Σ_over x² + epsilon)`."""

    x: Expr
    over: Axes
    share: float
    epsilon: float
    factor: float = 1.0
    weight: Expr | None = None


def find_norm(space: Space, node: Expr) -> Norm | None:
    """The norm that an expression is, if the graph's opset has an operator for it."""
    if space.builder.opsets.get("", 0) < OPSET or not isinstance(node, Apply):
        return None
    return _scaled(space, node) if node.op == "mul" else _quotient(space, node)


def _scaled(space: Space, node: Apply) -> Norm | None:
    for inner, scale in (node.args, node.args[::-1]):
        norm = _quotient(space, inner) if isinstance(inner, Apply) else None
        if norm is not None and isinstance(scale, Const):
            return replace(norm, factor=float(scale.value))
        if norm is not None and _is_weight(scale) and _fits(space, scale, norm.over):
            return replace(norm, weight=scale)
    return None


def _is_weight(expr: Expr) -> bool:
    return isinstance(expr, Leaf) and expr.kind is LeafKind.PARAM


def _fits(space: Space, weight: Expr, over: Axes) -> bool:
    """Whether a weight has the axes of a norm, and others of one entry at most."""
    return {axis for axis in weight.axes if axis in over or space.fixed(axis) != 1} == set(over)


def _quotient(space: Space, node: Apply) -> Norm | None:
    if node.op != "div" or node.dtype is not DType.REAL:
        return None
    x, root = node.args
    if not isinstance(root, Apply) or root.op != "sqrt":
        return None
    below, epsilon = root.args[0], 0.0
    match below:
        case Apply(op="add", args=(inner, Const(value))) | Apply(op="add", args=(Const(value), inner)):
            below, epsilon = inner, float(value)
        case _:
            pass
    found = _share_of_sum(space, below)
    if found is None or found[1] <= 0 or epsilon < 0:
        return None
    total, share = found
    squares = isinstance(total.arg, Apply) and total.arg.op == "mul" and total.arg.args == (x, x)
    if not squares or any(space.fixed(a) is None or a not in x.axes for a in total.over):
        return None
    return Norm(x, total.over, share, epsilon)


def _share_of_sum(space: Space, expr: Expr) -> tuple[Reduce, float] | None:
    """A sum and what it is multiplied by."""
    match expr:
        case Reduce(op="sum"):
            return expr, 1.0
        case Apply(op="div", args=(x, Const() | Size() as number)):
            inner, factor = _share_of_sum(space, x), 1 / (_number(space, number) or float("inf"))
        case Apply(op="mul", args=(x, Const() as number)) | Apply(op="mul", args=(Const() as number, x)):
            inner, factor = _share_of_sum(space, x), _number(space, number)
        case _:
            return None
    return None if inner is None else (inner[0], inner[1] * factor)


def _number(space: Space, expr: Const | Size) -> float:
    return float(expr.value) if isinstance(expr, Const) else float(space.fixed(expr.axis) or 0)


def normalize(space: Space, norm: Norm, x: Tensor, weight: Tensor | None) -> Tensor:
    """The node; the axes that are normalized stand last."""
    axes = (*(a for a in x.axes if a not in norm.over), *norm.over)
    sizes = [space.fixed(a) or 0 for a in norm.over]
    full = norm.share * prod(sizes)
    scale = space.builder.constant(np.full(sizes, norm.factor / full**0.5), "float32")
    if weight is not None:
        units = tuple(a for a in weight.axes if a not in norm.over)
        scale = space.transpose(weight, (*units, *norm.over)).value
        if units:
            scale = space.builder.op("Reshape", scale, space.builder.ints(*sizes))
        if not isclose(full, 1):
            scale = space.builder.op("Mul", scale, space.number(full**-0.5).value)
    value = space.builder.op(
        "RMSNormalization",
        space.expand(x, axes).value,
        scale,
        axis=-len(sizes),
        epsilon=norm.epsilon / full,
    )
    return Tensor(value, axes)
