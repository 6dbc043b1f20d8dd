"""The operators of a unit: what `torch.compile` and `torch.export` take as they are, and autograd calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from .kernel import Kernel


def operators(kernel: Kernel) -> tuple[Callable[..., list[Tensor]], Callable[..., list[Tensor]]]:
    """The operators of a unit, registered once under a name that says what is in it."""
    known: Any = torch.ops.seqc
    if not hasattr(known, kernel.name):
        _register_prepare(kernel)
        _register_forward(kernel)
    return getattr(known, f"{kernel.name}_prepare"), getattr(known, kernel.name)


def _register_prepare(kernel: Kernel) -> None:
    name, schema = f"seqc::{kernel.name}_prepare", "(Tensor[] parameters) -> Tensor[]"
    forward = torch.library.custom_op(name, kernel.run_prepare, mutates_args=(), schema=schema)
    forward.register_fake(kernel.fake_prepare)
    schema = "(Tensor[] parameters, Tensor[] cotangents) -> Tensor[]"
    backward = torch.library.custom_op(
        f"{name}_backward", kernel.prepare_backward, mutates_args=(), schema=schema
    )

    @backward.register_fake
    def shapes(parameters: Any, cotangents: Any) -> list[Tensor]:
        return [torch.empty_like(x) for x in parameters]

    def save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        ctx.save_for_backward(*inputs[0])

    def differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        ports = [*kernel.interface.constants, *kernel.interface.states]
        known = [g.contiguous() for g, port in zip(grads, ports, strict=True) if port.differentiable]
        return (backward(list(ctx.saved_tensors), known),)

    forward.register_autograd(differentiate, setup_context=save)


def _register_forward(kernel: Kernel) -> None:
    name = f"seqc::{kernel.name}"
    schema = (
        "(Tensor[] inputs, Tensor[] constants, Tensor initial, Tensor before, Tensor? reset, SymInt time, bool keep)"
        " -> Tensor[]"
    )
    forward = torch.library.custom_op(name, kernel.run, mutates_args=(), schema=schema)
    forward.register_fake(kernel.fake)
    schema = (
        "(Tensor[] inputs, Tensor[] constants, Tensor initial, Tensor kept, Tensor[] outputs, Tensor? reset,"
        " Tensor[] cotangents, SymInt time) -> Tensor[]"
    )
    backward = torch.library.custom_op(f"{name}_backward", kernel.back, mutates_args=(), schema=schema)

    @backward.register_fake
    def shapes(
        inputs: Any,
        constants: Any,
        initial: Any,
        kept: Any,
        outputs: Any,
        reset: Any,
        cotangents: Any,
        time: int,
    ) -> list[Tensor]:
        like = [*inputs, *constants, initial, cotangents[-1]]
        return [torch.empty_like(x) for x in like]

    def save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        _remember(ctx, kernel, inputs, output)

    def differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        found, count = _answered(ctx, kernel, grads, backward), ctx.count
        return found[:count], found[count:-2], found[-2], found[-1], None, None, None

    forward.register_autograd(differentiate, setup_context=save)


def _remember(ctx: Any, kernel: Kernel, inputs: Sequence[Any], output: Sequence[Tensor]) -> None:
    """Save what the way back of a call `forward(*inputs)` needs."""
    given, constants, initial, _, reset, ctx.time, _ = inputs
    outputs = len(kernel.interface.outputs)
    ctx.count, ctx.total = len(given), len(given) + len(constants)
    read = output[:outputs] if kernel.interface.shown else []
    ctx.save_for_backward(*given, *constants, initial, reset, *output[outputs + 1 :], *read)


def _answered(
    ctx: Any, kernel: Kernel, grads: Sequence[Tensor], backward: Callable[..., list[Tensor]]
) -> list[Tensor]:
    """The cotangents of the inputs, the constants, the initial states, and the states before the first token."""
    saved, count, total = list(ctx.saved_tensors), ctx.count, ctx.total
    initial, reset, kept, *read = saved[total:]
    known = [g.contiguous() for g in grads[: len(kernel.interface.outputs) + 1]]
    return backward(saved[:count], saved[count:total], initial, kept, read, reset, known, ctx.time)


def recorded(
    kernel: Kernel,
    inputs: Sequence[Tensor],
    constants: Sequence[Tensor],
    initial: Tensor,
    before: Tensor,
    reset: Tensor | None,
    time: int,
) -> list[Tensor]:
    """What the operator gives, with its derivative, without the cost of calling one."""
    call: Any = _Recorded.apply
    return list(call(kernel, len(inputs), time, reset, initial, before, *inputs, *constants))


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(
        kernel: Any, count: int, time: int, reset: Any, initial: Tensor, before: Tensor, *given: Tensor
    ) -> tuple[Tensor, ...]:
        return tuple(kernel.run(given[:count], given[count:], initial, before, reset, time, True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.kernel, count, time, reset, initial, before, *given = inputs
        ctx.mark_non_differentiable(output[-1])
        _remember(ctx, ctx.kernel, (given[:count], given[count:], initial, before, reset, time, True), output)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator's type
        ctx: Any, *grads: Tensor
    ) -> tuple[Any, ...]:
        *given, initial, before = _answered(ctx, ctx.kernel, grads, ctx.kernel.back)
        found = (None, None, None, None, initial, before, *given)
        return tuple(g if needed else None for g, needed in zip(found, ctx.needs_input_grad, strict=True))
