"""Functions that PyTorch does not have, or has with other derivatives or broadcasting."""

from __future__ import annotations

import torch
from torch import Tensor


def inv_softplus(y: Tensor) -> Tensor:
    """The x with softplus(x) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))


def sqrt_bounded(x: Tensor, bound: float) -> Tensor:
    """sqrt(max(x, 0)), with a derivative of at most `bound`."""
    steep = x <= 0.25 / bound**2
    root = torch.sqrt(x.detach().clamp(min=0.0))
    slope = torch.where(steep, bound, 0.5 / torch.where(steep, 1.0, root))
    return root + slope * (x - x.detach())


def larger(x: Tensor | float, y: Tensor | float) -> Tensor:
    """The larger of two, where the derivative at a tie belongs to the first."""
    return torch.where(tensor(y > x), y, x)


def smaller(x: Tensor | float, y: Tensor | float) -> Tensor:
    """The smaller of two, where the derivative at a tie belongs to the first."""
    return torch.where(tensor(y < x), y, x)


def tensor(x: Tensor | float) -> Tensor:
    return x if isinstance(x, Tensor) else torch.tensor(x)


def choose(condition: Tensor, yes: float, no: float, like: Tensor) -> Tensor:
    """`yes` where the condition holds, else `no`, in the precision of `like`."""
    dtype = like.real.dtype if like.is_complex() else like.dtype
    return torch.where(condition, like.new_full((), yes, dtype=dtype), like.new_full((), no, dtype=dtype))


def complex_of(real: Tensor | float, imag: Tensor | float) -> Tensor:
    """real + i·imag, broadcast; no narrower than complex64, since torch has no complex numbers of bfloat16."""
    if not isinstance(real, Tensor):
        real = torch.full_like(tensor(imag), real)
    if not isinstance(imag, Tensor):
        imag = torch.full_like(real, imag)
    dtype = torch.promote_types(torch.promote_types(real.dtype, imag.dtype), torch.float32)
    return torch.complex(*(x.to(dtype) for x in torch.broadcast_tensors(real, imag)))


def polar(radius: Tensor | float, angle: Tensor | float) -> Tensor:
    """radius · exp(i·angle), broadcast."""
    return complex_of(radius * torch.cos(tensor(angle)), radius * torch.sin(tensor(angle)))


def shift(x: Tensor, by: int, dim: int) -> Tensor:
    """`x` moved by `by` entries along `dim`, with zeros where nothing comes from."""
    length = x.shape[dim]
    if abs(by) >= length:
        return torch.zeros_like(x)
    zeros = torch.zeros_like(x.narrow(dim, 0, abs(by)))
    if by > 0:
        return torch.cat([zeros, x.narrow(dim, 0, length - by)], dim)
    return torch.cat([x.narrow(dim, -by, length + by), zeros], dim)


def index(length: int, like: Tensor) -> Tensor:
    """0, 1, … as numbers of the kind of `like`, exact."""
    dtype = torch.float64 if like.dtype in (torch.float64, torch.complex128) else torch.float32
    return torch.arange(length, device=like.device, dtype=dtype)
