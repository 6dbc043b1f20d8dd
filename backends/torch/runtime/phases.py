"""Stages whose blocks begin where a counter is a multiple of their length, in each row for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .stages import Slot, Stage, Values, after, before, fresh


class PhaseStage(Stage):
    """A stage with `phase`, the name of its counter.  The last input says which tokens begin a new sequence.

    Three more values are known in a block: `valid` (1 for a token, 0 for a slot without one), `fresh` (1 where the
    first slot has a token) and `restart` (1 where a reset begins the block).  Nothing is kept for the backward pass,
    which goes through all blocks once more.  Slots without a token have the first token's values of inputs that are
    `masked`, which are as far from what is singular as any.
    """

    phase: ClassVar[str]
    masked: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def forward(
        cls, inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool
    ) -> list[Tensor]:
        with torch.autocast(carried[0].device.type, enabled=False):
            if time == 0:
                return [*cls.fake(inputs, [], time, False), *(x.clone() for x in carried)]
            values, place, active = cls.laid_out(inputs, carried)
            state = {
                name: x.permute(0, *after(slot, 1))
                for (name, slot), x in zip(cls.carried.items(), carried, strict=True)
            }
            reads, state, _ = cls.sweep(values, state, active.shape[1], False, active)
            results = [picked(reads[name], slot, place) for name, slot in cls.outputs.items()]
            finals = [
                x.permute(0, *before(slot, 1))
                for x, slot in zip(state.values(), cls.carried.values(), strict=True)
            ]
            return fresh([*results, *finals, *(x.clone() for x in carried if keep)], [*inputs, *carried])

    @classmethod
    def backward(
        cls, inputs: Sequence[Tensor], starts: Sequence[Tensor], cotangents: Sequence[Tensor], time: int
    ) -> list[Tensor]:
        """Here `starts` are the initial states."""
        if time == 0:
            return [torch.zeros_like(x) for x in inputs] + [x.clone() for x in cotangents[len(cls.outputs) :]]
        with torch.autocast(starts[0].device.type, enabled=False):
            values, place, active = cls.laid_out(inputs, starts)
            state = {
                name: x.permute(0, *after(slot, 1))
                for (name, slot), x in zip(cls.carried.items(), starts, strict=True)
            }
            values |= cls.sweep(values, state, active.shape[1], True, active)[2]
            reads, finals = cotangents[: len(cls.outputs)], cotangents[len(cls.outputs) :]
            source = sources(place, active.shape[1] * cls.block)
            for (name, slot), g in zip(cls.outputs.items(), reads, strict=True):
                values[f"d_{name}"] = into_slots(g, slot, filling(g), source, cls.block)
            flowing = {
                f"d_{n}": g.permute(0, *after(slot, 1))
                for (n, slot), g in zip(cls.carried.items(), finals, strict=True)
            }
            found, flowing = cls.sweep_back(values, flowing, active.shape[1], active)
            grads = [
                torch.zeros_like(x)
                if name not in found
                else found[name]
                if slot.constant
                else picked(found[name], slot, place)
                for (name, slot), x in zip(cls.inputs.items(), inputs, strict=False)
            ]
            grads += [
                x.permute(0, *before(slot, 1))
                for x, slot in zip(flowing.values(), cls.carried.values(), strict=True)
            ]
            return fresh(
                [*grads[: len(inputs) - 1], torch.zeros_like(inputs[-1]), *grads[len(inputs) - 1 :]], inputs
            )

    @classmethod
    def empty(cls, name: str, x: Tensor) -> Tensor:
        """What slots without a token have of an input, [batch, 1, …]."""
        return x[:, :1] if name in cls.masked else filling(x, cls.inputs[name].padding)

    @classmethod
    def laid_out(cls, inputs: Sequence[Tensor], carried: Sequence[Tensor]) -> tuple[Values, Tensor, Tensor]:
        """Inputs in blocks, the slot of each token, and which rows have tokens in which blocks."""
        size, reset = cls.block, inputs[-1]
        time = torch.arange(reset.shape[1], device=reset.device)
        last = torch.where(reset, time, -1).cummax(1).values
        offset = carried[list(cls.carried).index(cls.phase)].long()[:, None]
        within = torch.where(last >= 0, time - last, time + offset) % size
        begins = (within == 0) | reset | (time == 0)
        place = (begins.cumsum(1) - 1) * size + within
        count = int(place.max()) // size + 1
        source = sources(place, count * size)
        values = {
            name: x if slot.constant else into_slots(x, slot, cls.empty(name, x), source, size)
            for (name, slot), x in zip(cls.inputs.items(), inputs, strict=False)
        }
        valid = (source < reset.shape[1]).unflatten(1, (count, size))
        restart = torch.cat([reset, reset.new_zeros(reset.shape[0], 1)], 1).gather(1, source)[:, ::size]
        dtype = carried[0].real.dtype if carried[0].is_complex() else carried[0].dtype
        values |= {"valid": valid.to(dtype), "fresh": valid[..., 0].to(dtype), "restart": restart.to(dtype)}
        return values, place, valid.any(-1)

    @classmethod
    def fake(cls, inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool) -> list[Tensor]:
        results = super().fake(inputs, carried, time, False)
        return [
            *results,
            *(torch.empty_like(x, memory_format=torch.contiguous_format) for x in carried if keep),
        ]


def sources(place: Tensor, slots: int) -> Tensor:
    """For every slot its token; one more than the last for a slot without."""
    batch, time = place.shape
    token = torch.arange(time, device=place.device).expand(batch, time)
    return torch.full((batch, slots), time, device=place.device).scatter(1, place, token)


def filling(x: Tensor, value: float = 0.0) -> Tensor:
    """A token of [batch, time, …] that has one value everywhere."""
    return x.new_full((), value).expand(x.shape[0], 1, *x.shape[2:])


def into_slots(x: Tensor, slot: Slot, empty: Tensor, source: Tensor, size: int) -> Tensor:
    """[batch, time, …] as [batch, block, …] with the slot among the axes; `empty` is for slots without a token."""
    index = source.view(*source.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    x = torch.cat([x, empty], 1).gather(1, index)
    return x.reshape(x.shape[0], -1, size, *x.shape[2:]).permute(0, 1, *after(slot, 2)).contiguous()


def picked(x: Tensor, slot: Slot, place: Tensor) -> Tensor:
    """The tokens' entries of [batch, block, …], as [batch, time, …]."""
    x = x.permute(0, 1, *before(slot, 2)).flatten(1, 2)
    return x.gather(1, place.view(*place.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))
