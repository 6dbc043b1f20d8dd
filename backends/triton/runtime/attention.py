"""Reads of growing stores by kernels: the operator that an emitted module calls, with these inside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .chunk import exact
from .kernel import Port
from .launch import Choice, launch
from .load import loaded, runs_on

STAGES = 2  # blocks that a program has under way at once


class Reading(NamedTuple):
    """How the unit of a rule's reads is called: a program for each sequence, row, and block of queries or of entries.

    `found` are the numbers of a query that its results are made of, the last `sums` of which have cotangents;
    `groups` are entries whose cotangents are computed together.
    """

    rows: int
    warps: int
    queries_at_once: int
    entries_at_once: int
    window: int
    sinks: int
    queries: list[Port]
    entries: list[Port]
    outputs: list[Port]
    found: list[Port]
    sums: int
    groups: list[list[int]]


class ReadKernels:
    """A unit of reads."""

    def __init__(self, text: str, face: Reading, name: str) -> None:
        self.text, self.face, self.name = text, face, name

    @property
    def module(self) -> Any:
        return loaded(self.text, self.name)

    def launch(self, kernel: Any, blocks: int, like: Tensor, *args: Any, **fixed: Any) -> None:
        """`blocks` for each sequence of `like` and row; `args` end with how many entries and tokens there are."""
        face = self.face
        fixed |= {
            "WINDOW": face.window,
            "SINKS": face.sinks,
            "QUERIES": face.queries_at_once,
            "ENTRIES": face.entries_at_once,
            "TILE": 1,
            "PRECISION": precision(like),
        }
        lengths, default = (like.shape[0], *args[-2:]), Choice(face.warps, STAGES)
        launch(kernel, like.shape[0] * face.rows * blocks, like, args, fixed, default, lengths, "num_stages")

    def forward(
        self, queries: Sequence[Tensor], entries: Sequence[Tensor], start: Tensor, keep: bool
    ) -> list[Tensor]:
        """The results [batch, time, …] and, if asked, the numbers that they are made of."""
        face, like, time = self.face, entries[0], start.shape[1]
        made = self.fake(queries, entries, start, keep)
        outputs, found = tuple(made[: len(face.outputs)]), tuple(made[len(face.outputs) :])
        blocks = -(-time // face.queries_at_once)
        read, total = self.module.read, like.shape[1]
        given = (_plain(queries), _plain(entries), start.contiguous())
        self.launch(read, blocks, like, *given, found or outputs, outputs, total, time, KEEPS=keep)
        return made

    def fake(
        self, queries: Sequence[Tensor], entries: Sequence[Tensor], start: Tensor, keep: bool
    ) -> list[Tensor]:
        face = self.face
        ports = [*face.outputs, *(face.found if keep else [])]
        return [entries[0].new_empty((*start.shape, *port.shape)) for port in ports]

    def backward(
        self,
        queries: Sequence[Tensor],
        entries: Sequence[Tensor],
        start: Tensor,
        found: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> list[Tensor]:
        """The cotangents of queries and entries."""
        face, like, (batch, time) = self.face, entries[0], start.shape
        total = like.shape[1]
        given = (_plain(queries), _plain(entries), start.contiguous(), _plain(found))
        flow = tuple(torch.empty_like(x) for x in found[len(found) - face.sums :])
        asked = tuple(
            like.new_empty((port.shares, batch, time, *port.shape))
            for port in face.queries
            if port.differentiable
        )
        known = tuple(like.new_empty((port.shares, batch, total, *port.shape)) for port in face.entries)
        blocks = -(-time // face.queries_at_once)
        more = (_plain(cotangents), flow, asked or flow, batch * time, total, time)
        self.launch(self.module.back_queries, blocks, like, *given, *more)
        blocks = -(-total // face.entries_at_once)
        for k, group in enumerate(face.groups):
            kernel, parts = getattr(self.module, f"back_entries{k}"), tuple(known[e] for e in group)
            self.launch(kernel, blocks, like, *given, flow, parts, batch * total, total, time)
        left = iter(asked)
        grads = [
            next(left).sum(0) if port.differentiable else torch.zeros_like(x)
            for x, port in zip(queries, face.queries, strict=True)
        ]
        return [*grads, *(x.sum(0) for x in known)]


def precision(like: Tensor) -> str:
    """How products of matrices are rounded; single precision is three steps of TF32 where there is no other."""
    if exact(like):
        return "ieee"
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def _plain(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in values)


class ReadStage(NamedTuple):
    """Reads of an emitted module: the names of their operator and of their class there, and their kernels."""

    operator: str
    owner: str
    kernels: ReadKernels

    def place(self, namespace: dict[str, Any]) -> None:
        """Let an emitted module, by its namespace, call the kernels."""
        owner, kernels = namespace[self.owner], self.kernels
        digest = hashlib.sha256((kernels.text + repr(kernels.face)).encode()).hexdigest()[:12]
        namespace[self.operator] = operator(kernels, owner, f"triton_{kernels.name}_{digest}")


def operator(kernels: ReadKernels, owner: Any, name: str) -> Callable[..., list[Tensor]]:
    """The reads as an opaque operator with a derivative; where no kernel runs they are what `owner` does."""
    known: Any = torch.ops.seqc
    if not hasattr(known, name):
        _register(kernels, owner, name)
    made = getattr(known, name)

    def call(queries: list[Tensor], entries: list[Tensor], start: Tensor) -> list[Tensor]:
        asked = torch.is_grad_enabled() and any(x.requires_grad for x in [*queries, *entries])
        found = cast(list[Tensor], made(queries, entries, start, asked and not torch.compiler.is_exporting()))
        return found[: len(kernels.face.outputs)]

    return call


def _runs(entries: Sequence[Tensor], start: Tensor) -> bool:
    x = entries[0]
    return start.numel() > 0 and x.dtype == torch.float32 and runs_on(x.device)


def _register(kernels: ReadKernels, owner: Any, name: str) -> None:
    count = len(kernels.face.outputs)

    def run(queries: Any, entries: Any, start: Tensor, keep: bool) -> list[Tensor]:
        if _runs(entries, start):
            return kernels.forward(queries, entries, start, keep)
        made: list[Tensor] = owner.forward(queries, entries, start)
        return made

    def shapes(queries: Any, entries: Any, start: Tensor, keep: bool) -> list[Tensor]:
        return kernels.fake(queries, entries, start, keep and _runs(entries, start))

    def back(queries: Any, entries: Any, start: Tensor, found: Any, cotangents: Any) -> list[Tensor]:
        if found:
            return kernels.backward(queries, entries, start, found, cotangents)
        made: list[Tensor] = owner.backward(queries, entries, start, cotangents)
        return made

    schema = "(Tensor[] queries, Tensor[] entries, Tensor start, bool keep) -> Tensor[]"
    forward = torch.library.custom_op(f"seqc::{name}", run, mutates_args=(), schema=schema)
    forward.register_fake(shapes)
    schema = (
        "(Tensor[] queries, Tensor[] entries, Tensor start, Tensor[] found, Tensor[] cotangents) -> Tensor[]"
    )
    backward = torch.library.custom_op(f"seqc::{name}_backward", back, mutates_args=(), schema=schema)

    @backward.register_fake
    def like(queries: Any, entries: Any, start: Any, found: Any, cotangents: Any) -> list[Tensor]:
        return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in [*queries, *entries]]

    def save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        ctx.count = len(inputs[0])
        ctx.known = ctx.count + len(inputs[1])
        ctx.save_for_backward(*inputs[0], *inputs[1], inputs[2], *output[count:])

    def differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        saved = list(ctx.saved_tensors)
        queries, entries = saved[: ctx.count], saved[ctx.count : ctx.known]
        start, *found = saved[ctx.known :]
        given = [g.contiguous() for g in grads[:count]]
        made = backward(queries, entries, start, found, given)
        return made[: ctx.count], made[ctx.count :], None, None

    forward.register_autograd(differentiate, setup_context=save)
