"""The oracle on the wider linear family against flash-linear-attention's naive references."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tests.parity.references import doubles, naive
from tests.parity.specs import apply, close, random, rule

B, T, H, N, M, SLOTS = 2, 19, 3, 5, 4, 6
WIDTHS = {"n": N, "m": M, "h": H}
HEADS = {"q": "h n", "k": "h n", "v": "h m"}


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


@pytest.mark.against("flash-linear-attention's naive forms")
def test_based() -> None:
    given = queries()
    with doubles():
        want = naive("based/naive").naive_parallel_based(*heads_first(*given.values()))
    ours = rule("linear/based.seq", "taylor_attention", HEADS, **WIDTHS, eps=1e-6)
    close(apply(ours, scaled(given)), want.transpose(1, 2))


@pytest.mark.against("flash-linear-attention's naive forms")
def test_taylorshift_is_that_kernel_on_keys_of_length_1() -> None:
    """The reference without its normaliser, and its epsilon, on the values and on ones."""
    given, tau = queries(), 2.5
    given["q"], given["k"] = tau * normalize(given["q"], dim=-1), normalize(given["k"], dim=-1)
    q, k, v = heads_first(*given.values())
    with doubles():
        reference = naive("based/naive").naive_parallel_based
        above = reference(q.clone(), k, v, scale=1, use_norm=False)
        below = reference(q.clone(), k, torch.ones_like(v), scale=1, use_norm=False)
    ours = rule("linear/taylorshift.seq", "taylorshift", HEADS, **WIDTHS)
    close(apply(ours, given), (above / below).transpose(1, 2))


@pytest.mark.against("flash-linear-attention's naive forms")
def test_rebased_on_pairs_of_channels() -> None:
    given = queries()
    with doubles():
        want = naive("rebased/naive").naive_parallel_rebased(*heads_first(*given.values()))
    ours = rule("linear/rebased.seq", "squared_attention", HEADS, **WIDTHS, eps=1e-6)
    close(apply(ours, scaled(given)), want.transpose(1, 2))


@pytest.mark.against("flash-linear-attention's naive forms")
def test_rebased_on_channels_is_linear_attention_of_squares() -> None:
    given = queries()
    squares = {"q": given["q"] ** 2, "k": given["k"] ** 2, "v": given["v"]}
    with doubles():
        want, _ = naive("linear_attn/naive").naive_recurrent_linear_attn(**squares, scale=1.0, normalize=True)
    ours = rule("linear/rebased.seq", "squared_channels", HEADS, **WIDTHS, eps=1e-10)
    close(apply(ours, given), want)


@pytest.mark.against("flash-linear-attention's naive forms")
@pytest.mark.parametrize("nu", [1, 3])
def test_dpfp_features(nu: int) -> None:
    given = queries()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that there is no GPU
        features = pytest.importorskip("fla.modules.feature_map").DPFPFeatureMap(N, nu)
    mapped = {"q": features(given["q"]), "k": features(given["k"]), "v": given["v"]}
    with doubles():
        want, _ = naive("linear_attn/naive").naive_recurrent_linear_attn(**mapped, scale=1.0, normalize=True)
    ours = rule("linear/dpfp.seq", "dpfp_attention", HEADS, **WIDTHS, nu=nu, eps=1e-10)
    close(apply(ours, given), want)


@pytest.mark.against("flash-linear-attention's naive forms")
def test_dpfp_delta_is_the_delta_rule_on_features_that_sum_to_1() -> None:
    given, beta = queries(), random(B, T, H, seed=5).sigmoid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = pytest.importorskip("fla.modules.feature_map").DPFPFeatureMap(N, 2)
    q, k = features(given["q"]), features(given["k"])
    parts = [q / (q.sum(-1, True) + 1e-6), k / (k.sum(-1, True) + 1e-6), given["v"], beta]
    with doubles():
        want, _ = naive("delta_rule/naive").delta_rule_recurrence(*heads_first(*parts))
    ours = rule("linear/dpfp.seq", "dpfp_delta", {**HEADS, "beta": "h"}, **WIDTHS, nu=2)
    scale = q.shape[-1] ** -0.5  # the reference's
    close(scale * apply(ours, {**given, "beta": beta}), want.transpose(1, 2))


@pytest.mark.against("flash-linear-attention's naive forms")
def test_gated_slots() -> None:
    given, f = queries(), gate(B, T, H, SLOTS)
    with doubles():
        want, _ = naive("gsa/naive").naive_recurrent_gsa(**given, s=1 - f.exp(), g=f)
    ours = rule("linear/gsa.seq", "gsa", {**HEADS, "f": "h slots"}, **WIDTHS, slots=SLOTS)
    close(apply(ours, {**scaled(given), "f": f.exp()}), want)


@pytest.mark.against("flash-linear-attention's naive forms")
def test_bounded_memory_control() -> None:
    """Scores far above and below 0, which a sum of exponentials would not survive."""
    given, s = queries(), 30 * random(B, T, H, SLOTS, seed=6)
    with doubles():
        want, _ = naive("abc/naive").naive_recurrent_abc(*heads_first(*given.values(), s))
    ours = rule("linear/gsa.seq", "abc", {**HEADS, "s": "h slots"}, **WIDTHS, slots=SLOTS)
    close(apply(ours, {**scaled(given), "s": s}), want.transpose(1, 2))


@pytest.mark.against("flash-linear-attention's naive forms")
def test_rwkv6_reads_before_the_write_and_adds_a_bonus() -> None:
    given, w, u = queries(), gate(B, T, H, N), random(H, N, seed=6)
    with doubles():
        reference = naive("rwkv6/recurrent_naive").naive_recurrent_rwkv6
        want, _ = reference(*heads_first(*given.values(), w), u, scale=1.0)
    axes = {"r": "h n", "w": "h n", "k": "h n", "v": "h m", "u": "h n"}
    mine = {"r": given["q"], "w": w.exp(), "k": given["k"], "v": given["v"], "u": u.expand(B, T, H, N)}
    close(apply(rule("linear/rwkv6.seq", "rwkv6", axes, **WIDTHS), mine), want.transpose(1, 2))
