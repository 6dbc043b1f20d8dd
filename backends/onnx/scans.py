"""Linear recurrences and triangular systems along an axis of fixed length, in a fixed number of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import onnx_ir as ir

from seqc.ir.expr import Axes, DType

from .builder import Builder
from .pairs import Number, Pair, add, both, mul, pair
from .tensors import BATCH, Space, Tensor


class Unsupported(Exception):
    """What this backend cannot express; the text completes the sentence "the ONNX backend cannot …"."""


def shift(space: Space, x: Number, axis: str, by: int) -> Number:
    return both(x, lambda t: space.shift(t, axis, by))


def running_sum(space: Space, x: Number, axis: str, reverse: bool) -> Number:
    def total(tensor: Tensor) -> Tensor:
        place = space.builder.constant(tensor.axes.index(axis), "int64")
        value = space.builder.op("CumSum", tensor.value, place, reverse=int(reverse))
        return Tensor(value, tensor.axes, tensor.kind)

    return both(x, total)


def spread(space: Space, x: Number, axis: str) -> Number:
    """The number with `axis`, repeated along it if it lacked it."""
    return both(x, lambda t: t if axis in t.axes else space.expand(t, (*t.axes, axis)))


def linear_scan(
    space: Space, decay: Number, source: Number, axis: str, reverse: bool, columns: tuple[str, str] | None
) -> Number:
    """`h[i] = decay[i] · h[i-1] + source[i]`, by doubling: exact at gates of zero, no logarithm and no division."""
    size = space.fixed(axis)
    if size is None:
        raise Unsupported("scan along a sequence of unknown length without blocks")
    result, reach = spread(space, source, axis), 1
    while reach < size:
        by = -reach if reverse else reach
        result = add(space, result, _advance(space, decay, shift(space, result, axis, by), columns))
        if reach * 2 < size:
            earlier = shift(space, decay, axis, by) if axis in decay.axes else decay
            decay = _compose(space, decay, earlier, columns)
        reach *= 2
    return result


def _advance(space: Space, decay: Number, state: Number, columns: tuple[str, str] | None) -> Number:
    if columns is None:
        return mul(space, decay, state)
    written, read = columns
    renamed = both(state, lambda t: space.rename(t, {written: read}))
    return contract(space, [decay, renamed], [read])


def _compose(space: Space, later: Number, earlier: Number, columns: tuple[str, str] | None) -> Number:
    if columns is None:
        return mul(space, later, earlier)
    written, read = columns
    inner = "%inner"
    space.sizes[inner] = cast(int, space.fixed(read))
    left = both(later, lambda t: space.rename(t, {read: inner}))
    right = both(earlier, lambda t: space.rename(t, {written: inner}))
    return contract(space, [left, right], [inner])


def contract(space: Space, factors: Sequence[Number], over: Sequence[str]) -> Number:
    """The sum over axes of a product of numbers, real or complex."""
    reals = [f for f in factors if isinstance(f, Tensor)]
    pairs = [f for f in factors if isinstance(f, Pair)]
    if not pairs:
        return space.contract(reals, over)
    while len(pairs) > 2:
        pairs = [pair(space, mul(space, pairs[0], pairs[1])), *pairs[2:]]
    if len(pairs) == 1:
        z = pairs[0]
        return Pair(*(_sum_product(space, [*reals, part], over, z.axes) for part in (z.re, z.im)))
    x, y = pairs

    def product(a: Tensor, b: Tensor) -> Tensor:
        return _sum_product(space, [*reals, a, b], over, (*x.axes, *y.axes))

    re = space.elementwise("Sub", product(x.re, y.re), product(x.im, y.im))
    return Pair(re, space.elementwise("Add", product(x.re, y.im), product(x.im, y.re)))


def _sum_product(space: Space, factors: Sequence[Tensor], over: Sequence[str], axes: Axes) -> Tensor:
    """Like `Space.contract`, also where a part of a complex number lacks a summed axis that the other one has."""
    present = {a for t in factors for a in t.axes}
    lacking = tuple(a for a in over if a not in present and a in axes)
    ones = [space.filled(1.0, lacking)] if lacking else []
    return space.contract([*factors, *ones], over)


def solve_lower(space: Space, matrix: Tensor, rhs: Tensor, rows: str, columns: str, upper: bool) -> Tensor:
    """The x with `x = rhs + matrix · x` for a strictly triangular matrix, through its inverse.

    The inverse of a block-triangular matrix is built from the inverses of its two diagonal blocks, from blocks of one
    entry up: as stable as substitution, unlike the product of the matrix's powers, whose entries can be binomials.
    """
    size = space.fixed(rows)
    if size is None:
        raise Unsupported("solve a triangular system of unknown size")
    if upper:
        matrix = space.rename(matrix, {rows: columns, columns: rows})
    others = tuple(a for a in matrix.axes if a not in (rows, columns))
    matrix = space.transpose(matrix, (*others, rows, columns))
    inverse = Tensor(_inverse(space.builder, matrix, size), matrix.axes)
    if upper:
        inverse = space.rename(inverse, {rows: columns, columns: rows})
    return space.matmul(inverse, space.rename(rhs, {rows: columns}), [columns])


def _inverse(b: Builder, matrix: Tensor, size: int) -> ir.Value:
    """(I - matrix)^-1 over the last two dimensions."""
    place = np.arange(size)
    result: ir.Value | None = None
    half = 1
    while half < size:
        block, later = place // (2 * half), (place // half) % 2
        mask = (block[:, None] == block[None, :]) & (later[:, None] == 1) & (later[None, :] == 0)
        below = b.op("Mul", matrix.value, b.constant(mask, "float32"))
        if result is None:
            result = b.op("Add", below, b.constant(np.eye(size), "float32"))
        else:
            result = b.op("Add", result, b.op("MatMul", b.op("MatMul", result, below), result))
        half *= 2
    return result if result is not None else b.op("Add", matrix.value, b.constant(np.eye(size), "float32"))


Body = Callable[[Space, list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]]


def loop(
    space: Space, axis: str, states: Sequence[Tensor], scanned: Sequence[Tensor], body: Body
) -> tuple[list[Tensor], list[Tensor]]:
    """An ONNX `Scan` over `axis`: the states after the last entry, and what `body` returns, stacked along `axis`.

    `body(space, states, entries)` gets the tensors without `axis`; the states that it returns are brought to the axes
    of those that came in.
    """
    scanned = list(scanned) or [space.positions(axis)]
    child = Builder(space.builder)
    inner = space.inside(child)
    states_in = [_body_input(inner, "before", t, t.axes) for t in states]
    entries = [_body_input(inner, "entry", t, tuple(a for a in t.axes if a != axis)) for t in scanned]
    after, results = body(inner, states_in, entries)
    after = [inner.expand(t, s.axes) for t, s in zip(after, states, strict=True)]
    outs: list[Tensor] = []
    for tensor in (*after, *results):
        outs.append(
            Tensor(child.op("Identity", tensor.value, name=f"out{len(outs)}"), tensor.axes, tensor.kind)
        )
        child.forget()
    places = [int(bool(t.axes) and t.axes[0] == BATCH) for t in outs[len(states) :]]
    values = space.builder.ops(
        "Scan",
        *(t.value for t in states),
        *(t.value for t in scanned),
        count=len(outs),
        body=child.graph("body", [t.value for t in outs], {}),
        num_scan_inputs=len(scanned),
        scan_input_axes=[t.axes.index(axis) for t in scanned],
        scan_output_axes=places,
    )
    finals = [Tensor(v, t.axes, t.kind) for v, t in zip(values, states, strict=False)]
    stacked = [
        Tensor(v, (*t.axes[:place], axis, *t.axes[place:]), t.kind)
        for v, t, place in zip(values[len(states) :], outs[len(states) :], places, strict=True)
    ]
    return finals, stacked


def _body_input(space: Space, name: str, tensor: Tensor, axes: Axes) -> Tensor:
    shape: list[int | str] = []
    for axis in axes:
        size = space.fixed(axis)
        shape.append(size if size is not None else axis.strip("%"))
    dtype = {DType.REAL: "float32", DType.INT: "int64", DType.BOOL: "bool"}[tensor.kind]
    return Tensor(space.builder.input(name, dtype, shape), axes, tensor.kind)
