"""Short sequential operations along an axis of a block.  They run inside operators, where nothing records gradients."""

from __future__ import annotations

import torch
from torch import Tensor


def scan(decay: Tensor, source: Tensor, dim: int, reverse: bool = False) -> Tensor:
    """h[i] = decay[i] · h[i - 1] + source[i] along `dim`, from zero; exact for gates of 0 and of either sign."""
    decay, source = torch.broadcast_tensors(decay, source)
    result = torch.empty_like(
        source, dtype=torch.result_type(decay, source), memory_format=torch.contiguous_format
    )
    gates, sources, results = decay.unbind(dim), source.unbind(dim), result.unbind(dim)
    order = range(len(results) - 1, -1, -1) if reverse else range(len(results))
    last: Tensor | None = None
    for i in order:
        if last is None:
            results[i].copy_(sources[i])
        else:
            torch.addcmul(sources[i], gates[i], last, out=results[i])
        last = results[i]
    return result


def running_sum(source: Tensor, dim: int, reverse: bool = False, length: int | None = None) -> Tensor:
    """The sum of the entries up to each one along `dim`, from the end when `reverse`."""
    if length is not None:
        shape = list(source.shape)
        shape[dim] = length
        source = source.expand(shape)
    if dim == -1:
        return source.flip(-1).cumsum(-1).flip(-1) if reverse else source.cumsum(-1)
    result = torch.empty_like(source, memory_format=torch.contiguous_format)
    sources, results = source.unbind(dim), result.unbind(dim)
    order = range(len(results) - 1, -1, -1) if reverse else range(len(results))
    last: Tensor | None = None
    for i in order:
        last = results[i].copy_(sources[i]) if last is None else torch.add(sources[i], last, out=results[i])
    return result


def scan_matrix(decay: Tensor, source: Tensor, reverse: bool = False) -> Tensor:
    """h[i] = decay[i] @ h[i - 1] + source[i], for decay […, i, s, r] and source […, i, s]."""
    decay, source = decay.broadcast_to((*source.shape[:-2], *decay.shape[-3:])), source
    gates, sources = decay.unbind(-3), source.unbind(-2)
    order = range(len(sources) - 1, -1, -1) if reverse else range(len(sources))
    results: list[Tensor] = []
    last = torch.zeros_like(sources[0])
    for i in order:
        last = (gates[i] @ last[..., None])[..., 0] + sources[i]
        results.append(last)
    return torch.stack(results[::-1] if reverse else results, -2)


def solve_unit(matrix: Tensor, side: Tensor, free: int, upper: bool = False) -> Tensor:
    """The x with x = side + matrix @ x, for a strictly triangular matrix; `side` has `free` axes after the rows."""
    shape = side.shape
    side = side.flatten(side.dim() - free) if free > 1 else side
    side = side[..., None] if free == 0 else side
    x: Tensor = torch.linalg.solve_triangular(-matrix, side, upper=upper, unitriangular=True)
    if free == 1:
        return x
    return x[..., 0] if free == 0 else x.unflatten(-1, shape[len(shape) - free :])


def mixed_einsum(formula: str, x: Tensor, y: Tensor) -> Tensor:
    """An einsum of tensors of different kinds, in the wider one."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    return torch.einsum(formula, x.to(dtype), y.to(dtype))


def mixed_matmul(x: Tensor, y: Tensor) -> Tensor:
    """A matrix product of tensors of different kinds, in the wider one."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype) @ y.to(dtype)


def concatenate(parts: list[Tensor], dim: int) -> Tensor:
    """`cat` of tensors that broadcast along the other dimensions."""
    rank = max(part.dim() for part in parts)
    parts = [part[(None,) * (rank - part.dim())] for part in parts]
    shape = list(torch.broadcast_shapes(*(part.select(dim, 0).unsqueeze(dim).shape for part in parts)))

    def spread(part: Tensor) -> Tensor:
        own = list(shape)
        own[dim] = part.shape[dim]
        return part.expand(own)

    return torch.cat([spread(part) for part in parts], dim)
