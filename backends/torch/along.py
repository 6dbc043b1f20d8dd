"""Printing what happens along an axis: scans, triangular solves, softmax, parts and shifts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from seqc.ir.expr import At, Axes, Concat, Const, Expr, Leaf, Scan, Shift, Size, Slice, Softmax, Solve
from seqc.ir.traverse import walk

from .primitives import Code
from .values import Value

if TYPE_CHECKING:
    from .expressions import Scope


def softmax(scope: Scope, node: Softmax) -> Value:
    value = scope.value(node.arg)
    dims = [value.axes.index(a) - len(value.axes) for a in node.over]
    if len(dims) == 1:
        function = "safe_softmax" if _may_be_empty(node) else "torch.softmax"
        return replace(value, code=Code(f"{function}({value.code.text}, {dims[0]})"))
    value = scope.arranged(value, (*(a for a in value.axes if a not in node.over), *node.over))
    count = len(dims)
    text = f"torch.softmax({value.atom}.flatten(-{count}), -1).view_as({value.code.text})"
    return replace(value, code=Code(text))


def _may_be_empty(node: Softmax) -> bool:
    """Whether a row can be nothing but -inf; the present token, where it counts, is always visible."""
    below = list(walk([node.arg]))
    if any(isinstance(n, Leaf) and n.name == "%visible" for n in below):
        return False
    return any(isinstance(n, Const) and n.value == float("-inf") for n in below)


def scan(scope: Scope, node: Scan) -> Value:
    decay, source = scope.value(node.decay), scope.value(node.source)
    lead = decay.lead or source.lead
    if node.columns is not None:
        return _scan_matrix(scope, node, decay, source, lead)
    axes = scope.sorted({*decay.axes, *source.axes, node.axis})
    dim = axes.index(node.axis) - len(axes)
    more = ", reverse=True" if node.reverse else ""
    length = "" if node.axis in source.axes else f", length={scope.length(node.axis)}"
    a, b = scope.aligned(decay, axes, lead, True), scope.aligned(source, axes, lead, True)
    if isinstance(node.decay, Const) and node.decay.value == 1.0:
        return Value(Code(f"running_sum({b.text}, {dim}{more}{length})"), axes, lead, node.dtype)
    return Value(Code(f"scan({a.text}, {b.text}, {dim}{more})"), axes, lead, node.dtype)


def _scan_matrix(scope: Scope, node: Scan, decay: Value, source: Value, lead: bool) -> Value:
    assert node.columns is not None
    s, r = node.columns
    rest = scope.sorted({*decay.axes, *source.axes} - {s, r, node.axis})
    a = scope.aligned(
        scope.arranged(decay, _has(decay, (*rest, node.axis, s, r))), (*rest, node.axis, s, r), lead
    )
    b = scope.aligned(
        scope.arranged(source, _has(source, (*rest, node.axis, s))), (*rest, node.axis, s), lead
    )
    more = ", reverse=True" if node.reverse else ""
    return Value(Code(f"scan_matrix({a.text}, {b.text}{more})"), (*rest, node.axis, s), lead, node.dtype)


def _has(value: Value, axes: Axes) -> Axes:
    return tuple(a for a in axes if a in value.axes)


def solve(scope: Scope, node: Solve) -> Value:
    matrix, side = scope.value(node.matrix), scope.value(node.rhs)
    rows, columns = node.rows, node.columns
    free = tuple(a for a in side.axes if a != rows and a not in matrix.axes)
    rest = scope.sorted({*matrix.axes, *side.axes} - {rows, columns, *free})
    free = scope.sorted(free)
    m = scope.aligned(
        scope.arranged(matrix, _has(matrix, (*rest, rows, columns))), (*rest, rows, columns), True
    )
    full = (*rest, rows, *free)
    b = scope.aligned(scope.arranged(side, _has(side, full)), full, True)
    if len(m.text) + len(b.text) > 70:
        longer = b if len(b.text) >= len(m.text) else m
        name = scope.assign(Value(longer), "side" if longer is b else "matrix").code
        m, b = (m, name) if longer is b else (name, b)
    upper = ", upper=True" if node.upper else ""
    text = f"solve_unit({m.text}, {b.text}, {len(free)}{upper})"
    solved = Value(Code(text), full, matrix.lead or side.lead, node.dtype)
    if full == scope.sorted(full):
        return solved
    return scope.arranged(scope.assign(solved, "solved"), scope.sorted(full))


def part(scope: Scope, node: Expr) -> Value:
    match node:
        case Slice():
            value = scope.value(node.arg)
            index = _index_of(value, node.axis, f"{node.start}:{node.start + scope.sizes[node.new]}")
            return replace(
                value, code=index, axes=tuple(node.new if a == node.axis else a for a in value.axes)
            )
        case At():
            value = scope.value(node.arg)
            code = _index_of(value, node.axis, str(node.index))
            return replace(value, code=code, axes=tuple(a for a in value.axes if a != node.axis))
        case Shift():
            value = scope.value(node.arg)
            dim = value.axes.index(node.axis) - len(value.axes)
            return replace(value, code=Code(f"shift({value.code.text}, {node.by}, {dim})"))
        case Concat():
            return _concat(scope, node)
        case Size():
            return Value(Code(scope.length(node.axis)))
        case _:
            raise NotImplementedError(f"{type(node).__name__} has no place in a token-level expression")


def _index_of(value: Value, axis: str, index: str) -> Code:
    after = len(value.axes) - 1 - value.axes.index(axis)
    return Code(f"{value.atom}[..., {index}{', :' * after}]")


def _concat(scope: Scope, node: Concat) -> Value:
    values = [
        replace(v, axes=tuple(node.axis if a == part else a for a in v.axes))
        for v, part in zip((scope.value(a) for a in node.args), node.parts, strict=True)
    ]
    axes = scope.sorted({a for v in values for a in v.axes})
    lead = any(v.lead for v in values)
    dim = axes.index(node.axis) - len(axes)
    texts = [scope.aligned(v, axes, lead, True).text for v in values]
    if any(v.lead != lead or len(v.axes) != len(axes) for v in values):
        return Value(Code(f"concatenate([{', '.join(texts)}], {dim})"), axes, lead, node.dtype)
    return Value(Code(f"torch.cat([{', '.join(texts)}], {dim})"), axes, lead, node.dtype)
