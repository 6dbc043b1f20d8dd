"""Titans and TTT: the derived updates against `torch.func.grad` of the objective, and against a published reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad  # pyright: ignore[reportPrivateImportUsage]
from torch.nn import functional as F

from seqc.oracle import run_recurrence
from tests.parity.references import doubles, naive
from tests.parity.specs import apply, close, random, rule

BATCH, TIME, KEY, VALUE = 2, 11, 4, 3
Weights = dict[str, Tensor]
Net = Callable[[Weights, Tensor], Tensor]


def given() -> dict[str, Tensor]:
    x = {"q": random(BATCH, TIME, KEY, seed=1), "k": random(BATCH, TIME, KEY, seed=2)}
    x["v"] = random(BATCH, TIME, VALUE, seed=3)
    for seed, (name, most) in enumerate({"alpha": 0.3, "eta": 0.9, "theta": 0.2}.items()):
        x[name] = most * torch.sigmoid(random(BATCH, TIME, seed=10 + seed))
    return x


def learn(net: Net, start: Weights, x: dict[str, Tensor], period: int) -> Tensor:
    """(12) to (15), one sequence after the other, with the gradient of the objective by automatic differentiation."""

    def objective(weights: Weights, key: Tensor, value: Tensor) -> Tensor:
        return 0.5 * ((net(weights, key) - value) ** 2).sum()

    slope = grad(objective)
    rows: list[Tensor] = []
    for row in range(BATCH):
        weights = dict(start)
        surprise = {name: torch.zeros_like(w) for name, w in weights.items()}
        held = weights
        answers: list[Tensor] = []
        for t in range(TIME):
            held = dict(weights) if t % period == 0 else held
            q, k, v, alpha, eta, theta = (x[name][row, t] for name in x)
            momentary: Weights = slope(held, k, v)
            for name in weights:
                surprise[name] = eta * surprise[name] - theta * momentary[name]
                weights[name] = (1 - alpha) * weights[name] + surprise[name]
            answers.append(net(weights, q))
        rows.append(torch.stack(answers))
    return torch.stack(rows)


def mlp(weights: Weights, key: Tensor) -> Tensor:
    return weights["M.1.weight"] @ F.silu(weights["M.0.weight"] @ key)


@pytest.mark.against("automatic differentiation of the objective")
@pytest.mark.parametrize("period", [1, 4, 16])
def test_titans_by_automatic_differentiation(period: int) -> None:
    titans = rule("deep/titans.seq", "titans", n=KEY, m=VALUE, c=period)
    start = {
        "M.0.weight": random(4 * KEY, KEY, seed=20) / 2,
        "M.1.weight": random(VALUE, 4 * KEY, seed=21) / 4,
    }
    close(apply(titans, given(), start), learn(mlp, start, given(), period))


@pytest.mark.against("automatic differentiation of the objective")
@pytest.mark.parametrize("period", [1, 4])
def test_a_matrix_that_learns_by_automatic_differentiation(period: int) -> None:
    titans = rule("deep/titans.seq", "titans_linear", n=KEY, m=VALUE, c=period)
    start = {"M": torch.zeros(VALUE, KEY, dtype=torch.float64)}
    close(apply(titans, given()), learn(lambda w, key: w["M"] @ key, start, given(), period))


def ttt_net(layers: list[tuple[str, str]], scale: Tensor) -> Net:
    """x + LN(f_res(x)), with GELU between the layers."""

    def net(weights: Weights, key: Tensor) -> Tensor:
        x = key
        for i, (weight, bias) in enumerate(layers):
            x = weights[weight] @ x + weights[bias]
            x = F.gelu(x, approximate="tanh") if i + 1 < len(layers) else x
        return key + F.layer_norm(x, x.shape, eps=1e-6) * scale

    return net


@pytest.mark.against("automatic differentiation of the objective")
@pytest.mark.parametrize("name", ["ttt_linear", "ttt_mlp"])
def test_ttt_by_automatic_differentiation(name: str) -> None:
    ttt = rule("deep/ttt.seq", name, n=KEY, m=KEY, c=4)
    start = {
        p.name: random(*(ttt.sizes[a] for a in p.axes), seed=i) / 2
        for i, p in enumerate(ttt.parameters)
        if "norm" not in p.name
    }
    scale = 1 + random(KEY, seed=30) / 4
    layers = [(f"W.{i}.weight", f"W.{i}.bias") for i in range(len(start) // 2)]
    x = given()
    nothing = torch.zeros(BATCH, TIME, dtype=torch.float64)
    x = {
        "q": x["q"],
        "k": x["k"],
        "v": random(BATCH, TIME, KEY, seed=3),
        "alpha": nothing,
        "eta": nothing,
    } | {"rate": x["theta"]}
    want = learn(ttt_net(layers, scale), start, x, 4)
    inputs = {leaf.name: x[leaf.name] for leaf in ttt.inputs}
    close(apply(ttt, inputs, {**start, "W.norm.weight": scale}), want)


@pytest.mark.against("flash-linear-attention's naive forms")
def test_ttt_is_the_reference_of_flash_linear_attention() -> None:
    """One rate for all tokens, as its factors stand elsewhere; its read is another, so the states are compared."""
    theirs: Any = naive("ttt/naive")
    ttt = rule("deep/ttt.seq", "ttt_linear", n=KEY, m=KEY, c=4)
    time, rate = 12, 0.05
    x = {name: random(BATCH, time, KEY, seed=seed) for seed, name in enumerate("qkv")}
    scale, start, bias = 1 + random(KEY, seed=30) / 4, random(KEY, KEY, seed=31), random(KEY, seed=32)
    weights = {"W.0.weight": start, "W.0.bias": bias, "W.norm.weight": scale}
    rates = torch.full((BATCH, time), rate, dtype=torch.float64)
    _, state = run_recurrence(ttt, {**x, "rate": rates}, weights)
    with doubles():
        _, memory, shift = theirs.ttt_linear(
            *(x[name][:, None].clone() for name in "qkv"),
            scale,
            torch.zeros_like(scale),
            rates[:, None, :, None],
            1.0,
            1e-6,
            4,
            start.T.expand(BATCH, 1, KEY, KEY),
            bias.expand(BATCH, 1, 1, KEY),
            True,
        )
    close(state["W.0.weight"], memory[:, 0].transpose(1, 2))
    close(state["W.0.bias"], shift[:, 0, 0])
