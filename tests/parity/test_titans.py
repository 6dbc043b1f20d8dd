"""Titans against `titans-pytorch`, a port by Phil Wang; the authors have published no code.

Its `batch_size` is how long a gradient's memory is held, our `c`; its `chunk_size` is how many tokens share a step, 1
here. The memory is read behind every token. Norms, gates between heads and other extras of the port are switched off.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.parity.references import doubles
from tests.parity.specs import apply, close, random, rule

BATCH, TIME, WIDTH, MAX_RATE = 2, 11, 4, 0.5

pytestmark = pytest.mark.against("titans-pytorch")


class Deep(nn.Module):
    """One hidden layer of four times the width with SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(random(WIDTH, 4 * WIDTH, seed=20) / 2)
        self.down = nn.Parameter(random(4 * WIDTH, WIDTH, seed=21) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x @ self.up) @ self.down


class Matrix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WIDTH, WIDTH, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def squares(answer: Tensor, value: Tensor) -> Tensor:
    return 0.5 * ((answer - value) ** 2).sum(dim=-1)


def port(memory: nn.Module, period: int) -> Any:
    """Their neural memory with random maps to queries, keys, values and gates."""
    torch.manual_seed(0)
    with doubles():
        return import_module("titans_pytorch").NeuralMemory(
            WIDTH,
            chunk_size=1,
            batch_size=period,
            model=memory,
            store_memory_loss_fn=squares,
            default_step_transform_max_lr=MAX_RATE,
            qkv_receives_diff_views=True,
            pre_rmsnorm=False,
            mem_model_norm_add_residual=False,
        )


def given(theirs: Any, q: Tensor, k: Tensor, v: Tensor) -> dict[str, Tensor]:
    """What the port's maps make of three sequences; its gates are maps of the one that makes keys."""
    gates = {"alpha": theirs.to_decay_factor, "eta": theirs.to_momentum, "theta": theirs.to_adaptive_step}
    x = {name: maps[0](k)[..., 0].sigmoid() for name, maps in gates.items()}
    x["theta"] = MAX_RATE * x["theta"]
    return {"q": theirs.to_queries(q), "k": theirs.to_keys(k), "v": theirs.to_values(v), **x}


def compare(name: str, memory: nn.Module, start: Mapping[str, Tensor], period: int) -> None:
    """Answers, and the gradients that flow through the memory's own steps to what it was given."""
    theirs = port(memory, period)
    ours = rule("deep/titans.seq", name, n=WIDTH, m=WIDTH, c=period)
    seen = random(3, BATCH, TIME, WIDTH, seed=1).requires_grad_()
    want, _ = theirs(seen)
    got = apply(ours, given(theirs, *seen), start)
    close(got, want)
    weight = random(*want.shape, seed=2)
    mine, others = (torch.autograd.grad((y * weight).sum(), seen)[0] for y in (got, want))
    close(mine, others, 1e-11)


@pytest.mark.parametrize("period", [1, 4, 16])
def test_a_deep_memory(period: int) -> None:
    memory = Deep()
    start = {"M.0.weight": memory.up.detach().T.clone(), "M.1.weight": memory.down.detach().T.clone()}
    compare("titans", memory, start, period)


@pytest.mark.parametrize("period", [1, 4, 16])
def test_a_matrix(period: int) -> None:
    compare("titans_linear", Matrix(), {}, period)
