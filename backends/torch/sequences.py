"""Printing operations on whole sequences: linear maps, convolutions, look-ups, and what runs along time."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from seqc.ir.expr import Const, Conv, Dropout, DType, Expr, Flip, Gather, Pool, Reduce

from .contract import contract_all
from .expressions import Scope
from .primitives import ATOM, Code
from .reading import operands, sign
from .values import Value


def print_sequence(scope: Scope, node: Expr) -> Value | None:
    """The value of a node that only blocks and models have, or that they say in another way."""
    match node:
        case Conv():
            return _conv(scope, node)
        case Gather():
            return _gather(scope, node)
        case Flip():
            value = scope.value(node.arg)
            return replace(value, code=Code(f"{value.atom}.flip(1)"))
        case Pool():
            value = scope.value(node.arg)
            how = ".mean(1, keepdim=True)" if node.op == "mean" else "[:, -1:]"
            return replace(value, code=Code(f"{value.atom}{how}"))
        case Dropout():
            value = scope.value(node.arg)
            return replace(value, code=Code(f"F.dropout({value.code.text}, {node.rate}, self.training)"))
        case Reduce(op="sum"):
            return _linear(scope, node)
        case _:
            return None


def _conv(scope: Scope, node: Conv) -> Value:
    x = scope.full(scope.value(node.arg), node.arg.axes)
    weight = scope.value(node.weight)
    order = (*node.arg.axes, node.taps)
    weight = scope.arranged(weight, tuple(a for a in order if a in weight.axes))
    text = f'causal_conv(run, "{node.name}.window", {x.text}, {scope.aligned(weight, order, False).text}'
    if node.bias is not None:
        bias = scope.value(node.bias)
        text += f", {scope.aligned(bias, node.arg.axes, False).text}"
    return Value(Code(text + ")"), node.arg.axes, True, node.dtype)


def _linear(scope: Scope, node: Reduce) -> Value | None:
    """A weight applied to the product of the other factors: `linear`."""
    others = list(operands(node, scope.counts))
    fixed = [f for f in others if f.axes and not scope.value(f).lead]
    if not fixed:
        return None
    chosen = max(fixed, key=lambda f: len(f.axes))
    others.remove(chosen)
    weight, values = scope.value(chosen), [scope.value(f) for f in others if not isinstance(f, Const)]
    axes = tuple(dict.fromkeys(a for value in values for a in value.axes))
    over = tuple(a for a in weight.axes if a in node.over)
    out = tuple(a for a in weight.axes if a not in node.over)
    if set(over) != set(node.over) or set(axes) & set(weight.axes) != set(over) or not out:
        return None
    # A product that is larger than its factors is better left to `contract_all`.
    if not any(value.lead and set(value.axes) == set(axes) for value in values):
        return None
    if any(value.dtype is DType.COMPLEX for value in (weight, *values)):
        return None
    x = contract_all(scope, others, (), sign(node, scope.counts))
    rest = tuple(a for a in axes if a not in over)
    x, weight = scope.arranged(x, (*rest, *over)), scope.arranged(weight, (*out, *over))
    source, matrix = x.code.text, weight.code.text
    if len(over) > 1:
        source = f"{x.atom}.flatten(-{len(over)})"
    if len(over) > 1 or len(out) > 1:
        matrix = f"{weight.atom}.reshape({prod(scope.sizes[a] for a in out)}, {prod(scope.sizes[a] for a in over)})"
    text = f"linear({source}, {matrix})"
    if len(out) > 1:
        text += f".unflatten(-1, ({', '.join(str(scope.sizes[a]) for a in out)}))"
    return Value(Code(text, ATOM), (*rest, *out), True, DType.REAL)


def _gather(scope: Scope, node: Gather) -> Value:
    index, table = scope.value(node.index), scope.value(node.table)
    rest = tuple(a for a in table.axes if a != node.axis)
    table = scope.arranged(table, (node.axis, *rest))
    text = (
        f"F.embedding({index.code.text}, {table.code.text})"
        if len(rest) == 1
        else f"{table.atom}[{index.code.text}]"
    )
    return Value(Code(text), (*index.axes, *rest), index.lead, node.dtype)
