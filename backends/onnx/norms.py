"""Norms as one node, where the opset has `RMSNormalization`; found by the structure of the quotient.

`x / sqrt(b · Σ x² + e)` along axes with n entries is `c · x / sqrt(mean(x²) + e')` with `c = (b n)^-½` and
`e' = e / (b n)`: the RMS norm, the L2 norm, and the layer norm of what is centred already.  Where x is `z - mean(z)`
along the same axes, it is `LayerNormalization` of z, which adds a bias too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isclose, prod

import numpy as np
import onnx_ir as ir

from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Leaf, LeafKind, Reduce, Size

from .tensors import Space, Tensor

OPSET = 23  # the first with the operator


@dataclass(frozen=True, slots=True)
class Norm:
    """`factor · weight · y / sqrt(share · mean_over(y²) + epsilon) + bias`; y is x, or x less its mean if `centred`."""

    x: Expr
    over: Axes
    share: float
    epsilon: float
    centred: bool = False
    factor: float = 1.0
    weight: Expr | None = None
    bias: Expr | None = None

    @property
    def needs(self) -> tuple[Expr, ...]:
        return tuple(expr for expr in (self.x, self.weight, self.bias) if expr is not None)


def find_norm(space: Space, node: Expr) -> Norm | None:
    """The norm that an expression is, if the graph's opset has an operator for it."""
    if space.builder.opsets.get("", 0) < OPSET or not isinstance(node, Apply):
        return None
    match node.op:
        case "add":
            return _shifted(space, node)
        case "mul":
            return _scaled(space, node)
        case _:
            return _quotient(space, node)


def _shifted(space: Space, node: Apply) -> Norm | None:
    for inner, bias in (node.args, node.args[::-1]):
        norm = _scaled(space, inner) if isinstance(inner, Apply) and inner.op == "mul" else None
        if norm is not None and norm.centred and _is_weight(bias) and _fits(space, bias, norm.over):
            return replace(norm, bias=bias)
    return None


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
    full = share * prod(space.fixed(a) or 0 for a in total.over)
    centred = _uncentred(space, x, total.over)
    return Norm(x if centred is None else centred, total.over, full, epsilon, centred is not None)


def _uncentred(space: Space, expr: Expr, over: Axes) -> Expr | None:
    """What an expression is when its mean along axes is added to it again, if it was subtracted."""
    if not isinstance(expr, Apply) or expr.op != "sub":
        return None
    x, mean = expr.args
    found = _share_of_sum(space, mean)
    if found is None or found[0].arg is not x or set(found[0].over) != set(over):
        return None
    return x if isclose(found[1] * prod(space.fixed(a) or 0 for a in over), 1) else None


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


def normalize(space: Space, norm: Norm, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The node; the axes that are normalized stand last."""
    axes = (*(a for a in x.axes if a not in norm.over), *norm.over)
    sizes = [space.fixed(a) or 0 for a in norm.over]
    if weight is None:
        scale = space.builder.constant(np.full(sizes, norm.factor / norm.share**0.5), "float32")
    else:
        scale = _parameter(space, weight, norm.over)
        if not isclose(norm.share, 1):
            scale = space.builder.op("Mul", scale, space.number(norm.share**-0.5).value)
    value = space.builder.op(
        "LayerNormalization" if norm.centred else "RMSNormalization",
        space.expand(x, axes).value,
        scale,
        *([] if bias is None else [_parameter(space, bias, norm.over)]),
        axis=-len(sizes),
        epsilon=norm.epsilon / norm.share,
    )
    return Tensor(value, axes)


def _parameter(space: Space, parameter: Tensor, over: Axes) -> ir.Value:
    """A weight or a bias with the axes of a norm, without others of one entry."""
    units = tuple(a for a in parameter.axes if a not in over)
    value = space.transpose(parameter, (*units, *over)).value
    sizes = [space.fixed(a) or 0 for a in over]
    return space.builder.op("Reshape", value, space.builder.ints(*sizes)) if units else value
