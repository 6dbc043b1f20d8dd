"""Tensors with named axes on top of the builder: alignment, matrix products, and moves along an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import onnx_ir as ir

from seqc.ir.expr import Axes, DType
from seqc.ir.plan import BETWEEN, OTHER, TOKEN

from .builder import Builder

BATCH, TIME, BLOCKS = "%batch", "%time", "%blocks"
UNIT = "%unit"  # an axis of length 1 in the place of one that was split
_RANKS = {UNIT: -1, BLOCKS: 0, BATCH: 1, TIME: 2, TOKEN: 4, BETWEEN: 5, OTHER: 6}
_OUTER, _PLAIN = 3, 7
_GUESSES = {BATCH: 1, TIME: 256, BLOCKS: 8, TOKEN: 64, OTHER: 64, BETWEEN: 64}
STORED = {DType.REAL: "float32", DType.INT: "int64", DType.BOOL: "bool"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An ONNX value whose dimensions are named; batch and time are names like any other."""

    value: ir.Value
    axes: Axes
    kind: DType = DType.REAL


class Space:
    """Operations on named tensors; `sizes` are the fixed lengths, `dynamic` the lengths known when the graph runs.

    A space made with `inside` shares the lengths and builds into the body of a control-flow node.
    """

    def __init__(self, builder: Builder, sizes: Mapping[str, int], dynamic: Mapping[str, ir.Value]) -> None:
        self.builder = builder
        self.sizes = {**sizes, UNIT: 1}
        self.dynamic = dict(dynamic)
        self.outer: frozenset[str] = frozenset()
        self.last: Axes = ()

    def inside(self, builder: Builder) -> Space:
        space = Space(builder, self.sizes, self.dynamic)
        space.outer, space.last = self.outer, self.last
        return space

    # --- the order of axes ------------------------------------------------------------------------------------

    def ordered(self, axes: Iterable[str]) -> Axes:
        """Blocks, batch, time, the axes in `outer` (batched over in matrix products), tokens, the rest as given.

        The axes of `last` stand behind all others, in that order.
        """

        def rank(axis: str) -> int:
            if axis in self.last and axis not in self.outer:
                return _PLAIN + 1 + self.last.index(axis)
            return _RANKS.get(axis, _OUTER if axis in self.outer else _PLAIN)

        return tuple(sorted(dict.fromkeys(axes), key=rank))

    def merge(self, tensors: Sequence[Tensor]) -> Axes:
        """An order for the union of axes in which few tensors have to be transposed."""
        base: list[str] = list(max(tensors, key=lambda t: len(t.axes)).axes)
        for tensor in tensors:
            place = 0
            for axis in tensor.axes:
                if axis in base:
                    place = base.index(axis) + 1
                else:
                    base.insert(place, axis)
                    place += 1
        return self.ordered(base)

    # --- lengths --------------------------------------------------------------------------------------------

    def fixed(self, axis: str) -> int | None:
        """The length of an axis if it is known now."""
        if axis in self.dynamic:
            return None
        return self.sizes[axis] if axis in self.sizes else self.sizes[axis.split("~")[0]]

    def guess(self, axes: Iterable[str]) -> int:
        """About how many entries a tensor has."""
        return math.prod(self.fixed(a) or _GUESSES.get(a, 256) for a in axes)

    def length(self, axis: str) -> ir.Value:
        """The length of an axis as an int64 tensor of shape [1]."""
        size = self.fixed(axis)
        return self.dynamic[axis] if size is None else self.builder.ints(size)

    def shape(self, axes: Sequence[str]) -> ir.Value:
        """The lengths of axes as one int64 tensor."""
        if all(self.fixed(a) is not None for a in axes):
            return self.builder.ints(*(self.fixed(a) or 0 for a in axes))
        if len(axes) == 1:
            return self.length(axes[0])
        return self.builder.op("Concat", *(self.length(a) for a in axes), axis=0, name="shape")

    def measure(self, tensor: Tensor, axis: str) -> ir.Value:
        """The length that a tensor has along an axis, as an int64 tensor of shape [1]."""
        place = tensor.axes.index(axis)
        return self.builder.op("Shape", tensor.value, start=place, end=place + 1, name="length")

    # --- constants ------------------------------------------------------------------------------------------

    def number(self, value: float) -> Tensor:
        return Tensor(self.builder.constant(value, "float32"), ())

    def filled(self, value: float, axes: Axes, kind: DType = DType.REAL) -> Tensor:
        """One value everywhere."""
        scalar = Tensor(self.builder.constant(value, STORED[kind]), (), kind)
        return self.expand(scalar, axes)

    def positions(self, axis: str) -> Tensor:
        """0, 1, … along an axis, as integers."""
        size = self.fixed(axis)
        if size is not None:
            return Tensor(self.builder.constant(np.arange(size), "int64"), (axis,), DType.INT)
        zero, one = self.builder.constant(0, "int64"), self.builder.constant(1, "int64")
        end = self.builder.op("Squeeze", self.dynamic[axis], self.builder.ints(0))
        return Tensor(self.builder.op("Range", zero, end, one, name="positions"), (axis,), DType.INT)

    # --- order and rank -------------------------------------------------------------------------------------

    def transpose(self, tensor: Tensor, axes: Axes) -> Tensor:
        """The same entries with the axes in another order."""
        if tensor.axes == axes:
            return tensor
        perm = [tensor.axes.index(a) for a in axes]
        return Tensor(self.builder.op("Transpose", tensor.value, perm=perm), axes, tensor.kind)

    def align(self, tensor: Tensor, axes: Axes) -> ir.Value:
        """A value that broadcasts against `axes`: in that order, with a dimension of 1 for each inner axis it lacks."""
        mine = self.transpose(tensor, tuple(a for a in axes if a in tensor.axes))
        if not mine.axes:
            return mine.value
        inner = axes[axes.index(mine.axes[0]) :]
        missing = [i for i, a in enumerate(inner) if a not in mine.axes]
        if not missing:
            return mine.value
        return self.builder.op("Unsqueeze", mine.value, self.builder.ints(*missing))

    def elementwise(self, op: str, *tensors: Tensor, kind: DType | None = None, **attributes: Any) -> Tensor:
        """A broadcasting node."""
        slim = [self._without_units(t) for t in tensors]
        axes = self.merge(slim)
        values = [self.align(t, axes) for t in slim]
        return Tensor(self.builder.op(op, *values, **attributes), axes, kind or tensors[0].kind)

    def _without_units(self, tensor: Tensor) -> Tensor:
        """A constant without its axes of length 1, which say nothing: others need not be aligned to them then."""
        if tensor.value.const_value is None or tensor.value.is_graph_input():
            return tensor
        rest = tuple(a for a in tensor.axes if a == UNIT or self.fixed(a) != 1)
        if rest == tensor.axes:
            return tensor
        sizes = [self.fixed(a) or 0 for a in rest]
        return Tensor(self.builder.op("Reshape", tensor.value, self.builder.ints(*sizes)), rest, tensor.kind)

    def expand(self, tensor: Tensor, axes: Axes) -> Tensor:
        """The tensor with exactly these axes in this order, repeated along those it lacks."""
        if set(tensor.axes) == set(axes):
            return self.transpose(tensor, axes)
        lacking = [i for i, a in enumerate(axes) if a not in tensor.axes]
        if all(self.fixed(axes[i]) == 1 for i in lacking):
            mine = self.transpose(tensor, tuple(a for a in axes if a in tensor.axes))
            value = self.builder.op("Unsqueeze", mine.value, self.builder.ints(*lacking))
            return Tensor(value, axes, tensor.kind)
        value = self.builder.op("Expand", self.align(tensor, axes), self.shape(axes))
        return Tensor(value, axes, tensor.kind)

    def rename(self, tensor: Tensor, mapping: Mapping[str, str]) -> Tensor:
        return Tensor(tensor.value, tuple(mapping.get(a, a) for a in tensor.axes), tensor.kind)

    def cast(self, tensor: Tensor, kind: DType) -> Tensor:
        if tensor.kind is kind:
            return tensor
        to = {DType.REAL: 1, DType.INT: 7, DType.BOOL: 9}[kind]
        return Tensor(self.builder.op("Cast", tensor.value, to=to), tensor.axes, kind)

    def regroup(self, tensor: Tensor, groups: Sequence[tuple[str, ...]], names: Axes) -> Tensor:
        """Neighbouring axes merged: `groups` partition the tensor's axes in order; the results are called `names`."""
        flat = [a for group in groups for a in group]
        assert tuple(flat) == tensor.axes, (groups, tensor.axes)
        if all(len(group) == 1 for group in groups):
            return Tensor(tensor.value, names, tensor.kind)
        target: list[int | tuple[str, ...]] = []
        for place, group in enumerate(groups):
            sizes = [self.fixed(a) for a in group]
            if all(s is not None for s in sizes):
                target.append(math.prod(s or 0 for s in sizes))
            elif len(group) == 1 and place < len(tensor.axes) and tensor.axes[place] == group[0]:
                target.append(0)
            else:
                target.append(group)
        return Tensor(self._reshape(tensor.value, target), names, tensor.kind)

    def ungroup(self, tensor: Tensor, groups: Sequence[tuple[str, ...]]) -> Tensor:
        """The inverse of `regroup`: each axis becomes the axes of its group again, but for those of length 1."""
        groups = [tuple(a for a in g if self.fixed(a) != 1) if len(g) > 1 else g for g in groups]
        axes = tuple(a for group in groups for a in group)
        if all(len(group) == 1 for group in groups):
            return Tensor(tensor.value, axes, tensor.kind)
        target: list[int | tuple[str, ...]] = []
        source = [group[0] if len(group) == 1 else "" for group in groups]
        for place, axis in enumerate(axes):
            size = self.fixed(axis)
            if size is not None:
                target.append(size)
            else:
                target.append(0 if place < len(source) and source[place] == axis else (axis,))
        return Tensor(self._reshape(tensor.value, target), axes, tensor.kind)

    def _reshape(self, value: ir.Value, target: Sequence[int | tuple[str, ...]]) -> ir.Value:
        """Reshape to fixed lengths, 0 (as in the input) and products of axes, of which one is left to be inferred."""
        open_places = [entry for entry in target if isinstance(entry, tuple)]
        if len(open_places) <= 1:
            return self.builder.op(
                "Reshape", value, self.builder.ints(*(-1 if isinstance(e, tuple) else e for e in target))
            )
        parts = [self._product(e) if isinstance(e, tuple) else self.builder.ints(e) for e in target]
        return self.builder.op("Reshape", value, self.builder.op("Concat", *parts, axis=0, name="shape"))

    def _product(self, axes: Sequence[str]) -> ir.Value:
        result = self.length(axes[0])
        for axis in axes[1:]:
            result = self.builder.op("Mul", result, self.length(axis))
        return result

    # --- moves along an axis --------------------------------------------------------------------------------

    def cut(self, tensor: Tensor, axis: str, start: int, stop: int, new: str | None = None) -> Tensor:
        """The entries `start … stop - 1` of an axis."""
        place = tensor.axes.index(axis)
        b = self.builder
        value = b.op("Slice", tensor.value, b.ints(start), b.ints(stop), b.ints(place))
        return Tensor(value, tuple(new or a if a == axis else a for a in tensor.axes), tensor.kind)

    def entry(self, tensor: Tensor, axis: str, index: int) -> Tensor:
        """One entry of an axis, which is then gone."""
        place = tensor.axes.index(axis)
        value = self.builder.op("Gather", tensor.value, self.builder.constant(index, "int64"), axis=place)
        return Tensor(value, tuple(a for a in tensor.axes if a != axis), tensor.kind)

    def concat(self, tensors: Sequence[Tensor], axis: str) -> Tensor:
        """Tensors one after another along `axis`, which all of them have; they are expanded to the same axes."""
        order = self.merge(tensors)
        values: list[ir.Value] = []
        for tensor in tensors:
            lacking = [a for a in order if a not in tensor.axes]
            full = tensor if not lacking else self._grow(tensor, order, axis)
            values.append(self.transpose(full, order).value)
        return Tensor(self.builder.op("Concat", *values, axis=order.index(axis)), order, tensors[0].kind)

    def _grow(self, tensor: Tensor, order: Axes, axis: str) -> Tensor:
        aligned = self.align(tensor, order)
        parts = [self.builder.ints(1) if a == axis else self.length(a) for a in order]
        shape = self.builder.op("Concat", *parts, axis=0, name="shape")
        return Tensor(self.builder.op("Expand", aligned, shape), order, tensor.kind)

    def gather(self, tensors: Sequence[Tensor], axis: str) -> Tensor:
        """Entries with the leading axis `UNIT` one after another along `axis`, in the usual order of axes."""
        order = self.merge(tensors)
        order = (UNIT, *(a for a in order if a != UNIT))
        values = [
            self._grow(t, order, UNIT).value if set(t.axes) != set(order) else self.transpose(t, order).value
            for t in tensors
        ]
        whole = Tensor(self.builder.op("Concat", *values, axis=0), (axis, *order[1:]), tensors[0].kind)
        return self.transpose(whole, self.ordered(whole.axes))

    def stack(self, tensors: Sequence[Tensor], axis: str) -> Tensor:
        """Tensors side by side along a new last axis."""
        axes = self.merge(tensors)
        whole = [self.expand(t, axes) for t in tensors]
        last = self.builder.ints(len(axes))
        values = [self.builder.op("Unsqueeze", t.value, last) for t in whole]
        return Tensor(self.builder.op("Concat", *values, axis=len(axes)), (*axes, axis), tensors[0].kind)

    def shift(self, tensor: Tensor, axis: str, by: int, fill: float = 0.0) -> Tensor:
        """Entries moved towards the end (towards the start when negative), `fill` where nothing comes from."""
        if by == 0:
            return tensor
        place, rank = tensor.axes.index(axis), len(tensor.axes)
        pads = [0] * (2 * rank)
        pads[place], pads[rank + place] = by, -by
        b = self.builder
        value = b.op("Pad", tensor.value, b.ints(*pads), b.constant(fill, STORED[tensor.kind]))
        return Tensor(value, tensor.axes, tensor.kind)

    def pad_end(self, tensor: Tensor, axis: str, count: ir.Value, fill: float) -> Tensor:
        """`count` (an int64 tensor of shape [1]) more entries at the end of an axis."""
        place, b = tensor.axes.index(axis), self.builder
        pads = b.op("Concat", b.ints(0), count, axis=0, name="pads")
        value = b.op("Pad", tensor.value, pads, b.constant(fill, STORED[tensor.kind]), b.ints(place))
        return Tensor(value, tensor.axes, tensor.kind)

    def flip(self, tensor: Tensor, axis: str) -> Tensor:
        place, b = tensor.axes.index(axis), self.builder
        low = int(np.iinfo(np.int64).min)
        value = b.op("Slice", tensor.value, b.ints(-1), b.ints(low), b.ints(place), b.ints(-1))
        return Tensor(value, tensor.axes, tensor.kind)

    # --- reductions and matrix products ---------------------------------------------------------------------

    def reduce(self, op: str, tensor: Tensor, over: Iterable[str]) -> Tensor:
        """`sum`, `max` or `sumsq` (the sum of squares) over axes that the tensor has."""
        places = [tensor.axes.index(a) for a in over]
        if not places:
            return tensor
        node = {"sum": "ReduceSum", "max": "ReduceMax", "sumsq": "ReduceSumSquare"}[op]
        value = self.builder.op(node, tensor.value, self.builder.ints(*sorted(places)), keepdims=0)
        return Tensor(value, tuple(a for i, a in enumerate(tensor.axes) if i not in places), tensor.kind)

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        return self.elementwise("Mul", x, y)

    def contract(self, factors: Sequence[Tensor], over: Iterable[str]) -> Tensor:
        """The sum over `over` of the product of `factors`, two at a time, the cheapest pair first."""
        parts, left = list(factors), list(dict.fromkeys(over))
        outside = [t for t in parts if not set(t.axes) & set(left)]
        parts = [t for t in parts if set(t.axes) & set(left)]
        outside = self._absorb(parts, outside, left)
        while left or len(parts) > 1:
            for axis in list(left):
                owners = [t for t in parts if axis in t.axes]
                if len(owners) == 1:
                    parts[parts.index(owners[0])] = self.reduce("sum", owners[0], [axis])
                    left.remove(axis)
            if len(parts) == 1:
                continue
            i, j = self._cheapest(parts)  # places: a factor may be there twice
            a, b = parts[i], parts[j]
            parts = [t for k, t in enumerate(parts) if k not in (i, j)]
            done = [x for x in left if not any(x in t.axes for t in parts)]
            parts.append(self.matmul(a, b, done))
            left = [x for x in left if x not in done]
        for factor in sorted(outside, key=lambda t: len(t.axes)):
            parts[0] = self.mul(parts[0], factor)
        return parts[0]

    def _absorb(self, parts: list[Tensor], outside: list[Tensor], over: Sequence[str]) -> list[Tensor]:
        """Multiply what is not summed over into a factor that is smaller than the result; returns the others."""
        result = self.guess({a for t in (*parts, *outside) for a in t.axes if a not in over})
        left: list[Tensor] = []
        for factor in outside:
            hosts = [t for t in parts if set(factor.axes) <= set(t.axes) and t.kind is DType.REAL]
            host = min(hosts, key=lambda t: self.guess(t.axes), default=None)
            if host is None or self.guess(host.axes) >= result:
                left.append(factor)
            else:
                parts[parts.index(host)] = self.mul(host, factor)
        return left

    def _cheapest(self, parts: Sequence[Tensor]) -> tuple[int, int]:
        """The places of the pair with the smallest product.

        Of equal ones a pair where the larger factor does not grow, and of those the one whose smaller factor has the
        later axes, so that the earlier ones are left for a matrix product.
        """

        def cost(pair: tuple[int, int]) -> tuple[int, int, int]:
            small, large = sorted((parts[i] for i in pair), key=lambda t: len(t.axes))
            places = [large.axes.index(a) if a in large.axes else -100 for a in small.axes]
            return self.guess({*small.axes, *large.axes}), int(min(places, default=0) < 0), -sum(places)

        return min(combinations(range(len(parts)), 2), key=cost)

    def matmul(self, a: Tensor, b: Tensor, over: Iterable[str]) -> Tensor:
        """Σ_over a · b, where both have the axes `over`."""
        inner = tuple(x for x in a.axes if x in set(over))
        if not inner:
            return self.mul(a, b)
        batch = self.ordered(x for x in a.axes if x in b.axes and x not in inner)
        rows = tuple(x for x in a.axes if x not in batch and x not in inner)
        columns = tuple(x for x in b.axes if x not in batch and x not in inner)
        if len(rows) < len(columns) and not rows:
            a, b, rows, columns = b, a, columns, rows
        if not columns and (not batch or not rows or self.guess(rows) * self.guess(inner) < 64):
            return self.reduce("sum", self.mul(a, b), inner)
        if not batch:
            if set(columns) & {BATCH, TIME, BLOCKS}:
                a, b, rows, columns = b, a, columns, rows
            return self._product_of_matrices(a, b, (), self.ordered(rows), inner, columns)
        if not columns:
            return self._matrices_times_vectors(a, b, batch, self.ordered(rows), inner)
        return self._product_of_matrices(a, b, batch, self.ordered(rows), inner, self.ordered(columns))

    def _matrices_times_vectors(self, a: Tensor, b: Tensor, batch: Axes, rows: Axes, inner: Axes) -> Tensor:
        """Rows but the last are batched over, which needs no reshaping."""
        if len(inner) > 1:
            return self._product_of_matrices(a, b, batch, rows, inner, ())
        a = self.transpose(a, (*batch, *rows, *inner))
        b = self.transpose(b, (*batch, *inner))
        place, first = self.builder, len(batch)
        ones = [*range(first, first + len(rows) - 1), first + len(rows)]
        value = place.op("MatMul", a.value, place.op("Unsqueeze", b.value, place.ints(*ones)))
        value = place.op("Squeeze", value, place.ints(first + len(rows)))
        return Tensor(value, (*batch, *rows))

    def _product_of_matrices(
        self, a: Tensor, b: Tensor, batch: Axes, rows: Axes, inner: Axes, columns: Axes
    ) -> Tensor:
        a = self.transpose(a, (*batch, *rows, *inner))
        b = self.transpose(b, (*batch, *inner, *columns))
        one = [(x,) for x in batch]
        row_groups = [(x,) for x in rows] if not batch else ([rows] if rows else [])
        a = self.regroup(
            a, [*one, *row_groups, inner], (*batch, *("%r" + str(i) for i, _ in enumerate(row_groups)), "%c")
        )
        column_groups = [columns] if columns else []
        b = self.regroup(b, [*one, inner, *column_groups], (*batch, "%c", *("%n" for _ in column_groups)))
        left, right, place = a.value, b.value, self.builder
        if not rows:
            left = place.op("Unsqueeze", left, place.ints(len(batch)))
        if not columns:
            right = place.op("Unsqueeze", right, place.ints(len(batch) + 1))
        value = place.op("MatMul", left, right)
        if not columns:
            value = place.op("Squeeze", value, place.ints(len(batch) + max(len(row_groups), 1)))
        if not rows:
            value = place.op("Squeeze", value, place.ints(len(batch)))
        groups = [*one, *row_groups, *column_groups]
        names = tuple(group[0] if len(group) == 1 else "" for group in groups)
        return self.ungroup(Tensor(value, names, DType.REAL), groups)
