"""Random draws for the initial values of parameters."""

from __future__ import annotations

import torch
from torch import Tensor


def generator(seed: int | torch.Generator) -> torch.Generator:
    """A generator that a number or an outer module gives."""
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


def uniform(
    low: Tensor | float, high: Tensor | float, shape: tuple[int, ...], draw: torch.Generator
) -> Tensor:
    """Uniform between two numbers."""
    return low + (high - low) * torch.rand(shape, generator=draw)


def normal(
    mean: Tensor | float, deviation: Tensor | float, shape: tuple[int, ...], draw: torch.Generator
) -> Tensor:
    """Normal with a mean and a standard deviation."""
    return mean + deviation * torch.randn(shape, generator=draw)


def truncated_normal(
    mean: Tensor | float, deviation: Tensor | float, shape: tuple[int, ...], draw: torch.Generator
) -> Tensor:
    """Normal, redrawn beyond two standard deviations."""
    values = torch.empty(shape)
    torch.nn.init.trunc_normal_(values, 0.0, 1.0, -2.0, 2.0, generator=draw)
    return mean + deviation * values
