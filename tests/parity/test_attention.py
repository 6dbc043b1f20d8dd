"""Attention against PyTorch's and Transformers', and its recurrent relatives against what they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqc.oracle import parameter_table
from tests.parity.references import doubles, naive
from tests.parity.specs import apply, apply_model, block, close, model, random, rule

BATCH, TIME, HEADS, GROUPS, KEY, VALUE = 2, 13, 2, 3, 4, 5
AXES = {"q": "h g n", "k": "h n", "v": "h m"}


def given() -> dict[str, Tensor]:
    return {
        "q": random(BATCH, TIME, HEADS, GROUPS, KEY, seed=1),
        "k": random(BATCH, TIME, HEADS, KEY, seed=2),
        "v": random(BATCH, TIME, HEADS, VALUE, seed=3),
    }


def torchs(x: dict[str, Tensor], bias: Tensor) -> Tensor:
    """`scaled_dot_product_attention` with grouped queries, laid out as ours: `[batch, time, h, g, m]`."""
    q = x["q"].permute(0, 2, 3, 1, 4).flatten(1, 2)  # [batch, heads, time, n]
    k, v = x["k"].transpose(1, 2), x["v"].transpose(1, 2)
    y: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)
    return y.reshape(BATCH, HEADS, GROUPS, TIME, VALUE).permute(0, 3, 1, 2, 4)


@pytest.mark.against("PyTorch")
def test_softmax_attention_is_torchs() -> None:
    attention = rule("attention/softmax.seq", axes=AXES, n=KEY, m=VALUE, h=HEADS, g=GROUPS)
    x = given()
    seen = torch.ones(TIME, TIME, dtype=torch.bool).tril()
    close(apply(attention, x), torchs(x, seen))


@pytest.mark.against("PyTorch, with a mask")
def test_the_window_and_its_sinks_are_a_mask() -> None:
    attention = rule("attention/window.seq", axes=AXES, n=KEY, m=VALUE, h=HEADS, g=GROUPS, window=3, sinks=2)
    x = given()
    query, key = torch.arange(TIME)[:, None], torch.arange(TIME)
    seen = (key <= query) & ((key > query - 3) | (key < 2))
    close(apply(attention, x), torchs(x, seen))


@pytest.mark.against("PyTorch, with a bias")
def test_forgetting_attention_is_attention_with_a_bias() -> None:
    """The bias summed up directly, pair by pair: what the running sums of the rule must differ by."""
    axes = {"q": "h n", "k": "h n", "v": "h m", "log_f": "h"}
    attention = rule("attention/fox.seq", axes=axes, n=KEY, m=VALUE, h=HEADS)
    x = {name: random(BATCH, TIME, HEADS, KEY, seed=seed) for seed, name in enumerate("qk")}
    x["v"] = random(BATCH, TIME, HEADS, VALUE, seed=3)
    x["log_f"] = F.logsigmoid(random(BATCH, TIME, HEADS, seed=4))
    bias = torch.full((BATCH, HEADS, TIME, TIME), -torch.inf, dtype=torch.float64)
    for i in range(TIME):
        for j in range(i + 1):
            bias[:, :, i, j] = x["log_f"][:, j + 1 : i + 1].sum(1)
    q, k, v = (x[name].transpose(1, 2) for name in "qkv")
    want = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    close(apply(attention, x), want.transpose(1, 2))


@pytest.mark.against("flash-linear-attention's naive forms")
def test_forgetting_attention_is_the_reference_of_flash_linear_attention() -> None:
    theirs: Any = naive("forgetting_attn/naive")
    axes = {"q": "h g n", "k": "h n", "v": "h m", "log_f": "h g"}
    attention = rule("attention/fox.seq", axes=axes, n=KEY, m=KEY, h=HEADS, g=GROUPS)
    x = {
        "q": random(BATCH, TIME, HEADS, GROUPS, KEY, seed=1),
        "k": random(BATCH, TIME, HEADS, KEY, seed=2),
        "v": random(BATCH, TIME, HEADS, KEY, seed=3),
        "log_f": F.logsigmoid(random(BATCH, TIME, HEADS, GROUPS, seed=4)),
    }
    with doubles():
        want: Tensor = theirs.naive_forgetting_attn(
            x["q"].flatten(2, 3), x["k"], x["v"], x["log_f"].flatten(2, 3)
        )
    close(apply(attention, x).flatten(2, 3), want)


@pytest.mark.against("the softmax over the past, written out")
def test_aaren_is_the_softmax_over_its_past() -> None:
    """Equation by equation, with weights that would overflow unless the maximum is taken off."""
    aaren = rule("attention/aaren.seq", m=VALUE)
    x = {"score": 800 * random(BATCH, TIME, seed=1), "v": random(BATCH, TIME, VALUE, seed=2)}
    scores, values = x["score"].numpy(), x["v"].numpy()
    want = np.zeros((BATCH, TIME, VALUE))
    for row in range(BATCH):
        for t in range(TIME):
            past = scores[row, : t + 1] - scores[row, : t + 1].max()
            weights = np.exp(past) / np.exp(past).sum()
            want[row, t] = weights @ values[row, : t + 1]
    close(apply(aaren, x), torch.from_numpy(want))


@pytest.mark.against("the softmax over the past, written out")
def test_lightnet_is_a_softmax_of_its_keys_over_time() -> None:
    """`S = softmax_over_time(K)^T V`, one channel of the keys at a time."""
    lightnet = rule("gated/lightnet.seq", n=KEY, m=VALUE, scale=1)
    x = {
        "q": random(BATCH, TIME, KEY, seed=1),
        "k": 300 * random(BATCH, TIME, KEY, seed=2),
        "v": random(BATCH, TIME, VALUE, seed=3),
    }
    q, k, v = (x[name].numpy() for name in "qkv")
    want = np.zeros((BATCH, TIME, VALUE))
    for row in range(BATCH):
        for t in range(TIME):
            for channel in range(KEY):
                past = k[row, : t + 1, channel]
                weights = np.exp(past - past.max())
                want[row, t] += q[row, t, channel] * (weights @ v[row, : t + 1]) / weights.sum()
    close(apply(lightnet, x), torch.from_numpy(want))


@pytest.mark.against("Transformers")
def test_a_llama_is_transformers_llama() -> None:
    """Whole models with the same weights: rotary positions, grouped queries, norms and SwiGLU."""
    transformers: Any = pytest.importorskip("transformers")
    torch.manual_seed(0)
    d, heads, kv_heads, hidden, layers, vocab = 16, 4, 2, 24, 2, 11
    config: Any = transformers.LlamaConfig(
        vocab_size=vocab,
        hidden_size=d,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=hidden,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
    )
    with doubles():
        theirs: Any = transformers.LlamaForCausalLM(config).eval()
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.5)
    given: dict[str, Tensor] = theirs.state_dict()
    weights = {
        "embed.weight": given["model.embed_tokens.weight"],
        "rms_norm.weight": given["model.norm.weight"],
        "lm_head.scores.weight": given["lm_head.weight"],
    }
    n = d // heads
    shapes = {
        "q": (kv_heads, -1, n, d),
        "k": (kv_heads, n, d),
        "v": (kv_heads, n, d),
        "o": (d, kv_heads, -1, n),
    }
    for i in range(layers):
        own, layer = f"layers.{i}", f"model.layers.{i}"
        for name, shape in shapes.items():
            weight = given[f"{layer}.self_attn.{name}_proj.weight"].view(shape)
            weights[f"{own}.attention.{'out' if name == 'o' else name}.weight"] = weight
        for name in ("gate", "up", "down"):
            weights[f"{own}.swiglu.{name}.weight"] = given[f"{layer}.mlp.{name}_proj.weight"]
        weights[f"{own}.rms_norm.weight"] = given[f"{layer}.input_layernorm.weight"]
        weights[f"{own}.rms_norm_1.weight"] = given[f"{layer}.post_attention_layernorm.weight"]
    tokens = torch.randint(vocab, (BATCH, TIME))
    ours = model(
        "attention/llama.seq", vocab=vocab, d=d, h=heads, kv_heads=kv_heads, layers=layers, hidden=hidden
    )
    with doubles():
        want: Tensor = theirs(tokens).logits
    close(apply_model(ours, tokens, weights), want)


@pytest.mark.against("a loop over the paper's equations")
def test_a_forgetting_layer_by_hand() -> None:
    """The Pro block, from its definition: shifted keys and values, norms, bias, gate."""
    d, n = 6, 3
    layer = block("attention/fox.seq", "forgetting_layer", d=d, h=HEADS)
    weights = {name: random(*p.shape, seed=i) for i, (name, p) in enumerate(parameter_table(layer).items())}
    x = random(BATCH, TIME, d, seed=50)
    heads = {name: torch.einsum("btd,hnd->bthn", x, weights[f"{name}.weight"]) for name in "qkvo"}
    a_k, a_v, f = (torch.einsum("btd,hd->bth", x, weights[f"{name}.weight"]) for name in ("a_k", "a_v", "f"))
    log_f = F.logsigmoid(f + weights["b"])

    def mixed(y: Tensor, a: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1)
        share = torch.sigmoid(a)[..., None]
        return share * before + (1 - share) * y

    def normed(y: Tensor, name: str) -> Tensor:
        return F.rms_norm(y, (n,), eps=1e-6) * weights[f"{name}.weight"]

    q, k, v = normed(heads["q"], "q_norm"), normed(mixed(heads["k"], a_k), "k_norm"), mixed(heads["v"], a_v)
    total = log_f.cumsum(1).transpose(1, 2)
    bias = total[..., :, None] - total[..., None, :]
    bias = bias.masked_fill(torch.ones(TIME, TIME).triu(1).bool(), -torch.inf)
    q, k, v = (z.transpose(1, 2) for z in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)
    y = torch.sigmoid(heads["o"]) * normed(y, "norm")
    want = torch.einsum("bthn,dhn->btd", y, weights["out.weight"])
    close(apply_model(layer, {"x": x}, weights), want)
