"""What every primitive computes, in double precision: the oracle's own table.

Where PyTorch's automatic derivative is not the one that the language defines, the function here is written so
that it becomes so: the derivative of `sqrt_bounded` is clipped, ties of `max` and `min` go to the first
argument, a power has no derivative by its exponent at a base that is not positive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

REAL = torch.float64
COMPLEX = torch.complex128


def number(x: Tensor) -> Tensor:
    """A truth value or an integer as a real number; other numbers as they are."""
    return x if x.is_floating_point() or x.is_complex() else x.to(REAL)


def truth(x: Tensor) -> Tensor:
    return x if x.dtype is torch.bool else x != 0


def _numbers(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def apply(*args: Tensor) -> Tensor:
        return function(*map(number, args))

    return apply


def _truths(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def apply(*args: Tensor) -> Tensor:
        return function(*map(truth, args))

    return apply


def _together(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x + torch.zeros_like(y), y + torch.zeros_like(x)


class _SqrtBounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(x, bound)
        return x.clamp(min=0).sqrt()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, bound = ctx.saved_tensors
        steep = x <= 0.25 / bound**2
        slope = torch.where(steep, bound, 0.5 / torch.where(steep, torch.ones_like(x), x).sqrt())
        return grads[0] * slope, None


def _sqrt_bounded(x: Tensor, bound: Tensor) -> Tensor:
    x, bound = _together(number(x), number(bound))
    result: Tensor = _SqrtBounded.apply(x, bound)  # type: ignore[no-untyped-call]  # torch does not annotate it
    return result


def _pow(base: Tensor, power: Tensor) -> Tensor:
    positive = base.real > 0 if base.is_complex() else base > 0
    inside = torch.where(positive, base, torch.ones_like(base)) ** power
    return torch.where(positive, inside, base ** power.detach())


def _first_if(better: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def choose(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(better(x, y) | x.isnan(), x, y)

    return choose


def _mod(x: Tensor, y: Tensor) -> Tensor:
    return torch.remainder(x, y.detach())


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def _gelu_tanh(x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh")


def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    x, y = number(x), number(y)
    if x.is_complex() != y.is_complex():
        x, y = x.to(COMPLEX), y.to(COMPLEX)
    return torch.where(truth(condition), x, y)


def _complex(re: Tensor, im: Tensor) -> Tensor:
    return torch.complex(*_together(re, im))


def _real(x: Tensor) -> Tensor:
    return torch.real(x) if x.is_complex() else x


def _imag(x: Tensor) -> Tensor:
    return torch.imag(x) if x.is_complex() else torch.zeros_like(x)


def _inv_softplus(x: Tensor) -> Tensor:
    return x + torch.log(-torch.expm1(-x))


def _log_sigmoid(x: Tensor) -> Tensor:
    return -_softplus(-x)


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return _complex(radius * torch.cos(angle), radius * torch.sin(angle))


def _conj(x: Tensor) -> Tensor:
    return torch.conj(x).resolve_conj()


def _detach(x: Tensor) -> Tensor:
    return x.detach()


PRIMITIVES: dict[str, Callable[..., Tensor]] = {
    "add": _numbers(torch.add),
    "sub": _numbers(torch.sub),
    "mul": _numbers(torch.mul),
    "div": _numbers(torch.div),
    "neg": _numbers(torch.neg),
    "pow": _numbers(_pow),
    "exp": _numbers(torch.exp),
    "log": _numbers(torch.log),
    "log1p": _numbers(torch.log1p),
    "expm1": _numbers(torch.expm1),
    "sqrt": _numbers(torch.sqrt),
    "abs": _numbers(torch.abs),
    "sign": _numbers(torch.sgn),
    "floor": _numbers(torch.floor),
    "mod": _numbers(_mod),
    "sin": _numbers(torch.sin),
    "cos": _numbers(torch.cos),
    "erf": _numbers(torch.erf),
    "tanh": _numbers(torch.tanh),
    "sigmoid": _numbers(torch.sigmoid),
    "log_sigmoid": _numbers(_log_sigmoid),
    "softplus": _numbers(_softplus),
    "inv_softplus": _numbers(_inv_softplus),
    "relu": _numbers(torch.relu),
    "silu": _numbers(_silu),
    "gelu": _numbers(torch.nn.functional.gelu),
    "gelu_tanh": _numbers(_gelu_tanh),
    "sqrt_bounded": _sqrt_bounded,
    "max": _numbers(_first_if(torch.ge)),
    "min": _numbers(_first_if(torch.le)),
    "where": _where,
    "lt": _numbers(torch.lt),
    "le": _numbers(torch.le),
    "gt": _numbers(torch.gt),
    "ge": _numbers(torch.ge),
    "eq": _numbers(torch.eq),
    "ne": _numbers(torch.ne),
    "and": _truths(torch.logical_and),
    "or": _truths(torch.logical_or),
    "not": _truths(torch.logical_not),
    "stop_gradient": _detach,
    "complex": _numbers(_complex),
    "polar": _numbers(_polar),
    "real": _numbers(_real),
    "imag": _numbers(_imag),
    "conj": _numbers(_conj),
}
