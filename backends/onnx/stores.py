"""Stores (the memory of softmax attention) as tensors: what is kept between calls, and what each token sees.

A store without a window is a cache that grows by one entry a token.  With a window the cache has `window - 1` entries,
and the first `sinks` entries of the sequence stand in a second one.  A counter says how many tokens each row of the
batch has appended since its last reset, so that rows begin and begin anew at different times.

Along the growing axis the entries of a call stand in the order: sinks, cache, tokens of this call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqc.ir.expr import DType
from seqc.ir.recurrence import Store

from .lower import Growing
from .tensors import BATCH, TIME, Space, Tensor


@dataclass(frozen=True, slots=True)
class Documents:
    """Resets within a call: `index[batch, time]` counts them, so that tokens of one document have one number."""

    index: Tensor
    last: Tensor  # [batch]: the number of the document that the call ends in


@dataclass(frozen=True, slots=True)
class Entries:
    """One store's caches before or after a call: `[batch, axis, …axes]` each."""

    cache: Tensor
    sinks: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """A store axis after the tokens of a call were appended."""

    entries: dict[str, Tensor]
    age: Tensor
    visible: Growing
    after: dict[str, Entries]
    count: Tensor
    document: Tensor | None  # [batch, axis]: the document of every entry, in a graph for whole sequences


def cache_length(store: Store) -> int | None:
    """How many entries the cache has; None when it grows."""
    return None if store.window is None else store.window - 1


