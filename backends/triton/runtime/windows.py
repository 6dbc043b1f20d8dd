"""Running a stage whose blocks begin where a counter says: its tokens are laid out in windows, of a block each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .chunk import BlockKernels, Chunked


class Windows(NamedTuple):
    """Where the tokens lie: `place` [batch, time] is the slot of each and `source` [batch, slots] the token of each.

    A slot without a token has `time`.  Without places, the slots are the tokens.  `ended` [batch] is how many tokens
    the last window has had at the end, 0 for a whole one.
    """

    place: Tensor | None
    source: Tensor | None
    slots: int
    ended: Tensor

    @classmethod
    def of(cls, reset: Tensor, count: Tensor, size: int, block: int) -> Windows:
        """Windows of `size` tokens in blocks of `block` slots.

        `reset` [batch, time] begins windows anew; the first one has had `count` [batch] tokens before.
        """
        batch, length = reset.shape
        time = torch.arange(length, device=reset.device)
        last = torch.where(reset, time, -1).cummax(1).values
        within = torch.where(last >= 0, time - last, time + count.long()[:, None]) % size
        begins = (within == 0) | reset | (time == 0)
        place = (begins.cumsum(1) - 1) * block + within
        after = (within[:, -1] + 1) % size
        if bool((place == time).all()):
            return cls(None, None, length, after)
        slots = (int(place.max()) // block + 1) * block
        source = torch.full((batch, slots), length, device=reset.device)
        return cls(place, source.scatter(1, place, time.expand(batch, length)), slots, after)

    def laid(self, x: Tensor, empty: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """[batch, time, …] as [batch, slots, …]; slots without a token are what `empty` makes, [batch, 1, …], or 0."""
        if self.source is None:
            return x
        there = x.new_zeros((x.shape[0], 1, *x.shape[2:])) if empty is None else empty(x)
        x = torch.cat([x, there], 1)
        return x.gather(1, _index(self.source, x))

    def taken(self, x: Tensor) -> Tensor:
        """[batch, slots, …] as [batch, time, …]."""
        return x if self.place is None else x.gather(1, _index(self.place, x))


def _index(places: Tensor, x: Tensor) -> Tensor:
    return places.view(*places.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])


class WindowKernels(BlockKernels):
    """A unit of such a stage: its last inputs say which slots have a token, and which begin a new sequence."""

    @property
    def inside(self) -> type[Any]:
        return Windowed

    def told(self, name: str) -> None:
        """Where windows begin is asked of the GPU: `torch.compile` puts that into no CUDA graph."""
        for each in (name, f"{name}_backward"):
            tags = getattr(torch.ops.seqc, each).default.tags
            if torch.Tag.cudagraph_unsafe not in tags:
                tags.append(torch.Tag.cudagraph_unsafe)


class Windowed(Chunked):
    """What such a stage of an emitted module does where kernels run: put before the stage's own class."""

    block: ClassVar[int]
    phase: ClassVar[str]
    inputs: ClassVar[dict[str, Any]]
    empty: ClassVar[Callable[[str, Tensor], Tensor]]

    @classmethod
    def counter(cls) -> int:
        """Which of the states counts the tokens of a window."""
        return list(cls.carried).index(cls.phase)

    @classmethod
    def laid(cls, windows: Windows, inputs: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        """The inputs of the stage, of which the last says where sequences begin, as the kernels take them."""
        *own, reset = inputs
        found = [
            x if slot.constant else windows.laid(x, partial(cls.empty, name))
            for x, (name, slot) in zip(own, cls.inputs.items(), strict=True)
        ]
        filled = windows.laid(torch.ones(reset.shape, dtype=like.dtype, device=like.device))
        return [*found, filled, windows.laid(reset.to(like.dtype))]

    @classmethod
    def forward(
        cls, inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool
    ) -> list[Tensor]:
        """The results, the final states and, if asked, the initial ones."""
        if not cls.runs(carried, time):
            return super().forward(inputs, carried, time, keep)
        at, own = cls.counter(), [*carried]
        count = own.pop(at)
        windows = Windows.of(inputs[-1], count, cls.block, cls.kernels.face.block)
        laid = cls.laid(windows, inputs, own[0])
        outputs, finals, _ = cls.kernels.forward(laid, own, windows.slots)
        finals.insert(at, windows.ended.to(count.dtype))
        return [*map(windows.taken, outputs), *finals, *(x.clone() for x in carried if keep)]

    @classmethod
    def backward(
        cls, inputs: Sequence[Tensor], starts: Sequence[Tensor], cotangents: Sequence[Tensor], time: int
    ) -> list[Tensor]:
        """Here `starts` are the initial states."""
        if not cls.runs(starts, time):
            return super().backward(inputs, starts, cotangents, time)
        at, own = cls.counter(), [*starts]
        windows = Windows.of(inputs[-1], own.pop(at), cls.block, cls.kernels.face.block)
        laid = cls.laid(windows, inputs, own[0])
        results = len(cls.kernels.face.outputs)
        known, after = [windows.laid(g) for g in cotangents[:results]], [*cotangents[results:]]
        ended = after.pop(at)
        begins = cls.kernels.begins(laid, own, windows.slots)
        found = cls.kernels.backward(laid, begins, [*known, *after], windows.slots)
        slots = cls.inputs.values()
        grads = [g if s.constant else windows.taken(g) for g, s in zip(found, slots, strict=False)]
        before = found[len(laid) :]
        before.insert(at, torch.where(inputs[-1].any(1), 0.0, ended))
        return [*grads, torch.zeros_like(inputs[-1]), *before]
