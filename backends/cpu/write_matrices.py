"""The calls of `runtime/products.h`."""

from __future__ import annotations

from collections.abc import Mapping

from seqc.ir.expr import Solve

from .layout import View
from .matrices import Matrices

Sizes = Mapping[str, int]


def renamed(view: View, names: Mapping[str, str]) -> View:
    """A view with its axes called otherwise."""
    return View(view.name, tuple((names.get(axis, axis), step) for axis, step in view.strides))


def multiplied(found: Matrices, left: View, right: View, result: View, sizes: Sizes, adds: bool) -> str:
    lengths = [sizes[axis] for axis in (found.row, found.column, found.over)]
    strides = [
        *_strides(left, found.row, found.over),
        *_strides(right, found.over, found.column),
        *_strides(result, found.row, found.column),
    ]
    return _call("product", adds, [*lengths, *strides], (left, right, result))


def solved(node: Solve, matrix: View, side: View, result: View, sizes: Sizes) -> str:
    """A system with one matrix, whose right sides lie along at most one further axis."""
    other = next((axis for axis, _ in result.strides if axis != node.rows), "")
    strides = [
        *_strides(matrix, node.rows, node.columns),
        *_strides(side, node.rows, other),
        *_strides(result, node.rows, other),
    ]
    return _call(
        "solve", node.upper, [sizes[node.rows], sizes.get(other, 1), *strides], (matrix, side, result)
    )


def _strides(view: View, *axes: str) -> list[int]:
    found = dict(view.strides)
    return [found.get(axis, 0) for axis in axes]


def _call(name: str, flag: bool, numbers: list[int], views: tuple[View, ...]) -> str:
    given = ", ".join(["true" if flag else "false", *map(str, numbers)])
    return f"matrices::{name}<{given}>({', '.join(view.name for view in views)});"
