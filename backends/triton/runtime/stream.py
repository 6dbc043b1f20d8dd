"""Running a stage in windows whose states do not fit into registers: they lie in memory, with what is computed from
them on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .chunk import bare, exact, factors, multiprocessors, plain, read, typed, whole
from .launch import Choice, launch
from .windows import WindowKernels

SHARE = 8  # programs of a launch for each multiprocessor


class StreamKernels(WindowKernels):
    """A unit of such a stage; states lie as [batch, blocks + 1, …], before each block and after the last."""

    def stream(self, kernel: str, like: Tensor, each: int, time: int, *args: Any) -> None:
        """`each` programs for each row, some at once: they use the same memory as those before them.

        What takes several kernels takes them all for these programs.
        """
        face, batch = self.face, like.shape[0]
        programs, most = each * face.rows, at_once(like)
        scratch = like.new_empty((min(programs, most) * dict(face.room)[bare(kernel)],))
        zero = torch.zeros(1, dtype=torch.int32, device=like.device)
        fixed = {"BLOCK": face.block, "TILE": face.tile}
        fixed |= typed(factors(torch.float32, exact(like)), self.module.tl)
        default, lengths = Choice(face.warps, 1), (programs, time)
        for start in range(0, programs, most):
            some = min(most, programs - start)
            given = (*args, scratch, zero, start, batch * time, time)
            for name in face.each(kernel):
                launch(getattr(self.module, name), some, like, given, fixed, default, lengths, "num_stages")

    def forward(
        self,
        inputs: Sequence[Tensor],
        carried: Sequence[Tensor],
        time: int,
        kind: torch.dtype = torch.float32,
        keep: bool = True,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The results, the final states and those before each block."""
        like, given = carried[0], read(inputs)
        batch = like.shape[0]
        made, starts = self.swept(given, carried, time)
        outputs = self.face.results(like, time, kind)
        self.stream(
            "answer", like, batch * self.blocks(time), time, given, made, tuple(starts), tuple(outputs)
        )
        return outputs, [x[:, -1].clone() for x in starts], starts

    def blocks(self, time: int) -> int:
        """How many there are of so many tokens."""
        return -(-time // self.face.block)

    def swept(
        self, given: tuple[Tensor, ...], carried: Sequence[Tensor], time: int
    ) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """What does not depend on the states, and the states."""
        face, like = self.face, carried[0]
        batch, blocks = like.shape[0], self.blocks(time)
        made = tuple(like.new_empty((batch, blocks + 1, *shape)) for shape in face.made)
        starts = [x.new_empty((batch, blocks + 1, *x.shape[1:])) for x in carried]
        for start, x in zip(starts, carried, strict=True):
            start[:, 0] = x
        if made:
            self.stream("prepare", like, batch * blocks, time, given, made)
        self.stream("sweep", like, batch, time, given, made, tuple(starts))
        return made, starts

    def begins(self, inputs: Sequence[Tensor], carried: Sequence[Tensor], slots: int) -> list[Tensor]:
        """Here the initial states: `backward` computes the others again, and what they take."""
        return [*carried]

    def backward(
        self, inputs: Sequence[Tensor], starts: Sequence[Tensor], cotangents: Sequence[Tensor], time: int
    ) -> list[Tensor]:
        """The cotangents of the inputs and of the initial states, which are `starts`."""
        face, like, given = self.face, starts[0], read(inputs)
        batch, blocks = like.shape[0], self.blocks(time)
        known = plain(cotangents[: len(face.outputs)])
        after = cotangents[len(face.outputs) :]
        made, states = self.swept(given, starts, time)
        begins = tuple(states)
        later = tuple(like.new_empty((batch, blocks + 1, *shape)) for shape in face.later)
        if later:
            self.stream("prepare_back", like, batch * blocks, time, given, made, begins, known, later)
        flows = tuple(torch.empty_like(x) for x in begins)
        for flow, x in zip(flows, after, strict=True):
            flow[:, -1] = x
        self.stream("sweep_back", like, batch, time, given, made, later, flows)
        totals = dict[int, Tensor]()
        for number, written in face.writes:
            parts = [
                self.part(place, inputs[place], like, (batch, blocks, time), face.tile) for place in written
            ]
            args = (given, made, begins, known, flows, tuple(parts))
            self.stream(f"differentiate{number}", like, batch * blocks, time, *args)
            self.add(totals, written, parts)
        return [*whole(totals, inputs), *(flow[:, 0].clone() for flow in flows)]


def at_once(like: Tensor) -> int:
    """How many programs run on the device of a tensor at once."""
    return SHARE * (multiprocessors(like) if like.is_cuda else 1)
