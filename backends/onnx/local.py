"""Attention to a window of tokens: blocks as long as the window, each of which sees itself and the one before.

With a cache of `window - 1` entries in front, and one more to make it whole, block b of the tokens sees the entries
`b · window … (b + 2) · window - 1`, so that scores are two windows wide whatever the length.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir.expr import DType, Expr, Leaf, LeafKind
from seqc.ir.plan import TOKEN
from seqc.ir.recurrence import Store
from seqc.ir.traverse import leaves

from .blocks import block_count, to_blocks, to_tokens
from .lower import Growing, Lowering
from .pairs import Number, both
from .stores import Appended, Documents
from .tensors import BATCH, BLOCKS, TIME, Space, Tensor

STORES = (LeafKind.STORE, LeafKind.STORED, LeafKind.AGE)


def is_local(stores: Sequence[Store]) -> bool:
    """Whether all stores have one window on one axis, and nothing besides it."""
    first = stores[0]
    return (
        first.window is not None
        and first.window > 1
        and not first.sinks
        and all((s.axis, s.window, s.sinks) == (first.axis, first.window, 0) for s in stores)
    )


def local_outputs(
    token: Lowering,
    stores: Sequence[Store],
    appended: Appended,
    documents: Documents,
    outputs: Sequence[Expr],
) -> list[Number]:
    """Token-level expressions over windowed stores."""
    window, axis = stores[0].window, stores[0].axis
    assert window is not None
    assert appended.document is not None
    sizes = {**token.space.sizes, TOKEN: window, axis: 2 * window}
    dynamic = {name: value for name, value in token.space.dynamic.items() if name != axis}
    space = Space(token.space.builder, sizes, dynamic)
    space.dynamic[BLOCKS] = block_count(space, window)
    space.outer = frozenset.intersection(*(frozenset(store.axes) for store in stores))
    blocks = Lowering(space, {})
    for leaf in leaves(outputs):
        if leaf.kind not in STORES:
            value = token.value(leaf)
            blocks.env[leaf] = to_blocks(space, value, window, 0.0) if TIME in value.axes else value
    for store in stores:
        entries = _two_blocks(space, appended.entries[store.name], axis, window)
        blocks.env[store.next] = blocks.env[store.leaf] = entries
    age = _age(space, axis, window)
    blocks.env[Leaf(LeafKind.AGE, axis, (axis,))] = space.cast(age, DType.REAL)
    blocks.growing[axis] = _visible(space, age, appended.document, documents, axis, window)
    return [both(blocks.value(out), lambda t: to_tokens(space, t)) for out in outputs]


def _two_blocks(space: Space, entries: Tensor, axis: str, window: int) -> Tensor:
    """`[batch, entries, …]` as `[blocks, batch, 2 · window, …]`: every block after the one before it."""
    b = space.builder
    rest = tuple(a for a in entries.axes if a not in (BATCH, axis))
    whole = space.transpose(entries, (BATCH, axis, *rest))
    total = b.op("Mul", b.op("Add", space.length(BLOCKS), b.ints(1)), b.ints(window))
    have = b.op("Add", space.length(TIME), b.ints(window - 1))
    missing = b.op("Sub", b.op("Sub", total, have), b.ints(1))
    pads = b.op("Concat", b.ints(1), missing, axis=0)
    fill = b.constant(0, "int64" if entries.kind is DType.INT else "float32")
    padded = b.op("Pad", whole.value, pads, fill, b.ints(1))
    cut = b.op("Reshape", padded, b.ints(0, -1, window, *(space.fixed(a) or 0 for a in rest)))
    before = b.op("Slice", cut, b.ints(0), b.ints(-1), b.ints(1))
    here = b.op("Slice", cut, b.ints(1), b.ints(2**62), b.ints(1))
    both_ = Tensor(b.op("Concat", before, here, axis=2), (BATCH, BLOCKS, axis, *rest), entries.kind)
    return space.transpose(both_, space.ordered(both_.axes))


def _age(space: Space, axis: str, window: int) -> Tensor:
    last = Tensor(space.builder.constant(window, "int64"), (), DType.INT)
    ahead = space.elementwise("Add", space.positions(TOKEN), last)
    return space.elementwise("Sub", ahead, space.positions(axis))


def _visible(
    space: Space, age: Tensor, document: Tensor, documents: Documents, axis: str, window: int
) -> Growing:
    def compare(op: str, x: Tensor, y: int) -> Tensor:
        other = Tensor(space.builder.constant(y, "int64"), (), DType.INT)
        return space.elementwise(op, x, other, kind=DType.BOOL)

    def both_of(x: Tensor, y: Tensor) -> Tensor:
        return space.elementwise("And", x, y, kind=DType.BOOL)

    seen_from = to_blocks(space, documents.index, window, 0.0)
    assert isinstance(seen_from, Tensor)
    same = space.elementwise("Equal", _two_blocks(space, document, axis, window), seen_from, kind=DType.BOOL)
    near = both_of(compare("GreaterOrEqual", age, 0), compare("Less", age, window))
    return Growing(both_of(same, near), both_of(same, both_of(near, compare("Greater", age, 0))))
