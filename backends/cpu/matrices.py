"""Which sums of a task are products of matrices: `c[i, j] = Σ_k a[i, k] b[k, j]`, all three axes long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from seqc.ir.expr import Apply, Axes, DType, Expr, Leaf, Reduce, Rename, Scan, Solve
from seqc.ir.plan import BETWEEN, OTHER, TOKEN

TOKENS = (TOKEN, OTHER, BETWEEN)

Arranged = Callable[[Sequence[str]], Axes]


@dataclass(frozen=True, slots=True)
class Matrices:
    """A product of `left[row, over]` and `right[over, column]`."""

    left: Expr
    right: Expr
    row: str
    column: str
    over: str


def product_of(node: Expr, arranged: Arranged) -> Matrices | None:
    """A sum as a product of two matrices at hand, of which one axis at least ranges over the tokens of a block."""
    if not (isinstance(node, Reduce) and node.op == "sum" and isinstance(node.arg, Apply)):
        return None
    over = arranged(node.over)
    if node.arg.op != "mul" or len(over) != 1:
        return None
    left, right = node.arg.args
    rows, columns = ([a for a in arranged(side.axes) if a not in over] for side in (left, right))
    both = all(over[0] in side.axes and is_operand(side) for side in (left, right))
    if not both or len(rows) != 1 or len(columns) != 1 or rows == columns:
        return None
    if not {*rows, *columns, *over}.intersection(TOKENS):
        return None
    return Matrices(left, right, rows[0], columns[0], over[0])


def is_plain(node: Solve, arranged: Arranged) -> bool:
    """Whether a triangular system is one matrix with one row of right sides, or a single one."""
    square = set(arranged(node.matrix.axes)) == {node.rows, node.columns}
    return square and len(arranged(node.axes)) <= 2 and is_operand(node.matrix) and is_operand(node.rhs)


def is_operand(node: Expr) -> bool:
    """Whether a value lies in memory, or may be put there."""
    real = node.dtype is DType.REAL
    return real and isinstance(operand(node)[0], Leaf | Apply | Reduce | Scan | Solve)


def operand(node: Expr) -> tuple[Expr, Mapping[str, str]]:
    """What is read for a value that may be renamed, and how its axes are called there."""
    names = {axis: axis for axis in node.axes}
    while isinstance(node, Rename):
        back = {new: old for old, new in node.pairs}
        names = {axis: back.get(old, old) for axis, old in names.items()}
        node = node.arg
    return node, names
