"""The oracle on our specs against flash-linear-attention's naive references."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.parity.references import doubles, naive
from tests.parity.specs import apply, close, random, rule

pytestmark = pytest.mark.against("flash-linear-attention's naive forms")

B, T, H, N, M = 2, 19, 3, 5, 4
HEADS = {"q": "h n", "k": "h n", "v": "h m"}
WIDTHS = {"n": N, "m": M, "h": H}


def queries() -> dict[str, Tensor]:
    return {"q": random(B, T, H, N, seed=1), "k": random(B, T, H, N, seed=2), "v": random(B, T, H, M, seed=3)}


def scaled(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The references scale the query; in our specs the block does."""
    return {**inputs, "q": inputs["q"] * N**-0.5}


def gate(*shape: int) -> Tensor:
    """A gate's logarithm, from forgetting nearly everything to nearly nothing."""
    return -torch.exp(1.5 * random(*shape, seed=4) - 1)


def heads_first(*tensors: Tensor) -> list[Tensor]:
    return [x.transpose(1, 2) for x in tensors]


def test_linear_attention() -> None:
    given = queries()
    reference = naive("linear_attn/naive").naive_recurrent_linear_attn
    with doubles():
        want, _ = reference(**given)
    close(
        apply(rule("linear/linear_attention.seq", "linear_attention", HEADS, **WIDTHS), scaled(given)), want
    )


def test_normalised_linear_attention() -> None:
    """Ours applies the feature map itself; the scale of the query drops out."""
    given = queries()
    features = {name: torch.nn.functional.elu(given[name]) + 1 for name in "qk"}
    reference = naive("linear_attn/naive").naive_recurrent_linear_attn
    with doubles():
        want, _ = reference(**{**given, **features}, normalize=True)
    ours = rule(
        "linear/linear_attention.seq", "normalised_linear_attention", HEADS, **WIDTHS, eps=1e-10 * N**0.5
    )
    close(apply(ours, given), want)


def test_retention() -> None:
    given = queries()
    with doubles():
        want = naive("retention/naive").naive_retention(*heads_first(*given.values())).transpose(1, 2)
    gamma = (1 - 2.0 ** (-5 - torch.arange(H, dtype=torch.float64))).expand(B, T, H)
    ours = rule("linear/retnet.seq", "retain", {**HEADS, "gamma": "h"}, **WIDTHS)
    close(apply(ours, {**scaled(given), "gamma": gamma}), want)


def test_simple_gla_is_retention_with_a_gate_and_mamba_2() -> None:
    given, g = queries(), gate(B, T, H)
    with doubles():
        want, _ = naive("simple_gla/naive").naive_recurrent_simple_gla(**given, g=g)
    ours = rule("linear/retnet.seq", "retain", {**HEADS, "gamma": "h"}, **WIDTHS)
    close(apply(ours, {**scaled(given), "gamma": g.exp()}), want)
    dt = torch.nn.functional.softplus(random(B, T, H, seed=5))
    axes = {"x": "h p", "B": "h n", "C": "h n", "dt": "h", "a": "h"}
    ours = rule("linear/mamba2.seq", "mamba2", axes, n=N, p=M, h=H)
    q, k, v = scaled(given).values()
    close(apply(ours, {"x": v / dt[..., None], "B": k, "C": q, "dt": dt, "a": g / dt}), want)


def test_gla() -> None:
    given, g = queries(), gate(B, T, H, N)
    with doubles():
        want, _ = naive("gla/naive").naive_recurrent_gla(**given, gk=g)
    ours = rule("linear/gla.seq", "gla", {**HEADS, "alpha": "h n"}, **WIDTHS)
    close(apply(ours, {**scaled(given), "alpha": g.exp()}), want)


def test_hgrn() -> None:
    x, g = random(B, T, N, seed=1), gate(B, T, N)
    with doubles():
        want, _ = naive("hgrn/naive").naive_recurrent_hgrn(x * (1 - g.exp()), g)
    close(apply(rule("gated/hgrn.seq", "hgrn", d=N), {"f": g.exp(), "c": x}), want)


def test_delta() -> None:
    given, beta = queries(), random(B, T, H, seed=5).sigmoid()
    with doubles():
        want, _ = naive("delta_rule/naive").delta_rule_recurrence(*heads_first(*given.values(), beta))
    ours = rule("delta/deltanet.seq", "delta", {**HEADS, "beta": "h"}, **WIDTHS)
    close(apply(ours, {**scaled(given), "beta": beta}), want.transpose(1, 2))


def test_gated_delta() -> None:
    given, beta, g = queries(), random(B, T, H, seed=5).sigmoid(), gate(B, T, H)
    with doubles():
        want, _ = naive("gated_delta_rule/naive").naive_recurrent_gated_delta_rule(**given, beta=beta, g=g)
    ours = rule("delta/gated_delta.seq", "gated_delta", {**HEADS, "alpha": "h", "beta": "h"}, **WIDTHS)
    close(apply(ours, {**scaled(given), "beta": beta, "alpha": g.exp()}), want)


def test_kda_with_keys_shared_by_two_heads_of_values() -> None:
    given, groups = queries(), 2
    given["v"] = random(B, T, H * groups, M, seed=3)
    beta, g = random(B, T, H * groups, seed=5).sigmoid(), gate(B, T, H * groups, N)
    with doubles():
        want, _ = naive("kda/naive").naive_recurrent_kda(**given, g=g, beta=beta)
    axes = {**HEADS, "v": "h g m", "alpha": "h g n", "beta": "h g"}
    ours = rule("delta/kda.seq", "kda", axes, **WIDTHS, g=groups)
    mine = {
        **scaled(given),
        "v": given["v"].unflatten(2, (H, groups)),
        "alpha": g.exp().unflatten(2, (H, groups)),
        "beta": beta.unflatten(2, (H, groups)),
    }
    close(apply(ours, mine).flatten(2, 3), want)


def test_rwkv7_is_a_dplr_rule() -> None:
    given, g = queries(), gate(B, T, H, N)
    kappa = torch.nn.functional.normalize(random(B, T, H, N, seed=6), dim=-1)
    a = random(B, T, H, N, seed=7).sigmoid()
    with doubles():
        reference = naive("generalized_delta_rule/dplr/naive").dplr_recurrence
        want, _ = reference(*heads_first(*given.values(), -kappa, kappa * a, g))
    axes = {"r": "h n", "w": "h n", "k": "h n", "v": "h m", "kappa": "h n", "a": "h n"}
    q, k, v = scaled(given).values()
    mine = {"r": q, "w": g.exp(), "k": k, "v": v, "kappa": kappa, "a": a}
    close(apply(rule("delta/rwkv7.seq", "rwkv7", axes, **WIDTHS), mine), want.transpose(1, 2))
