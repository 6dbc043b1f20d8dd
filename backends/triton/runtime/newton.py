"""Running a stage that is solved by Newton's iteration: a program has all tokens, many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .chunk import BlockKernels, plain, summed
from .launch import Choice, launch


class NewtonKernels(BlockKernels):
    """A unit of such a stage; the states before all tokens lie between kernels, [batch, time, …]."""

    def solve(self, kernel: Any, like: Tensor, *args: Any) -> None:
        """A program for each sequence of `like`, row and tile; the last of `args` is how many tokens there are."""
        face, batch = self.face, like.shape[0]
        fixed, default = {"BLOCK": face.block, "TILE": face.tile}, Choice(face.warps, 1)
        launch(
            kernel,
            batch * face.rows * face.tiles,
            like,
            args,
            fixed,
            default,
            (batch, args[-1]),
            "num_stages",
        )

    def forward(
        self,
        inputs: Sequence[Tensor],
        carried: Sequence[Tensor],
        time: int,
        kind: torch.dtype = torch.float32,
        keep: bool = True,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The results, the final states and those before each token."""
        like, before = carried[0], plain(carried)
        batch = like.shape[0]
        starts = [x.new_empty((batch, time, *x.shape[1:])) for x in before]
        finals = [torch.empty_like(x) for x in before]
        outputs = self.face.results(like, time, kind)
        made = (tuple(starts), tuple(finals), tuple(outputs))
        self.solve(self.module.solve, like, _numbers(inputs, like), before, *made, time)
        return outputs, finals, starts

    def backward(
        self, inputs: Sequence[Tensor], starts: Sequence[Tensor], cotangents: Sequence[Tensor], time: int
    ) -> list[Tensor]:
        """The cotangents of the inputs and of the initial states."""
        face, like = self.face, starts[0]
        batch, blocks = like.shape[0], -(-time // face.block)
        begins, known = plain(starts), plain(cotangents[: len(face.outputs)])
        after = plain(cotangents[len(face.outputs) :])
        before = [torch.empty_like(x) for x in after]
        parts: list[Tensor] = []
        for place, (x, port) in enumerate(zip(inputs, face.inputs, strict=True)):
            if port.differentiable:
                shares = face.sharing(port)
                lead = (batch * blocks, shares) if port.constant else (shares, batch, time)
                kind = x.dtype if face.alone(place) else like.dtype
                parts.append(like.new_empty((*lead, *port.shape), dtype=kind))
        ends = (known, after, tuple(parts or before), tuple(before))
        sizes = (batch * time, time)
        self.solve(self.module.solve_back, like, _numbers(inputs, like), begins, *ends, *sizes)
        left = iter(parts)
        grads = [
            summed(next(left), port).to(x.dtype) if port.differentiable else torch.zeros_like(x)
            for x, port in zip(inputs, face.inputs, strict=True)
        ]
        return [*grads, *before]


def _numbers(inputs: Sequence[Tensor], like: Tensor) -> tuple[Tensor, ...]:
    """Without gaps, and truth values as numbers."""
    return plain([x.to(like.dtype) if x.dtype == torch.bool else x for x in inputs])
