"""A rule whose stages run in blocks: the operators of their kernels, and what PyTorch does around them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .attach import Results
from .chunk import NARROW, BlockKernels
from .kernel import Port
from .load import LOADING, loaded

Operator = Callable[..., list[Tensor]]


class Course:
    """The emitted text of a method that goes through a sequence, and the kernels of the stages that it calls.

    `kept` are the inputs, by number, that it takes as they are: others of 16 bits are made single precision for it.
    """

    def __init__(
        self, text: str, kernels: Sequence[BlockKernels], name: str, kept: Container[int] = ()
    ) -> None:
        self.text, self.kept = text, kept
        self.operators = [operator(each) for each in kernels]
        self.sequence: Callable[..., Results] = loaded(text, f"{name} around").Course.sequence

    def run(self, rule: Any, state: dict[str, Tensor], reset: Tensor | None, *args: Tensor) -> Results:
        """As the method `sequence` of a rule of an emitted module."""
        flags = args[0].new_empty(0, dtype=torch.bool) if reset is None else reset
        given = [x.float() if x.dtype in NARROW and k not in self.kept else x for k, x in enumerate(args)]
        kind = args[0].dtype if args[0].dtype in NARROW else torch.float32
        stages = [partial(each, kind=kind) for each in self.operators]
        return self.sequence(rule, state, reset, flags, stages, *given)


def operator(kernels: BlockKernels) -> Operator:
    """The operator of a stage: the results, those that the rule gives in the type `kind`, and the final states.

    Its kernels take two parts of a complex tensor.
    """
    parted = _parted(kernels)

    def run(
        inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool, kind: torch.dtype
    ) -> list[Tensor]:
        lead = (carried[0].shape[0], time)
        given = [fitted(x, port, lead) for x, port in zip(real(inputs), kernels.face.inputs, strict=True)]
        found = parted(given, real(carried), time, keep, kind)
        return together(found, [*kernels.face.pairs, *(x.is_complex() for x in carried)])

    return run


def fitted(x: Tensor, port: Port, lead: tuple[int, int]) -> Tensor:
    """An input of a stage for `lead`, batch and time, as kernels take it, which look at no lengths.

    Raises RuntimeError where it has other lengths.
    """
    if port.flags and not x.numel():
        return x
    return x.expand(port.shape if port.constant else (*lead, *port.shape))


def real(values: Iterable[Tensor]) -> list[Tensor]:
    """Complex tensors as two."""
    whole = (x.resolve_conj() for x in values)
    return [part for x in whole for part in ((x.real, x.imag) if x.is_complex() else (x,))]


def together(found: Iterable[Tensor], pairs: Iterable[bool]) -> list[Tensor]:
    """The reverse: two parts as one tensor, where `pairs` says so."""
    left = iter(found)
    return [torch.complex(next(left), next(left)) if pair else next(left) for pair in pairs]


def _parted(kernels: BlockKernels) -> Operator:
    """The same over real numbers, with its derivative, registered once under a name that says what is in it."""
    digest = hashlib.sha256((kernels.text + repr(kernels.face)).encode()).hexdigest()[:12]
    name, known = f"triton_{kernels.name}_{digest}", torch.ops.seqc
    with LOADING:
        if not hasattr(known, name):
            _register(kernels, f"seqc::{name}")
    found: Operator = getattr(known, name)
    return found


def _register(kernels: BlockKernels, name: str) -> None:
    face = kernels.face

    def run(
        inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool, kind: torch.dtype
    ) -> list[Tensor]:
        outputs, finals, starts = kernels.forward(inputs, carried, time, kind, keep)
        return [*outputs, *finals, *(starts if keep else [])]

    def fake(
        inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool, kind: torch.dtype
    ) -> list[Tensor]:
        batch, blocks = carried[0].shape[0], (time + face.block - 1) // face.block
        outputs = face.results(carried[0], time, kind)
        starts = [x.new_empty((batch, blocks, *x.shape[1:])) for x in carried if keep]
        return [
            *outputs,
            *(torch.empty_like(x, memory_format=torch.contiguous_format) for x in carried),
            *starts,
        ]

    schema = "(Tensor[] inputs, Tensor[] carried, SymInt time, bool keep, ScalarType kind) -> Tensor[]"
    forward = torch.library.custom_op(name, run, mutates_args=(), schema=schema)
    forward.register_fake(fake)
    schema = "(Tensor[] inputs, Tensor[] starts, Tensor[] cotangents, SymInt time) -> Tensor[]"
    backward = torch.library.custom_op(f"{name}_backward", kernels.backward, mutates_args=(), schema=schema)

    @backward.register_fake
    def shapes(inputs: Any, starts: Any, cotangents: Any, time: int) -> list[Tensor]:
        like = [*inputs, *cotangents[len(face.outputs) :]]
        return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in like]

    def save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        ends = len(face.outputs) + len(face.states)
        ctx.count, ctx.time = len(inputs[0]), inputs[2]
        ctx.ends = [(x.shape, x.dtype) for x in output[:ends]]
        ctx.set_materialize_grads(False)  # what is kept for the way back has none
        ctx.save_for_backward(*inputs[0], *output[ends:])

    def differentiate(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        inputs, starts = saved[: ctx.count], saved[ctx.count :]
        known = [
            inputs[0].new_zeros(shape, dtype=kind) if g is None else g.contiguous()
            for g, (shape, kind) in zip(grads, ctx.ends, strict=False)
        ]
        found = backward(list(inputs), list(starts), known, ctx.time)
        return found[: ctx.count], found[ctx.count :], None, None, None

    forward.register_autograd(differentiate, setup_context=save)