class Appending:
    """The stores of one axis in one call; without `documents` the call is a single token."""

    def __init__(
        self, space: Space, stores: Sequence[Store], count: Tensor, documents: Documents | None
    ) -> None:
        self.space, self.stores, self.count, self.documents = space, stores, count, documents
        self.axis, self.window, self.sinks = stores[0].axis, stores[0].window, stores[0].sinks
        self.kept = self.sinks if self.window is not None else 0

    def run(self, before: Mapping[str, Entries], values: Mapping[str, Tensor]) -> Appended:
        space, axis = self.space, self.axis
        entries: dict[str, Tensor] = {}
        for store in self.stores:
            new = self._new(store, values[store.name])
            old = before[store.name]
            parts = [old.cache, new] if old.sinks is None else [old.sinks, old.cache, new]
            order = (BATCH, axis, *store.axes)
            place = space.builder.op("Concat", *(space.transpose(p, order).value for p in parts), axis=1)
            entries[store.name] = Tensor(place, order)
        first = self.stores[0].name
        space.dynamic[axis] = space.measure(entries[first], axis)
        self.past = space.measure(before[first].cache, axis)
        age = self._age()
        now = self._visible(age)
        earlier = self._and(now, self._compare("Greater", age, 0))
        after = {s.name: self._keep(s, entries[s.name], before[s.name]) for s in self.stores}
        document = self._entry_documents() if self.documents else None
        age = space.cast(age, DType.REAL)
        return Appended(entries, age, Growing(now, earlier), after, self._next_count(), document)

    def _new(self, store: Store, value: Tensor) -> Tensor:
        space = self.space
        if self.documents is None:
            full = space.expand(value, (BATCH, *store.axes))
            one = space.builder.op("Unsqueeze", full.value, space.builder.ints(1))
            return Tensor(one, (BATCH, self.axis, *store.axes))
        full = space.expand(value, (BATCH, TIME, *store.axes))
        return space.rename(full, {TIME: self.axis})

    # --- integers -------------------------------------------------------------------------------------------

    def _number(self, value: int) -> Tensor:
        return Tensor(self.space.builder.constant(value, "int64"), (), DType.INT)

    def _compare(self, op: str, x: Tensor, y: Tensor | int) -> Tensor:
        other = self._number(y) if isinstance(y, int) else y
        return self.space.elementwise(op, x, other, kind=DType.BOOL)

    def _and(self, x: Tensor, y: Tensor) -> Tensor:
        return self.space.elementwise("And", x, y, kind=DType.BOOL)

    def _sub(self, x: Tensor, y: Tensor) -> Tensor:
        return self.space.elementwise("Sub", x, y, kind=DType.INT)

    def _scalar(self, tensor: object) -> Tensor:
        b = self.space.builder
        return Tensor(b.op("Squeeze", tensor, b.ints(0)), (), DType.INT)  # type: ignore[arg-type]

    # --- what is seen ---------------------------------------------------------------------------------------

    def _slot(self) -> Tensor:
        """The place of each token's own entry along the axis."""
        space, kept = self.space, self._number(self.kept)
        before = (
            space.elementwise("Add", self._scalar(self.past), kept) if self.kept else self._scalar(self.past)
        )
        if self.documents is None:
            return before
        return space.elementwise("Add", space.positions(TIME), before, kind=DType.INT)

    def _age(self) -> Tensor:
        """How many tokens ago an entry was appended; that of a sink is its distance to the present position."""
        age = self._sub(self._slot(), self.space.positions(self.axis))
        if not self.kept:
            return age
        distance = self._sub(self._position(), self.space.positions(self.axis))
        return self._where(self._is_sink(), distance, age)

    def _where(self, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.space.elementwise("Where", condition, x, y, kind=x.kind)

    def _is_sink(self) -> Tensor:
        return self._compare("Less", self.space.positions(self.axis), self.kept)

    def _position(self) -> Tensor:
        """How many tokens came before each token since the last reset."""
        if self.documents is None:
            return self.count
        space, index = self.space, self.documents.index
        other = space.rename(index, {TIME: "%earlier"})
        space.dynamic["%earlier"] = space.length(TIME)
        same = self._compare("Equal", index, other)
        here, there = space.positions(TIME), space.rename(space.positions(TIME), {TIME: "%earlier"})
        earlier = self._and(same, self._compare("Greater", here, there))
        within = space.reduce("sum", space.cast(earlier, DType.INT), ["%earlier"])
        first = space.cast(self._compare("Equal", index, 0), DType.INT)
        return space.elementwise("Add", within, space.mul(first, self.count), kind=DType.INT)

    def _visible(self, age: Tensor) -> Tensor:
        """Entries of the same document, not in the future, and within the window or among the sinks."""
        space = self.space
        seen = self._same_document()
        if self.documents is not None:  # a single token has none after it
            seen = self._and(seen, self._compare("GreaterOrEqual", age, 0))
        if self.window is None:
            return seen
        near = self._compare("Less", age, self.window)
        if self.kept:
            position = self._sub(self._position(), age)
            near = space.elementwise("Or", near, self._compare("Less", position, self.kept), kind=DType.BOOL)
        return self._and(seen, near)

    def _kept_entries(self) -> Tensor:
        """Entries of an earlier call that a row has appended since its last reset (others are true as well)."""
        space = self.space
        place, end = space.positions(self.axis), self._scalar(self.past)
        if self.kept:
            end = space.elementwise("Add", end, self._number(self.kept))
        kept = self._compare("LessOrEqual", self._sub(end, place), self.count)
        if not self.kept:
            return kept
        # A sink that the window still holds is not counted twice.
        outside = self._compare("Less", place, self._sub(self.count, self._scalar(self.past)))
        sink = self._is_sink()
        others = self._and(space.elementwise("Not", sink), kept)
        return space.elementwise("Or", self._and(sink, outside), others, kind=DType.BOOL)

    def _entry_documents(self) -> Tensor:
        """The number of the document that every entry belongs to; -1 for entries that no row sees."""
        assert self.documents is not None
        space, order = self.space, (BATCH, self.axis)
        b = space.builder
        size = b.op("Add", self.past, b.ints(self.kept))
        whole = space.transpose(self._kept_entries(), order)
        old = Tensor(b.op("Slice", whole.value, b.ints(0), size, b.ints(1)), order, DType.BOOL)
        number = self._sub(space.cast(old, DType.INT), self._number(1))  # 0 where kept, else -1
        new = space.transpose(space.rename(self.documents.index, {TIME: self.axis}), order)
        return Tensor(b.op("Concat", number.value, new.value, axis=1), order, DType.INT)

    def _same_document(self) -> Tensor:
        if self.documents is None:
            return self._kept_entries()
        return self._compare("Equal", self._entry_documents(), self.documents.index)

    # --- what is kept ---------------------------------------------------------------------------------------

    def _next_count(self) -> Tensor:
        space = self.space
        if self.documents is None:
            return space.elementwise("Add", self.count, self._number(1))
        same = self._compare("Equal", self.documents.index, self.documents.last)
        within = space.reduce("sum", space.cast(same, DType.INT), [TIME])
        first = space.cast(self._compare("Equal", self.documents.last, 0), DType.INT)
        return space.elementwise("Add", within, space.mul(first, self.count), kind=DType.INT)

    def _keep(self, store: Store, entries: Tensor, before: Entries) -> Entries:
        length = cache_length(store)
        if length is None:
            return Entries(entries)
        b, end = self.space.builder, self.space.length(self.axis)
        start = b.op("Sub", end, b.ints(length))
        cache = Tensor(b.op("Slice", entries.value, start, end, b.ints(1)), entries.axes)
        if before.sinks is None:
            return Entries(cache)
        return Entries(cache, self._keep_sinks(store, entries))

    def _keep_sinks(self, store: Store, entries: Tensor) -> Tensor:
        """For each of the first positions since the last reset its entry, from wherever it stands now."""
        space, b, axes = self.space, self.space.builder, ("%sink",)
        space.sizes["%sink"] = store.sinks
        own = space.positions("%sink")
        final = self._sub(self._next_count(), self._number(1))
        end = self._scalar(b.op("Sub", space.length(self.axis), b.ints(1)))
        place = self._sub(end, self._sub(final, own))
        place = self._where(self._compare("Less", place, self.kept), own, place)
        place = space.elementwise("Min", place, end)
        index = b.op("Unsqueeze", space.expand(place, (BATCH, *axes)).value, b.ints(2))
        return Tensor(b.op("GatherND", entries.value, index, batch_dims=1), entries.axes)
