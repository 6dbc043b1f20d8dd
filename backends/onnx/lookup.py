"""Look-ups: entries at computed places, what is sent to places, and the order of entries."""

from __future__ import annotations

from seqc.ir.expr import Axes, DType, Put, Rank, Take

from .tensors import Space, Tensor

_ALL = "%all"


def take(space: Space, node: Take, x: Tensor, index: Tensor) -> Tensor:
    """The entries of `x` at the places `index`, 0 where there is no such place."""
    x = _with(space, x, (node.axis,))
    place, there = _places(space, index, node.axis)
    kept = tuple(axis for axis in x.axes if axis != node.axis)
    if not set(kept) & set(place.axes):
        at = x.axes.index(node.axis)
        rows = space.builder.op("Gather", x.value, place.value, axis=at)
        found = Tensor(rows, (*x.axes[:at], *place.axes, *x.axes[at + 1 :]), x.kind)
        return _where(space, there, found)
    return _where(space, there, _gathered(space, node.axis, x, place, kept))


def _gathered(space: Space, axis: str, x: Tensor, place: Tensor, kept: Axes) -> Tensor:
    """Every entry of the axes that both have looks up its own."""
    free = tuple(a for a in place.axes if a not in kept)
    source = space.transpose(x, (*kept, axis))
    index = space.expand(place, (*kept, *free))
    groups = [*((a,) for a in kept), free]
    flat = _flat(space, index, kept, free)
    rows = space.builder.op("GatherElements", source.value, flat.value, axis=len(kept))
    if not free:
        return Tensor(space.builder.op("Squeeze", rows, space.builder.ints(len(kept))), kept, x.kind)
    return space.ungroup(Tensor(rows, flat.axes, x.kind), groups)


def put(space: Space, node: Put, x: Tensor, index: Tensor) -> Tensor:
    """The sum, over some axes, of what `index` sends to each place."""
    place, there = _places(space, index, node.axis)
    sent = _where(space, there, space.cast(x, DType.REAL))
    kept = tuple(axis for axis in sent.axes if axis not in node.over)
    full = (*kept, *node.over)
    values = _flat(space, space.expand(sent, full), kept, node.over)
    index = _flat(space, space.expand(place, full), kept, node.over)
    empty = space.filled(0.0, (*kept, node.axis))
    result = space.builder.op(
        "ScatterElements", empty.value, index.value, values.value, axis=len(kept), reduction="add"
    )
    return Tensor(result, (*kept, node.axis))


def rank(space: Space, node: Rank, x: Tensor) -> Tensor:
    """Sorted twice: the place of each entry among those that are sorted."""
    x = _with(space, x, (node.axis,))
    x = space.transpose(x, (*(a for a in x.axes if a != node.axis), node.axis))
    b, size = space.builder, space.length(node.axis)
    order = b.ops("TopK", x.value, size, count=2, axis=-1, largest=1)[1]
    place = b.ops("TopK", order, size, count=2, axis=-1, largest=0)[1]
    return space.cast(Tensor(place, x.axes, DType.INT), DType.REAL)


def _places(space: Space, index: Tensor, axis: str) -> tuple[Tensor, Tensor]:
    """Whole numbers as places (0 for what is none), and which of them are places."""
    b = space.builder
    zero, size = space.number(0.0), space.fixed(axis)
    assert size is not None
    low = space.elementwise("GreaterOrEqual", index, zero, kind=DType.BOOL)
    high = space.elementwise("Less", index, space.number(float(size)), kind=DType.BOOL)
    there = space.elementwise("And", low, high, kind=DType.BOOL)
    inside = space.elementwise("Where", there, index, zero, kind=DType.REAL)
    return Tensor(b.op("Cast", inside.value, to=7), inside.axes, DType.INT), there


def _where(space: Space, there: Tensor, x: Tensor) -> Tensor:
    return space.elementwise("Where", there, x, space.number(0.0), kind=DType.REAL)


def _with(space: Space, x: Tensor, axes: Axes) -> Tensor:
    lacking = tuple(axis for axis in axes if axis not in x.axes)
    return space.expand(x, (*x.axes, *lacking)) if lacking else x


def _flat(space: Space, x: Tensor, kept: Axes, free: Axes) -> Tensor:
    """The axes `free`, which come last, as one (of length 1 if there are none)."""
    if not free:
        value = space.builder.op("Unsqueeze", x.value, space.builder.ints(len(kept)))
        return Tensor(value, (*kept, _ALL), x.kind)
    return space.regroup(x, [*((a,) for a in kept), free], (*kept, _ALL))
