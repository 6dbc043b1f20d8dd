"""Entries that are looked up by their place, and their order."""

from __future__ import annotations

import torch
from torch import Tensor


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """The rows of `table` [entries, …] at `index` [*any]: `[*any, …]`, and 0 where there is no such row."""
    place, there = places(index, table.shape[0])
    rows = table[place]
    return torch.where(there.reshape(*there.shape, *(1,) * (table.dim() - 1)), rows, torch.zeros_like(rows))


def take(x: Tensor, index: Tensor, free: int) -> Tensor:
    """`x` [*kept, entries] at `index` [*kept, *free]: `[*kept, *free]`, and 0 where there is no such entry."""
    last = index.dim() - free
    kept = torch.broadcast_shapes(x.shape[:-1], index.shape[:last])
    rest = index.shape[last:]
    place, there = places(index, x.shape[-1])
    place, there = (y.expand(*kept, *rest).unsqueeze(-1).flatten(len(kept)) for y in (place, there))
    found = x.expand(*kept, x.shape[-1]).gather(-1, place)
    return torch.where(there, found, torch.zeros_like(found)).reshape(*kept, *rest)


def put(x: Tensor, index: Tensor, length: int, over: int) -> Tensor:
    """`x` [*kept, *over] summed up at the places `index` [*kept, *over]: `[*kept, length]`."""
    place, there = places(index, length)
    x, place, there = torch.broadcast_tensors(x, place, there)
    first = x.dim() - over
    sent = torch.where(there, x, torch.zeros_like(x)).unsqueeze(-1).flatten(first)
    return sent.new_zeros(*x.shape[:first], length).scatter_add(-1, place.unsqueeze(-1).flatten(first), sent)


def places(index: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Whole numbers as places (0 for what is none), and which of them are places."""
    there = (index >= 0) & (index < length)
    return torch.where(there, index, torch.zeros_like(index)).long(), there


def rank(x: Tensor, dim: int) -> Tensor:
    """How many entries come before each if the largest comes first, and of equal ones the first."""
    order = x.argsort(dim=dim, descending=True, stable=True).argsort(dim)
    return order.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
