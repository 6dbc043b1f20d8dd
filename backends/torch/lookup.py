"""Printing look-ups: entries at computed places, what is sent to places, and the order of entries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from seqc.ir.expr import Axes, Put, Rank, Take

from .primitives import Code
from .values import Value

if TYPE_CHECKING:
    from .expressions import Scope


def looked_up(scope: Scope, node: Take | Put | Rank) -> Value:
    match node:
        case Take():
            return _take(scope, node)
        case Put():
            return _put(scope, node)
        case Rank():
            value = scope.value(node.arg)
            dim = value.axes.index(node.axis) - len(value.axes)
            return replace(value, code=Code(f"rank({value.code.text}, {dim})"), dtype=node.dtype)


def _take(scope: Scope, node: Take) -> Value:
    x, index = scope.value(node.arg), scope.value(node.index)
    kept = scope.sorted(axis for axis in node.arg.axes if axis != node.axis)
    free = scope.sorted(axis for axis in node.index.axes if axis not in kept)
    if not x.lead and not set(kept) & set(node.index.axes):
        table, rows = _laid_out(scope, x, (node.axis, *kept)), _laid_out(scope, index, free)
        return _sorted(
            scope, Value(Code(f"look_up({table}, {rows})"), (*free, *kept), index.lead, node.dtype)
        )
    texts = f"{_laid_out(scope, x, (*kept, node.axis))}, {_laid_out(scope, index, (*kept, *free))}"
    found = Value(Code(f"take({texts}, {len(free)})"), (*kept, *free), x.lead or index.lead, node.dtype)
    return _sorted(scope, found)


def _put(scope: Scope, node: Put) -> Value:
    x, index = scope.value(node.arg), scope.value(node.index)
    kept = scope.sorted(axis for axis in node.axes if axis != node.axis)
    over = scope.sorted(node.over)
    texts = f"{_laid_out(scope, x, (*kept, *over))}, {_laid_out(scope, index, (*kept, *over))}"
    text = f"put({texts}, {scope.length(node.axis)}, {len(over)})"
    return _sorted(scope, Value(Code(text), (*kept, node.axis), x.lead or index.lead, node.dtype))


def _laid_out(scope: Scope, value: Value, axes: Axes) -> str:
    """Text with a dimension for each of `axes`, in that order; 1 for those that the value lacks."""
    if value.code.number:
        return f"torch.full((1,) * {len(axes)}, {value.code.text})" if axes else f"tensor({value.code.text})"
    value = scope.arranged(value, tuple(axis for axis in axes if axis in value.axes))
    if value.axes == axes:
        return value.code.text
    marks = ", ".join(":" if axis in value.axes else "None" for axis in axes)
    return f"{value.atom}[..., {marks}]"


def _sorted(scope: Scope, value: Value) -> Value:
    axes = scope.sorted(value.axes)
    return value if axes == value.axes else scope.arranged(scope.assign(value, "found"), axes)
