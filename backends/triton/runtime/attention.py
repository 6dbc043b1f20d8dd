"""Reads of growing stores by kernels: the operator that an emitted module calls, with these inside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from . import chunk
from .attach import Results, States, Swapped
from .chunk import NARROW, factors, plain, summed, typed
from .kernel import Port
from .launch import Choice, launch
from .load import LOADING, loaded, runs_on

STAGES = 2  # blocks that a program has under way at once
MANY = 8  # warps of a program that needs many registers
SHORTEST = 16  # of a side of a matrix product
ENTRIES = "back_entries"  # the kernel whose programs hold entries; those of the others hold queries


class Size(NamedTuple):
    """What a program of a kernel has: so many queries and entries at a time, and warps."""

    queries: int
    entries: int
    warps: int


class Reading(NamedTuple):
    """How the unit of a rule's reads is called: a program for each sequence, row, and block of queries or of entries.

    A program holds `block` of the one and goes through the other, at most `step` at a time.  `found` are the numbers of
    a query that its results are made of, the last `sums` of which have cotangents.  `factors` are those of the queries
    and, after them, of the entries that are factors of matrix products as they are.  `work` says of the functions that
    queries and entries meet in how many operations of matrix products a `block` and a `step` take, all and those whose
    factors are cast to 16 bits where the inputs have so many.
    """

    rows: int
    warps: int
    block: int
    step: int
    window: int
    sinks: int
    queries: list[Port]
    entries: list[Port]
    outputs: list[Port]
    found: list[Port]
    sums: int
    work: Mapping[str, Sequence[int]]
    factors: Sequence[int] = ()

    def size(self, kernel: str, rounded: Mapping[str, str]) -> Size:
        """What a program of a kernel has.

        Factors of matrix products in single precision take more registers, those in three steps most; cotangents of
        entries are sums for all of them at once.
        """
        own, step, warps, holds = self.block, self.step, self.warps, kernel == ENTRIES
        if rounded["PRECISION"] == "tf32x3":
            own, step, warps = step // 2, SHORTEST, max(warps, MANY)
        elif rounded["ROUNDED"] == "float32":
            own, step = step if holds else own, step // 2
        elif holds:
            warps, step = warps if step == own else max(warps, MANY), own // 2
        own, step = max(own, SHORTEST), max(step, SHORTEST)
        return Size(step, own, warps) if holds else Size(own, step, warps)

    def kind(self, given: Sequence[Tensor]) -> torch.dtype:
        """The type of what are factors of matrix products as they are; single precision if they differ."""
        return _common(given[k].dtype for k in self.factors)

    def result(self, given: Sequence[Tensor]) -> torch.dtype:
        """The type of results: that of the rule's inputs among queries and entries."""
        ports = [*self.queries, *self.entries]
        found = _common(x.dtype for x, port in zip(given, ports, strict=True) if port.given)
        wide = [x.dtype for x in given if x.dtype not in NARROW]
        return found if found in NARROW or not wide else wide[0]


def _common(types: Iterable[torch.dtype]) -> torch.dtype:
    """The type, of 16 bits, of all; else single precision."""
    found = {*types}
    return found.pop() if len(found) == 1 and found <= {*NARROW} else torch.float32


