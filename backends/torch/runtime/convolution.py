"""The causal depthwise convolution, over a sequence or a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .modules import Run


def causal_conv(run: Run, name: str, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[t] = Σ_j weight[…, j] · x[t - width + 1 + j] (+ bias), for x [batch, time, …channels].

    The last `width - 1` inputs are the state `name`.  An input from before a reset counts as 0.
    """
    width, time = weight.shape[-1], x.shape[1]
    window = run.read(name)
    if window is None:
        window = x.new_zeros(x.shape[0], width - 1, *x.shape[2:])
    padded = torch.cat([window.to(x.dtype), x], 1)
    age = None if run.reset is None else since_reset(run.reset)
    total = padded[:, width - 1 :] * weight[..., width - 1].to(x.dtype)
    for back in range(1, width):
        before = padded[:, width - 1 - back : width - 1 - back + time]
        if age is not None:
            before = before.masked_fill((age < back).view(*age.shape, *(1,) * (x.dim() - 2)), 0.0)
        total = total + before * weight[..., width - 1 - back].to(x.dtype)
    last = padded[:, time:]
    if age is not None and time:
        position = torch.arange(width - 2, -1, -1, device=x.device)  # how long before the last token
        last = last.masked_fill((position > age[:, -1:]).view(*last.shape[:2], *(1,) * (x.dim() - 2)), 0.0)
    # A copy: the state would hold all of `padded` otherwise.
    run.write(name, last.to(torch.promote_types(last.dtype, torch.float32), copy=True))
    return total if bias is None else total + bias.to(x.dtype)


def since_reset(reset: Tensor) -> Tensor:
    """For every token, how many tokens ago its sequence began; large when that was before the first."""
    time = torch.arange(reset.shape[1], device=reset.device)
    last = torch.where(reset, time, -(1 << 30)).cummax(1).values
    return time - last
