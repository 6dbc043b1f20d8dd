"""The oracle on the younger rules of the delta family against flash-linear-attention's naive references."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tests.parity.references import doubles, naive
from tests.parity.specs import apply, close, random, rule

B, T, H, N, M = 2, 19, 3, 5, 4
WIDTHS = {"n": N, "m": M, "h": H}
HEADS = {"q": "h n", "k": "h n", "v": "h m"}
GATED = {**HEADS, "alpha": "h", "beta": "h"}


def queries() -> dict[str, Tensor]:
    return {
        "q": random(B, T, H, N, seed=1),
        "k": normalize(random(B, T, H, N, seed=2), dim=-1),
        "v": random(B, T, H, M, seed=3),
    }


def scaled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The references scale the query; in our specs the block does."""
    return {**inputs, "q": inputs["q"] * N**-0.5}


def gate(*shape: int, seed: int = 4) -> Tensor:
    """A gate's logarithm, from forgetting nearly everything to nearly nothing."""
    return -torch.exp(1.5 * random(*shape, seed=seed) - 1)


def rate(*shape: int, seed: int = 5) -> Tensor:
    return random(*shape, seed=seed).sigmoid()


@pytest.mark.against("flash-linear-attention's naive forms")
def test_comba_removes_by_one_key_and_writes_by_another() -> None:
    given, g, beta = queries(), gate(B, T, H), rate(B, T, H)
    p = rate(H, 1, seed=6) * given["k"] + 0.2 * random(B, T, H, N, seed=7)
    with doubles():
        want, _ = naive("comba/naive").naive_recurrent_comba(**given, p=p, beta=beta, g=g)
    ours = rule("delta/comba.seq", "comba", {**GATED, "p": "h n"}, **WIDTHS)
    close(apply(ours, {**scaled(given), "p": p, "alpha": g.exp(), "beta": beta}), want)


@pytest.mark.against("flash-linear-attention's naive forms")
def test_gdn2() -> None:
    given, g = queries(), gate(B, T, H, N)
    erase, write = rate(B, T, H, N), rate(B, T, H, M, seed=6)
    with doubles():
        want, _ = naive("gdn2/naive").naive_recurrent_gdn2(**given, g=g, b=erase, w=write)
    axes = {**HEADS, "alpha": "h n", "erase": "h n", "write": "h m"}
    ours = rule("delta/gdn2.seq", "gdn2", axes, **WIDTHS)
    close(apply(ours, {**scaled(given), "alpha": g.exp(), "erase": erase, "write": write}), want)


@pytest.mark.against("flash-linear-attention's naive forms")
def test_momentum_delta() -> None:
    given, g, mu = queries(), gate(B, T, H), gate(B, T, H, seed=6)
    beta, eta = rate(B, T, H), 2 * rate(B, T, H, seed=7)
    p = g.exp()[..., None] * given["k"]
    with doubles():
        reference = naive("momentum_delta_rule/naive").recurrent_momentum_delta_rule_ref
        want, _ = reference(**given, p=p, log_alpha=g, log_mu=mu, beta=beta, eta=eta)
    axes = {**GATED, "p": "h n", "mu": "h", "eta": "h"}
    mine = {**scaled(given), "p": p, "alpha": g.exp(), "mu": mu.exp(), "beta": beta, "eta": eta}
    close(apply(rule("delta/momentum_delta.seq", "momentum_delta", axes, **WIDTHS), mine), want)


@pytest.mark.against("flash-linear-attention's naive forms")
def test_preconditioned_delta() -> None:
    """The reference takes the length of queries and keys itself."""
    given, g, fade = queries(), gate(B, T, H), gate(B, T, H, seed=6)
    given["q"] = normalize(given["q"], dim=-1)
    beta, each, centre = rate(B, T, H), rate(B, T, H, seed=7), random(H, seed=8)
    with doubles():
        reference = naive("precond_gated_delta_rule/naive").naive_recurrent_precond_gated_delta_rule
        want, _, _ = reference(**given, g_atk=fade, g=g, beta_atk=each, beta=beta, log_atk_scale=centre)
    axes = {**GATED, "fade": "h", "rate": "h", "centre": "h"}
    gates = {"alpha": g.exp(), "beta": beta, "fade": fade.exp(), "rate": each}
    mine = {**scaled(given), **gates, "centre": centre.expand(B, T, H)}
    close(apply(rule("delta/preconditioned_delta.seq", "preconditioned_delta", axes, **WIDTHS), mine), want)


@pytest.mark.against("flash-linear-attention's naive forms")
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_gated_delta_product(steps: int) -> None:
    """The reference has the steps of a token one after another in time."""
    g, q = gate(B, T, H), random(B, T, H, N, seed=1)
    k = normalize(random(B, T, steps, H, N, seed=2), dim=-1)
    v, beta = random(B, T, steps, H, M, seed=3), 2 * rate(B, T, steps, H)
    with doubles():
        reference = naive("gated_delta_product/naive").naive_recurrent_gated_delta_product
        flat = [x.flatten(1, 2) for x in (k, v)]
        want, _ = reference(q, *flat, g, beta.flatten(1, 2), scale=1.0, num_householder=steps)
    axes = {"q": "h n", "k": "h steps n", "v": "h steps m", "beta": "h steps", "alpha": "h"}
    ours = rule("delta/gated_delta_product.seq", "gated_delta_product", axes, **WIDTHS, steps=steps)
    swapped = {"k": k.transpose(2, 3), "v": v.transpose(2, 3), "beta": beta.transpose(2, 3)}
    close(apply(ours, {"q": q, **swapped, "alpha": g.exp()}), want)