class ReadKernels:
    """A unit of reads."""

    def __init__(self, text: str, face: Reading, name: str) -> None:
        self.text, self.face, self.name = text, face, name

    @property
    def module(self) -> Any:
        return loaded(self.text, self.name)

    def launch(self, name: str, given: Sequence[Tensor], *args: Any, **fixed: Any) -> None:
        """A kernel; `given` are the queries and entries, `args` end with how many entries and tokens there are."""
        face, like, (total, time) = self.face, given[-1], args[-2:]
        rounded = precision(like, face.kind(given) if chunk.narrow(like) else torch.float32)
        size = face.size(name, rounded)
        blocks = -(-total // size.entries) if name == ENTRIES else -(-time // size.queries)
        fixed |= {
            "WINDOW": face.window,
            "SINKS": face.sinks,
            "QUERIES": size.queries,
            "ENTRIES": size.entries,
            "TILE": 1,
            **typed(rounded, self.module.tl),
        }
        kernel, lengths = getattr(self.module, name), (like.shape[0], total, time)
        default = Choice(size.warps, STAGES)
        launch(kernel, like.shape[0] * face.rows * blocks, like, args, fixed, default, lengths, "num_stages")

    def forward(
        self, queries: Sequence[Tensor], entries: Sequence[Tensor], start: Tensor, keep: bool
    ) -> list[Tensor]:
        """The results [batch, time, …] and, if asked, the numbers that they are made of."""
        face, time, total = self.face, start.shape[1], entries[0].shape[1]
        made = self.fake(queries, entries, start, keep)
        outputs, found = tuple(made[: len(face.outputs)]), tuple(made[len(face.outputs) :])
        given = (plain(queries), plain(entries), start.contiguous(), found or outputs, outputs)
        self.launch("read", [*queries, *entries], *given, total, time, KEEPS=keep)
        return made

    def fake(
        self, queries: Sequence[Tensor], entries: Sequence[Tensor], start: Tensor, keep: bool
    ) -> list[Tensor]:
        face, like, kind = self.face, entries[0], self.face.result([*queries, *entries])
        made = [like.new_empty((*start.shape, *port.shape), dtype=kind) for port in face.outputs]
        wide = torch.promote_types(kind, torch.float32)
        return made + [like.new_empty((*start.shape, *port.shape), dtype=wide) for port in face.found if keep]

    def backward(
        self,
        queries: Sequence[Tensor],
        entries: Sequence[Tensor],
        start: Tensor,
        found: Sequence[Tensor],
        cotangents: Sequence[Tensor],
    ) -> list[Tensor]:
        """The cotangents of queries and entries, in their types."""
        face, (batch, time), total = self.face, start.shape, entries[0].shape[1]
        tensors = [*queries, *entries]
        given = (plain(queries), plain(entries), start.contiguous(), plain(found))
        flow = tuple(torch.empty_like(x) for x in found[len(found) - face.sums :])
        asked, known = (
            tuple(_parts(x, port) for x, port in zip(own, ports, strict=True) if port.differentiable)
            for own, ports in ((queries, face.queries), (entries, face.entries))
        )
        more = (plain(cotangents), flow, asked or flow, batch * time, total, time)
        self.launch("back_queries", tensors, *given, *more)
        self.launch(ENTRIES, tensors, *given, flow, known, batch * total, total, time)
        left = iter((*asked, *known))
        return [
            summed(next(left), port).to(x.dtype) if port.differentiable else torch.zeros_like(x)
            for x, port in zip(tensors, [*face.queries, *face.entries], strict=True)
        ]


def _parts(x: Tensor, port: Port) -> Tensor:
    """For the cotangents of a tensor, of each program that shares it: single precision, unless that is one."""
    return x.new_empty((port.shares, *x.shape), dtype=None if port.shares == 1 else torch.float32)


def precision(like: Tensor, kind: torch.dtype) -> dict[str, str]:
    """How factors of matrix products, of the type `kind` as they are, are rounded."""
    return products(kind, chunk.exact(like), torch.get_float32_matmul_precision())


def products(kind: torch.dtype, single: bool, asked: str = "highest") -> dict[str, str]:
    """As `factors`; single precision is three steps of TF32 where PyTorch was `asked` for it and there is no other."""
    found = factors(kind, single)
    if not single and kind not in NARROW and asked == "highest":
        found["PRECISION"] = "tf32x3"
    return found


@dataclass(eq=False)
class Given:
    """What of a rule stays of 16 bits: inputs, by number, and the stores that consist of them, by name.

    `stages` are the operators of its other states, which PyTorch takes in single precision.
    """

    inputs: Sequence[int]
    stores: Sequence[str]
    stages: Sequence[str]
    forced: bool = False  # kernels run wherever they can, as they do in any case


class ReadRule(Swapped):
    """What a class of a rule does whose reads are kernels; `kernels` says what they take as it is."""

    def exactly(
        self,
        state: States | None,
        reset: Tensor | None,
        single: bool,
        inputs: Sequence[Tensor],
        given: Sequence[Tensor],
        sequence: Callable[..., Results] | None = None,
    ) -> Results:
        """As the class was emitted, but of a sequence inputs of 16 bits stay what they are where kernels take such."""
        me, first, kept = cast(Any, self), inputs[0], self.kernels
        double = any(x.dtype == torch.float64 or x.is_complex() for x in (*inputs, me.like))
        if single or sequence is not None or double or first.dtype not in NARROW or not _on_kernels(first):
            return self.plain.exactly(self, state, reset, single, inputs, given, sequence)  # type: ignore[no-any-return]
        with torch.autocast(first.device.type, enabled=False):
            inputs = [
                x if k in kept.inputs and x.dtype in NARROW else x.float() for k, x in enumerate(inputs)
            ]
            given = [x if x.is_complex() else x.float() for x in given]
            before: States = me.initial(first.shape[0], *given) if state is None else state
            known = {name: x.float() if x.is_floating_point() else x for name, x in before.items()}
            for name in kept.stores:  # what lies there in single precision may be more exact than inputs
                x = before[name]
                if state is None or x.shape[1] == 0 or x.dtype in NARROW:
                    known[name] = x.to(first.dtype)
            outputs, after = self.plain.sequence(self, known, reset, *inputs, *given)
            return tuple(x.to(first.dtype) for x in outputs), after


def _on_kernels(x: Tensor) -> bool:
    return x.device.type == "cuda" if torch.compiler.is_compiling() else runs_on(x.device)


class ReadStage(NamedTuple):
    """Reads of an emitted module: the names of their operator and of their class there, their kernels, and what these
    take as it is.
    """

    operator: str
    owner: str
    kernels: ReadKernels
    given: Given

    def place(self, namespace: dict[str, Any]) -> None:
        """Let an emitted module, by its namespace, call the kernels."""
        owner, kernels = namespace[self.owner], self.kernels
        digest = hashlib.sha256((kernels.text + repr(kernels.face)).encode()).hexdigest()[:12]
        namespace[self.operator] = operator(kernels, owner, f"triton_{kernels.name}_{digest}")
        for name in self.given.stages:
            if not isinstance(namespace[name], Widened):
                namespace[name] = Widened(namespace[name])

    def attach(self, part: nn.Module) -> None:
        """Let a rule of the module, whose class was emitted, hand inputs of 16 bits to the kernels."""
        base = cast(Any, type(part))
        if not issubclass(base, Swapped):
            part.__class__ = _read_class(base, self.given)


class Widened:
    """An operator of an emitted module that takes inputs of 16 bits in single precision."""

    def __init__(self, inner: Callable[..., list[Tensor]]) -> None:
        self.inner = inner

    def __call__(
        self, inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool
    ) -> list[Tensor]:
        return self.inner(_wide(inputs), list(carried), time, keep)


@cache
def _read_class(base: Any, given: Given) -> type[Any]:
    return type(base.__name__, (ReadRule, base), {"plain": base, "kernels": given})


def operator(kernels: ReadKernels, owner: Any, name: str) -> Callable[..., list[Tensor]]:
    """The reads as an opaque operator with a derivative; where no kernel runs they are what `owner` does."""
    known: Any = torch.ops.seqc
    with LOADING:
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
    return start.numel() > 0 and x.dtype != torch.float64 and runs_on(x.device)


def _wide(values: Sequence[Tensor]) -> list[Tensor]:
    return [x.float() if x.dtype in NARROW else x for x in values]


def _register(kernels: ReadKernels, owner: Any, name: str) -> None:
    count = len(kernels.face.outputs)

    def run(queries: Any, entries: Any, start: Tensor, keep: bool) -> list[Tensor]:
        if _runs(entries, start):
            return kernels.forward(queries, entries, start, keep)
        made: list[Tensor] = owner.forward(_wide(queries), _wide(entries), start)
        kind = kernels.face.result([*queries, *entries])
        return [x.to(kind) for x in made]

    def shapes(queries: Any, entries: Any, start: Tensor, keep: bool) -> list[Tensor]:
        return kernels.fake(queries, entries, start, keep and _runs(entries, start))

    def back(queries: Any, entries: Any, start: Tensor, found: Any, cotangents: Any) -> list[Tensor]:
        if found:
            return kernels.backward(queries, entries, start, found, cotangents)
        made: list[Tensor] = owner.backward(_wide(queries), _wide(entries), start, _wide(cotangents))
        return [x.to(like.dtype) for x, like in zip(made, [*queries, *entries], strict=True)]

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
