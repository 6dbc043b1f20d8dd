"""Tokens cut into blocks, and put together again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import onnx_ir as ir

from seqc.ir.expr import DType, Expr, Leaf, LeafKind
from seqc.ir.plan import FRESH, RESTART, TOKEN, VALID, Plan
from seqc.passes.schedule import schedule

from .pairs import Number, Pair, both
from .tensors import BATCH, BLOCKS, TIME, Space, Tensor

BLOCK = (
    32  # tokens of a stage of matrix products: fewer operations than in 64, more of them a node than in 16
)


def in_blocks(plan: Plan) -> Plan:
    """The plan with the blocks of this backend."""
    if plan.mode != "chunk" or any(stage.phase is not None for stage in plan.stages):
        return plan
    return schedule(plan.recurrence, plan.mode, BLOCK)


class Cut(Protocol):
    """How blocks lie over the tokens of a call."""

    @property
    def count(self) -> ir.Value:
        """The number of blocks, an int64 tensor of shape [1]."""
        ...

    @property
    def marks(self) -> Mapping[Expr, Number]:
        """What the expressions of a stage may ask about its blocks besides its inputs."""
        ...

    @property
    def after(self) -> Mapping[str, Number]:
        """The states that follow from the cut alone, after the last token."""
        ...

    def enter(self, value: Number, padding: float) -> Number:
        """Token level to block level."""
        ...

    def leave(self, tensor: Tensor) -> Tensor:
        """Block level to token level."""
        ...


class Even:
    """Blocks that begin at every `size`-th token of the call."""

    marks: Mapping[Expr, Number] = {}
    after: Mapping[str, Number] = {}

    def __init__(self, space: Space, size: int) -> None:
        self.space, self.size = space, size
        self.count = space.length(TIME) if size == 1 else block_count(space, size)

    def enter(self, value: Number, padding: float) -> Number:
        if self.size == 1:
            return both(value, lambda t: self.space.rename(t, {TIME: BLOCKS}))
        return to_blocks(self.space, value, self.size, padding)

    def leave(self, tensor: Tensor) -> Tensor:
        if self.size == 1:
            return self.space.rename(tensor, {BLOCKS: TIME})
        return to_tokens(self.space, tensor)


def block_count(space: Space, block: int) -> ir.Value:
    b = space.builder
    return b.op("Div", b.op("Add", space.length(TIME), b.ints(block - 1)), b.ints(block), name="blocks")


def with_time(space: Space, tensor: Tensor) -> Tensor:
    axes = space.ordered((*tensor.axes, TIME))
    return space.transpose(tensor, axes) if TIME in tensor.axes else space.expand(tensor, axes)


def to_blocks(space: Space, value: Number, block: int, padding: float) -> Number:
    """Token level to block level, the last block completed with `padding`."""
    if block == 1:
        return both(value, lambda t: space.rename(t, {TIME: BLOCKS}))
    b = space.builder
    missing = b.op(
        "Sub", b.op("Mul", space.length(BLOCKS), b.ints(block)), space.length(TIME), name="missing"
    )

    def split(tensor: Tensor, fill: float) -> Tensor:
        tensor = with_time(space, tensor)
        padded = space.pad_end(tensor, TIME, missing, fill)
        place = tensor.axes.index(TIME)
        rest = tensor.axes[place + 1 :]
        sizes = [space.fixed(a) or 0 for a in rest]
        value = b.op("Reshape", padded.value, b.ints(*[0] * place, -1, block, *sizes))
        result = Tensor(value, (*tensor.axes[:place], BLOCKS, TOKEN, *rest), tensor.kind)
        return space.transpose(result, space.ordered(result.axes))

    if isinstance(value, Pair):
        return Pair(split(value.re, padding), split(value.im, 0.0))
    return split(value, padding)


def to_tokens(space: Space, tensor: Tensor) -> Tensor:
    """Block level to token level, without the padding."""
    if BLOCKS not in tensor.axes and TOKEN not in tensor.axes:
        return tensor
    rest = tuple(a for a in space.ordered(tensor.axes) if a not in (BATCH, BLOCKS, TOKEN))
    lead = (BATCH,) if BATCH in tensor.axes else ()
    full = space.expand(tensor, (*lead, BLOCKS, TOKEN, *rest))
    b, place = space.builder, len(lead)
    sizes = [space.fixed(a) or 0 for a in rest]
    joined = b.op("Reshape", full.value, b.ints(*([0] * place), -1, *sizes))
    value = b.op("Slice", joined, b.ints(0), space.length(TIME), b.ints(place))
    return Tensor(value, (*lead, TIME, *rest), tensor.kind)


def _whole_number(space: Space, value: int) -> Tensor:
    return Tensor(space.builder.constant(value, "int64"), (), DType.INT)


class Phased:
    """Blocks that begin where a counter is a multiple of their size, in each row of the batch for itself.

    A reset begins a block too; where a block has fewer tokens, or a row fewer blocks, slots are left empty.

        counter 1, size 3, a reset before d      tokens  a b c d e   f g
                                                 slots   . a b|c . .|d e f|g . .      `.` is empty
                                                 FRESH       0     1     1     1
                                                 RESTART     0     0     1     0
    """

    def __init__(self, space: Space, size: int, name: str, counter: Tensor, reset: Tensor) -> None:
        self.space, self.size = space, size
        within = self._within(counter, space.expand(reset, (BATCH, TIME)))
        number = self._numbers(within)
        self.count = self._length(number)
        self._place = self._int("Add", self._int("Mul", number, size), within)
        self._source = self._sources()
        last = space.entry(within, TIME, -1)
        self.after = {name: space.cast(self._int("Mod", self._int("Add", last, 1), size), counter.kind)}
        self.marks = self._marks(space.cast(reset, DType.REAL))

    # --- where tokens stand -----------------------------------------------------------------------------------

    def _int(self, op: str, x: Tensor, y: Tensor | int) -> Tensor:
        other = _whole_number(self.space, y) if isinstance(y, int) else y
        return self.space.elementwise(op, x, other, kind=DType.INT)

    def _is_zero(self, x: Tensor) -> Tensor:
        """1 where it is 0, else 0."""
        equal = self.space.elementwise("Equal", x, _whole_number(self.space, 0), kind=DType.BOOL)
        return self.space.cast(equal, DType.INT)

    def _scatter(self, length: ir.Value, index: Tensor, **how: str) -> ir.Value:
        """`[batch, length]`: at every index the token that has it, the number of tokens where none has."""
        space, b = self.space, self.space.builder
        shape = b.op("Concat", space.length(BATCH), length, axis=0)
        nowhere = b.op("Expand", space.length(TIME), shape)
        tokens = space.expand(space.positions(TIME), (BATCH, TIME))
        return b.op("ScatterElements", nowhere, index.value, tokens.value, axis=1, **how)

    def _within(self, counter: Tensor, reset: Tensor) -> Tensor:
        """The slot of each token in its block: tokens since the last reset, or on from the counter."""
        space, b = self.space, self.space.builder
        marks = space.cast(reset, DType.INT)
        document = Tensor(b.op("CumSum", marks.value, b.constant(1, "int64")), (BATCH, TIME), DType.INT)
        firsts = self._scatter(b.op("Add", space.length(TIME), b.ints(1)), document, reduction="min")
        first = Tensor(b.op("GatherElements", firsts, document.value, axis=1), (BATCH, TIME), DType.INT)
        offset = space.mul(self._is_zero(document), space.cast(counter, DType.INT))
        since = self._int("Sub", space.positions(TIME), first)
        return space.transpose(self._int("Mod", self._int("Add", since, offset), self.size), (BATCH, TIME))

    def _numbers(self, within: Tensor) -> Tensor:
        """The block of each token: one more at the first slot of each block, and 0 at the first token."""
        b = self.space.builder
        begins = self._is_zero(within)
        summed = Tensor(b.op("CumSum", begins.value, b.constant(1, "int64")), (BATCH, TIME), DType.INT)
        start = b.op("Slice", begins.value, b.ints(0), b.ints(1), b.ints(1))
        return Tensor(b.op("Sub", summed.value, start), (BATCH, TIME), DType.INT)

    def _length(self, number: Tensor) -> ir.Value:
        b = self.space.builder
        last = b.op("ReduceMax", number.value, keepdims=0)
        return b.op("Add", b.op("Unsqueeze", last, b.ints(0)), b.ints(1), name="blocks")

    def _sources(self) -> Tensor:
        """The token of each slot; for an empty one the number of tokens, where `enter` puts the padding."""
        b = self.space.builder
        slots = b.op("Mul", self.count, b.ints(self.size), name="slots")
        return Tensor(self._scatter(slots, self._place), (BATCH, "%slots"), DType.INT)

    def _marks(self, reset: Tensor) -> dict[Expr, Number]:
        space, b = self.space, self.space.builder
        space.dynamic[BLOCKS] = self.count
        filled = b.op("Less", self._source.value, space.length(TIME))
        cut = b.op("Reshape", filled, b.ints(0, -1, self.size))
        valid = Tensor(b.op("Cast", cut, to=1), (BATCH, BLOCKS, TOKEN))
        restart = self.enter(reset, 0.0)
        assert isinstance(restart, Tensor)
        return {
            Leaf(LeafKind.READ, VALID, (TOKEN,)): space.transpose(valid, space.ordered(valid.axes)),
            Leaf(LeafKind.READ, FRESH): self._first(valid),
            Leaf(LeafKind.READ, RESTART): self._first(restart),
        }

    def _first(self, tensor: Tensor) -> Tensor:
        first = self.space.entry(tensor, TOKEN, 0)
        return self.space.transpose(first, self.space.ordered(first.axes))

    # --- in and out -------------------------------------------------------------------------------------------

    def _picked(self, value: ir.Value, index: Tensor) -> ir.Value:
        b = self.space.builder
        return b.op("GatherND", value, b.op("Unsqueeze", index.value, b.ints(2)), batch_dims=1)

    def enter(self, value: Number, padding: float) -> Number:
        if isinstance(value, Pair):
            return Pair(self._enter(value.re, padding), self._enter(value.im, 0.0))
        return self._enter(value, padding)

    def _enter(self, tensor: Tensor, padding: float) -> Tensor:
        space, b = self.space, self.space.builder
        rest = tuple(a for a in tensor.axes if a not in (BATCH, TIME))
        whole = space.pad_end(space.expand(tensor, (BATCH, TIME, *rest)), TIME, b.ints(1), padding)
        sizes = [space.fixed(a) or 0 for a in rest]
        cut = b.op("Reshape", self._picked(whole.value, self._source), b.ints(0, -1, self.size, *sizes))
        result = Tensor(cut, (BATCH, BLOCKS, TOKEN, *rest), tensor.kind)
        return space.transpose(result, space.ordered(result.axes))

    def leave(self, tensor: Tensor) -> Tensor:
        space, b = self.space, self.space.builder
        rest = tuple(a for a in space.ordered(tensor.axes) if a not in (BATCH, BLOCKS, TOKEN))
        whole = space.expand(tensor, (BATCH, BLOCKS, TOKEN, *rest))
        slots = b.op("Reshape", whole.value, b.ints(0, -1, *(space.fixed(a) or 0 for a in rest)))
        return Tensor(self._picked(slots, self._place), (BATCH, TIME, *rest), tensor.kind)
