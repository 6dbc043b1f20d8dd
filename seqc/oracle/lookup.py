"""Entries that are looked up by their place, and their order."""

from __future__ import annotations

import torch
from torch import Tensor


def take(x: Tensor, index: Tensor) -> Tensor:
    """`x` [*kept, entries] at `index` [*kept, *free] (kept dimensions may be 1): `[*kept, *free]`."""
    kept = torch.broadcast_shapes(x.shape[:-1], index.shape[: x.dim() - 1])
    free = index.shape[x.dim() - 1 :]
    place, there = _place(index.expand(*kept, *free).unsqueeze(-1).flatten(len(kept)), x.shape[-1])
    found = x.expand(*kept, -1).gather(-1, place)
    return torch.where(there, found, torch.zeros_like(found)).reshape(*kept, *free)


def put(x: Tensor, index: Tensor, length: int, kept: int) -> Tensor:
    """`x` and `index` [*kept, *over], which may be 1 where the other is not: `[*kept, length]`."""
    x, index = torch.broadcast_tensors(x, index)
    x = x.flatten(kept) if x.dim() > kept else x.unsqueeze(-1)
    place, there = _place(index.reshape(x.shape), length)
    empty = x.new_zeros(*x.shape[:-1], length)
    return empty.scatter_add(-1, place, torch.where(there, x, torch.zeros_like(x)))


def rank(x: Tensor, dim: int) -> Tensor:
    return x.argsort(dim=dim, descending=True, stable=True).argsort(dim)


def _place(index: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Whole numbers that are places, and which of them are."""
    there = (index >= 0) & (index < length)
    return torch.where(there, index, torch.zeros_like(index)).long(), there
