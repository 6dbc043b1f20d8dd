"""Triangular systems of a fixed size, through the inverse, in a fixed number of matrix products."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from .builder import Builder
from .control import Unsupported
from .pairs import PARTS, Number, Pair, pack, pair, unpack
from .tensors import Space, Tensor

SMALL = 16  # blocks of this size are inverted side by side before they are joined
_COLUMN = "%column"  # of length 2: what a real and what an imaginary part contribute


def solve_lower(space: Space, matrix: Number, rhs: Number, rows: str, columns: str, upper: bool) -> Number:
    """The x with `x = rhs + matrix · x` for a strictly triangular matrix.

    For complex numbers every entry a + bi of the matrix is the block [[a, -b], [b, a]] of one twice the size, which is
    strictly triangular too.
    """
    if isinstance(matrix, Tensor) and isinstance(rhs, Tensor):
        return _solve(space, matrix, rhs, rows, columns, upper)
    matrix, rhs = pair(space, matrix), pack(space, pair(space, rhs))
    minus = space.elementwise("Neg", matrix.im)
    blocks = space.stack([pack(space, matrix), pack(space, Pair(minus, matrix.re))], _COLUMN)
    twice, across = f"{rows}{PARTS}", f"{columns}{PARTS}"
    space.sizes |= {PARTS: 2, _COLUMN: 2, **dict.fromkeys((twice, across), 2 * _size(space, rows))}
    blocks = _merged(space, blocks, {(rows, PARTS): twice, (columns, _COLUMN): across})
    found = _solve(space, blocks, _merged(space, rhs, {(rows, PARTS): twice}), twice, across, upper)
    return unpack(space, space.ungroup(found, [(rows, PARTS) if a == twice else (a,) for a in found.axes]))


def _merged(space: Space, tensor: Tensor, names: Mapping[tuple[str, str], str]) -> Tensor:
    """The tensor with pairs of its axes merged into one each, behind the others."""
    others = space.ordered(a for a in tensor.axes if not any(a in group for group in names))
    axes = (*others, *(a for group in names for a in group))
    groups = [*((a,) for a in others), *names]
    return space.regroup(space.transpose(tensor, axes), groups, (*others, *names.values()))


def _size(space: Space, axis: str) -> int:
    size = space.fixed(axis)
    if size is None:
        raise Unsupported("solve a triangular system of unknown size")
    return size


def _solve(space: Space, matrix: Tensor, rhs: Tensor, rows: str, columns: str, upper: bool) -> Tensor:
    """The same for real numbers.

    The inverse of a block-triangular matrix is built from the inverses of its two diagonal blocks, from blocks of one
    entry up: as stable as substitution, unlike the product of the matrix's powers, whose entries can be binomials.
    """
    size = _size(space, rows)
    if upper:
        matrix = space.rename(matrix, {rows: columns, columns: rows})
    others = space.ordered(a for a in matrix.axes if a not in (rows, columns))
    matrix = space.transpose(matrix, (*others, rows, columns))
    inverse = Tensor(inverse_lower(space.builder, matrix.value, len(others), size), matrix.axes)
    if upper:
        inverse = space.rename(inverse, {rows: columns, columns: rows})
    return space.matmul(inverse, space.rename(rhs, {rows: columns}), [columns])


def inverse_lower(b: Builder, matrix: ir.Value, lead: int, size: int) -> ir.Value:
    """(I - matrix)^-1 over the last two dimensions, after `lead` others."""
    small = SMALL
    if size <= small or size % small or (size // small) & (size // small - 1):
        return _by_masks(b, matrix, size)
    stacked = _blocks(b, matrix, lead, size, [(k, k) for k in range(size // small)], small)
    result = _by_masks(b, stacked, small)
    while small < size:
        pairs = size // (2 * small)
        below = _blocks(b, matrix, lead, size, [(2 * k + 1, 2 * k) for k in range(pairs)], small)
        result = _join(b, result, below, lead, small)
        small *= 2
    return b.op("Squeeze", result, b.ints(lead))


def _blocks(
    b: Builder, matrix: ir.Value, lead: int, size: int, places: list[tuple[int, int]], small: int
) -> ir.Value:
    """The blocks of `small` by `small` at `places`, side by side along a new dimension after the leading ones."""
    across = size // small
    pieces = b.op("Reshape", matrix, b.ints(*[0] * lead, size * across, small))
    rows = [[(row * small + i) * across + column for i in range(small)] for row, column in places]
    return b.op("Gather", pieces, b.constant(rows, "int64"), axis=lead)


def _join(b: Builder, inverses: ir.Value, below: ir.Value, lead: int, size: int) -> ir.Value:
    """Inverses of twice the size: `[[X, 0], [Y · below · X, Y]]` for neighbouring inverses X and Y."""
    last = b.ints(int(np.iinfo(np.int64).max))
    first = b.op("Slice", inverses, b.ints(0), last, b.ints(lead), b.ints(2))
    second = b.op("Slice", inverses, b.ints(1), last, b.ints(lead), b.ints(2))
    corner = b.op("MatMul", b.op("MatMul", second, below), first)
    top = b.op("Pad", first, b.ints(0, size), None, b.ints(lead + 2))
    bottom = b.op("Concat", corner, second, axis=lead + 2)
    return b.op("Concat", top, bottom, axis=lead + 1)


def _by_masks(b: Builder, matrix: ir.Value, size: int) -> ir.Value:
    """All diagonal blocks of one size at once, the rest masked away."""
    place = np.arange(size)
    result: ir.Value | None = None
    half = 1
    while half < size:
        block, later = place // (2 * half), (place // half) % 2
        mask = (block[:, None] == block[None, :]) & (later[:, None] == 1) & (later[None, :] == 0)
        below = b.op("Mul", matrix, b.constant(mask, "float32"))
        if result is None:
            result = b.op("Add", below, b.constant(np.eye(size), "float32"))
        else:
            result = b.op("Add", result, b.op("MatMul", b.op("MatMul", result, below), result))
        half *= 2
    return result if result is not None else b.op("Add", matrix, b.constant(np.eye(size), "float32"))
