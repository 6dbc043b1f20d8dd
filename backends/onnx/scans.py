"""Linear recurrences along an axis of fixed length in a fixed number of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from seqc.ir.expr import Axes, DType
from seqc.ir.plan import BETWEEN

from .control import Unsupported, any_negative, branch
from .pairs import Number, Pair, add, both, mul, pair
from .tensors import UNIT, Space, Tensor

UNROLLED, WIDE = 64, 512  # how many entries are written out one by one, and from which width on
LOWEST_LOG = -1e30  # stands for the logarithm of 0; many of them add up without overflow, and 0 times it is 0


def product_kernel(space: Space, gate: Tensor, axis: str, other: str) -> Tensor:
    """`Π gate[l]` over `other < l <= axis`, 0 where `axis < other`: the influence of one token on a later one.

    Logarithms are summed over masks, so that no difference of long sums is taken; a gate of 0 gives a logarithm so low
    that its exponential is exactly 0, and signs are multiplied apart.
    """
    here, there = space.positions(axis), space.positions(other)
    after = space.cast(space.elementwise("Greater", here, there, kind=DType.BOOL), DType.REAL)
    upto = space.cast(space.elementwise("GreaterOrEqual", here, there, kind=DType.BOOL), DType.REAL)
    logs, signs = _logs(space, gate, axis)
    total = running_sum(space, space.mul(after, logs), axis)
    assert isinstance(total, Tensor)
    if signs is not None:
        upto = space.mul(space.mul(upto, signs), space.rename(signs, {axis: other}))
    return space.mul(space.elementwise("Exp", total), upto)


def running_product(space: Space, gate: Tensor, axis: str) -> Tensor:
    """`Π gate[l]` over `l <= axis`."""
    logs, signs = _logs(space, gate, axis)
    total = running_sum(space, logs, axis)
    assert isinstance(total, Tensor)
    product = space.elementwise("Exp", total)
    return product if signs is None else space.mul(product, signs)


def product_to_last(space: Space, gate: Tensor, axis: str) -> Tensor:
    """`Π gate[l]` over `l > axis`: what is left at the end."""
    logs, signs = _logs(space, gate, axis)
    later = running_sum(space, logs, axis, reverse=True, exclusive=True)
    assert isinstance(later, Tensor)
    left = space.elementwise("Exp", later)
    return left if signs is None else space.mul(space.mul(left, signs), space.entry(signs, axis, -1))


def last_of_scan(space: Space, decay: Tensor, source: Tensor, axis: str) -> Tensor:
    """The last entry of `h[i] = decay[i] · h[i-1] + source[i]`: a sum of what is left of every source at the end."""
    total = contract(space, [product_to_last(space, decay, axis), source], [axis])
    assert isinstance(total, Tensor)
    return total


def scan_by_kernel(space: Space, decay: Tensor, source: Tensor, axis: str) -> Tensor:
    """The same at every entry, as one matrix product: for a source that is much larger than the gates."""
    space.sizes[BETWEEN] = cast(int, space.fixed(axis))
    kernel = product_kernel(space, decay, axis, BETWEEN)
    total = contract(space, [kernel, space.rename(source, {axis: BETWEEN})], [BETWEEN])
    assert isinstance(total, Tensor)
    return total


def _logs(space: Space, gate: Tensor, axis: str) -> tuple[Tensor, Tensor | None]:
    """The logarithms of the magnitudes, and 1 or -1 for the sign of the running product; nodes that are shared.

    An exponential has no sign and is the logarithm's inverse.
    """
    node = gate.value.producer()
    if node is not None and node.op_type == "Exp" and node.inputs[0] is not None:
        logs = Tensor(node.inputs[0], gate.axes, gate.kind)
        return space.elementwise("Max", logs, space.number(LOWEST_LOG)), None
    key = ("logs", gate.value, gate.axes, axis)
    logs, signs = space.builder.once(key, lambda: _new_logs(space, gate, axis))
    assert isinstance(logs, Tensor)
    assert isinstance(signs, Tensor)
    return logs, signs


def _new_logs(space: Space, gate: Tensor, axis: str) -> tuple[Tensor, Tensor]:
    """Gates are seldom negative: where none is, the signs are a single 1."""

    def changing(inner: Space) -> list[Tensor]:
        negative = inner.elementwise("Less", gate, inner.number(0), kind=DType.BOOL)
        count = running_sum(inner, inner.cast(negative, DType.REAL), axis)
        assert isinstance(count, Tensor)
        pairs = inner.elementwise("Floor", inner.mul(count, inner.number(0.5)))
        odd = inner.elementwise("Sub", count, inner.mul(pairs, inner.number(2)))
        return [inner.elementwise("Sub", inner.number(1), inner.mul(odd, inner.number(2)))]

    def positive(inner: Space) -> list[Tensor]:
        return [Tensor(inner.builder.constant(np.ones([1] * len(gate.axes)), "float32"), gate.axes)]

    (signs,) = branch(space, any_negative(space, gate), changing, positive)
    logs = space.elementwise("Log", space.elementwise("Abs", gate))
    return space.elementwise("Max", logs, space.number(LOWEST_LOG)), signs


def shift(space: Space, x: Number, axis: str, by: int) -> Number:
    return both(x, lambda t: space.shift(t, axis, by))


def running_sum(space: Space, x: Number, axis: str, reverse: bool = False, exclusive: bool = False) -> Number:
    """`CumSum`, which is slow along the last dimension: the axis trades places with the one before it."""

    def total(tensor: Tensor) -> Tensor:
        if tensor.axes[-1] == axis and len(tensor.axes) > 1:
            tensor = space.transpose(tensor, (*tensor.axes[:-2], axis, tensor.axes[-2]))
        place = space.builder.constant(tensor.axes.index(axis), "int64")
        value = space.builder.op(
            "CumSum", tensor.value, place, reverse=int(reverse), exclusive=int(exclusive)
        )
        return Tensor(value, tensor.axes, tensor.kind)

    return both(x, total)


def spread(space: Space, x: Number, axis: str) -> Number:
    """The number with `axis`, repeated along it if it lacked it."""
    return both(x, lambda t: t if axis in t.axes else space.expand(t, (*t.axes, axis)))


def linear_scan(
    space: Space, decay: Number, source: Number, axis: str, reverse: bool, columns: tuple[str, str] | None
) -> Number:
    """`h[i] = decay[i] · h[i-1] + source[i]`, exact at gates of zero: no logarithm and no division.

    One entry after another where an entry is large, else by doubling, which reads everything many times.
    """
    size = space.fixed(axis)
    if size is None:
        raise Unsupported("scan along a sequence of unknown length without blocks")
    if columns is None and size <= UNROLLED and space.guess({*decay.axes, *source.axes} - {axis}) >= WIDE:
        return _unrolled(space, decay, spread(space, source, axis), axis, reverse, size)
    result, reach = spread(space, source, axis), 1
    while reach < size:
        by = -reach if reverse else reach
        result = add(space, result, _advance(space, decay, shift(space, result, axis, by), columns))
        if reach * 2 < size:
            earlier = shift(space, decay, axis, by) if axis in decay.axes else decay
            decay = _compose(space, decay, earlier, columns)
        reach *= 2
    return result


def _unrolled(space: Space, decay: Number, source: Number, axis: str, reverse: bool, size: int) -> Number:
    decays, sources = (_entries(space, x, axis, size) for x in (decay, source))
    order = range(size - 1, -1, -1) if reverse else range(size)
    results: dict[int, Number] = {}
    state: Number | None = None
    for i in order:
        state = sources[i] if state is None else add(space, mul(space, decays[i], state), sources[i])
        results[i] = state
    found = [results[i] for i in range(size)]
    if not any(isinstance(x, Pair) for x in found):
        return space.gather([x for x in found if isinstance(x, Tensor)], axis)
    pairs = [pair(space, x) for x in found]
    return Pair(space.gather([z.re for z in pairs], axis), space.gather([z.im for z in pairs], axis))


def _entries(space: Space, x: Number, axis: str, size: int) -> list[Number]:
    """The entries along an axis, each without it."""
    if isinstance(x, Pair):
        parts = zip(_entries(space, x.re, axis, size), _entries(space, x.im, axis, size), strict=True)
        return [Pair(re, im) for re, im in parts if isinstance(re, Tensor) and isinstance(im, Tensor)]
    if axis not in x.axes:
        return [x] * size
    first = space.transpose(x, (axis, *(a for a in x.axes if a != axis)))
    pieces = space.builder.ops("Split", first.value, count=size, axis=0, num_outputs=size)
    return [Tensor(piece, (UNIT, *first.axes[1:]), x.kind) for piece in pieces]


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
