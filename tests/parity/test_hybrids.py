"""Whole hybrid models against those of Transformers, with the same random weights."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.references import doubles
from tests.parity.specs import apply_model, block, close, model, random
from tests.parity.weights import (
    Weights,
    attention,
    dense,
    experts,
    gated,
    gated_attention,
    gated_delta_net,
    recurrent,
    under,
)

BATCH, TIME, VOCAB, WIDTH = 2, 13, 11, 16
HEADS, GROUPS, HEAD = 1, 2, 8  # key-value heads, queries for each, and their width
EXPERTS, CHOSEN, HIDDEN = 4, 2, 12
TOLERANCE = 1e-10


def causal_model(name: str, layers: int = 2, **settings: Any) -> Any:
    """A language model of Transformers at double precision; every weight of it is random."""
    transformers: Any = pytest.importorskip("transformers")
    with pytest.MonkeyPatch.context() as patch:
        for package in ("fla", "mamba_ssm", "causal_conv1d"):  # whose kernels would be taken, and want a GPU
            patch.setitem(sys.modules, package, None)
        config: Any = getattr(transformers, f"{name}Config")(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            num_attention_heads=HEADS * GROUPS,
            num_key_value_heads=HEADS,
            head_dim=HEAD,
            num_hidden_layers=layers,
            **settings,
        )
        config._experts_implementation = "eager"  # the others have no double precision
        with doubles():
            made: Any = getattr(transformers, f"{name}ForCausalLM")(config)
            for index, weight in enumerate(made.parameters()):
                weight.copy_(0.4 * random(*weight.shape, seed=index + 1))
    return made.double().eval()


def matches(ours: Any, theirs: Any, weights: Weights) -> None:
    tokens = torch.randint(VOCAB, (BATCH, TIME), generator=torch.Generator().manual_seed(0))
    with doubles():
        want: Tensor = theirs(tokens).logits
    close(apply_model(ours, tokens, weights), want, TOLERANCE)


@pytest.mark.against("Transformers")
def test_jamba() -> None:
    n, rank = 4, 1
    theirs = causal_model(
        "Jamba",
        intermediate_size=HIDDEN,
        num_experts=EXPERTS,
        num_experts_per_tok=CHOSEN,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=n,
        mamba_dt_rank=rank,
    )
    first, second = theirs.model.layers
    mixer, own = first.mamba, "layers.0.mamba_mixer"
    x, z = mixer.in_proj.weight.chunk(2)
    low, B, C = mixer.x_proj.weight.split([rank, n, n])
    maps = {"x": x, "z": z, "dt_down": low, "B": B, "C": C}
    maps |= {"dt_up": mixer.dt_proj.weight, "out": mixer.out_proj.weight, "conv": mixer.conv1d.weight[:, 0]}
    maps |= {"dt_norm": mixer.dt_layernorm.weight}
    maps |= {"B_norm": mixer.b_layernorm.weight, "C_norm": mixer.c_layernorm.weight}
    weights = {f"{own}.{name}.weight": weight for name, weight in maps.items()}
    weights |= {f"{own}.conv.bias": mixer.conv1d.bias, f"{own}.dt_bias": mixer.dt_proj.bias}
    weights |= {f"{own}.scan.A_log": mixer.A_log, f"{own}.scan.D": mixer.D}
    weights |= under("layers.0.swiglu", gated(first.feed_forward))
    weights |= under("layers.1.plain_attention", attention(second.self_attn))
    routed = second.feed_forward
    weights |= under("layers.1.moe", experts(routed.experts, routed.router.weight))
    for i, layer in enumerate((first, second)):
        weights[f"layers.{i}.rms_norm.weight"] = layer.input_layernorm.weight
        weights[f"layers.{i}.rms_norm_1.weight"] = layer.pre_ff_layernorm.weight
    weights["embed.weight"] = theirs.model.embed_tokens.weight
    weights["rms_norm.weight"] = theirs.model.final_layernorm.weight
    weights["lm_head.scores.weight"] = theirs.lm_head.weight
    pattern = {"layers": 2, "period": 2, "offset": 1, "n": n}
    sizes = {"h": HEADS * GROUPS, "kv_heads": HEADS, "experts": EXPERTS, "k": CHOSEN, "hidden": HIDDEN}
    matches(model("hybrid/jamba.seq", None, vocab=VOCAB, d=WIDTH, **pattern, **sizes), theirs, weights)


@pytest.mark.against("Transformers")
def test_qwen3_next() -> None:
    h, groups, n, m, common = 2, 2, 4, 6, 10
    theirs = causal_model(
        "Qwen3Next",
        linear_num_key_heads=h,
        linear_num_value_heads=h * groups,
        linear_key_head_dim=n,
        linear_value_head_dim=m,
        layer_types=["linear_attention", "full_attention"],
        num_experts=EXPERTS,
        num_experts_per_tok=CHOSEN,
        moe_intermediate_size=HIDDEN,
        shared_expert_intermediate_size=common,
    )
    first, second = theirs.model.layers
    weights = under("layers.0.gated_delta_net", gated_delta_net(first.linear_attn))
    weights |= under("layers.1.gated_attention", gated_attention(second.self_attn))
    for i, layer in enumerate((first, second)):
        own, routed = f"layers.{i}.shared_moe", layer.mlp
        weights |= under(f"{own}.moe", experts(routed.experts, routed.gate.weight))
        weights |= under(f"{own}.shared_expert", gated(routed.shared_expert))
        weights[f"{own}.open"] = routed.shared_expert_gate.weight[0]
        weights[f"layers.{i}.rms_norm.weight"] = 1 + layer.input_layernorm.weight
        weights[f"layers.{i}.rms_norm_1.weight"] = 1 + layer.post_attention_layernorm.weight
    weights["embed.weight"] = theirs.model.embed_tokens.weight
    weights["rms_norm.weight"] = 1 + theirs.model.norm.weight
    weights["lm_head.scores.weight"] = theirs.lm_head.weight
    delta = {"delta_heads": h, "delta_groups": groups, "delta_n": n, "delta_m": m}
    sizes = {"h": HEADS * GROUPS, "kv_heads": HEADS, "n": HEAD, "layers": 2, "period": 2, "common": common}
    routing = {"experts": EXPERTS, "k": CHOSEN, "hidden": HIDDEN}
    ours = model("hybrid/qwen3_next.seq", None, vocab=VOCAB, d=WIDTH, **delta, **sizes, **routing)
    matches(ours, theirs, weights)


@pytest.mark.against("Transformers")
def test_lfm2() -> None:
    theirs = causal_model(
        "Lfm2",
        intermediate_size=HIDDEN,
        layer_types=["conv", "full_attention"],
        block_auto_adjust_ff_dim=False,
    )
    first, second = theirs.model.layers
    B, C, x = first.conv.in_proj.weight.chunk(3)
    maps = {"B": B, "C": C, "x": x, "out": first.conv.out_proj.weight, "conv": first.conv.conv.weight[:, 0]}
    weights = {f"layers.0.gated_conv.{name}.weight": weight for name, weight in maps.items()}
    weights |= under("layers.1.normed_attention", attention(second.self_attn, "out_proj"))
    for name in "qk":
        norm = getattr(second.self_attn, f"{name}_layernorm").weight
        weights[f"layers.1.normed_attention.{name}_norm.weight"] = norm
    for i, layer in enumerate((first, second)):
        for own, name in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
            weights[f"layers.{i}.swiglu.{own}.weight"] = getattr(layer.feed_forward, name).weight
        weights[f"layers.{i}.rms_norm.weight"] = layer.operator_norm.weight
        weights[f"layers.{i}.rms_norm_1.weight"] = layer.ffn_norm.weight
    weights["table"] = theirs.model.embed_tokens.weight
    weights["rms_norm.weight"] = theirs.model.embedding_norm.weight
    pattern = {"layers": 2, "period": 2, "offset": 1, "hidden": HIDDEN}
    ours = model("hybrid/lfm2.seq", None, vocab=VOCAB, d=WIDTH, h=HEADS * GROUPS, kv_heads=HEADS, **pattern)
    matches(ours, theirs, weights)


@pytest.mark.against("Transformers")
@pytest.mark.parametrize("window", [0, 4])
def test_the_learned_sinks_of_gpt_oss(window: int) -> None:
    pytest.importorskip("transformers")
    from transformers.models.gpt_oss import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention, GptOssRotaryEmbedding

    config: Any = GptOssConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS * GROUPS,
        num_key_value_heads=HEADS,
        head_dim=HEAD,
        num_hidden_layers=1,
        layer_types=["sliding_attention" if window else "full_attention"],
        sliding_window=window or None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    config._attn_implementation = "eager"
    with doubles():
        layer: Any = GptOssAttention(config, 0).double().eval()
        for index, weight in enumerate(layer.parameters()):
            weight.copy_(0.5 * random(*weight.shape, seed=index + 1))
        x = random(BATCH, TIME, WIDTH)
        angles = GptOssRotaryEmbedding(config)(x, torch.arange(TIME)[None])
        age = torch.arange(TIME)[:, None] - torch.arange(TIME)
        seen = (age >= 0) & ((age < window) if window else True)
        mask = torch.where(seen, 0.0, -torch.inf).expand(BATCH, 1, TIME, TIME).double()
        want, _ = layer(x, angles, mask)
    weights = attention(layer)
    weights["q.bias"] = layer.q_proj.bias.unflatten(0, (HEADS, GROUPS, HEAD))
    for name in "kv":
        weights[f"{name}.bias"] = getattr(layer, f"{name}_proj").bias.unflatten(0, (HEADS, HEAD))
    weights["out.bias"] = layer.o_proj.bias
    weights["sink"] = layer.sinks.unflatten(0, (HEADS, GROUPS))
    sizes = {"d": WIDTH, "h": HEADS * GROUPS, "n": HEAD, "kv_heads": HEADS, "window": window}
    ours = block("attention/sinks.seq", "sink_attention", **sizes)
    close(apply_model(ours, {"x": x}, weights), want, TOLERANCE)


@pytest.mark.against("Transformers")
def test_minimax() -> None:
    heads = HEADS * GROUPS
    theirs = causal_model(
        "MiniMax",
        intermediate_size=HIDDEN,
        layer_types=["linear_attention", "full_attention"],
        num_local_experts=EXPERTS,
        num_experts_per_tok=CHOSEN,
        block_size=4,
    )
    first, second = theirs.model.layers
    mixer, own = first.self_attn, "layers.0.lightning_attention"
    q, k, v = mixer.qkv_proj.weight.unflatten(0, (heads, -1)).chunk(3, 1)
    maps = {"q": q, "k": k, "v": v, "g": mixer.output_gate.weight.unflatten(0, (heads, HEAD))}
    maps |= {"norm": mixer.norm.weight.unflatten(0, (heads, HEAD))}
    maps |= {"out": mixer.out_proj.weight.unflatten(1, (heads, HEAD))}
    weights = {f"{own}.{name}.weight": weight for name, weight in maps.items()}
    weights |= under("layers.1.turned_attention", attention(second.self_attn))
    for i, layer in enumerate((first, second)):
        weights |= under(f"layers.{i}.moe", experts(layer.mlp.experts, layer.mlp.gate.weight))
        weights[f"layers.{i}.rms_norm.weight"] = layer.input_layernorm.weight
        weights[f"layers.{i}.rms_norm_1.weight"] = layer.post_attention_layernorm.weight
    weights["embed.weight"] = theirs.model.embed_tokens.weight
    weights["rms_norm.weight"] = theirs.model.norm.weight
    weights["lm_head.scores.weight"] = theirs.lm_head.weight
    sizes = {"h": heads, "n": HEAD, "kv_heads": HEADS, "layers": 2, "period": 2, "turned": HEAD}
    routing = {"experts": EXPERTS, "k": CHOSEN, "hidden": HIDDEN, "base": 1e6}
    matches(model("hybrid/minimax.seq", None, vocab=VOCAB, d=WIDTH, **sizes, **routing), theirs, weights)


@pytest.mark.against("Transformers")
def test_recurrent_gemma() -> None:
    h, w, window = HEADS * GROUPS, 8, 5
    theirs = causal_model(
        "RecurrentGemma",
        intermediate_size=2 * HIDDEN,
        lru_width=h * w,
        attention_window_size=window,
        block_types=["recurrent", "recurrent", "attention"],
        layers=3,
    )
    weights: Weights = {}
    for i, layer in enumerate(theirs.model.layers):
        mixer = layer.temporal_block
        if i < 2:
            weights |= under(f"layers.{i}.recurrent", recurrent(mixer, h))
        else:
            own = f"layers.{i}.half_turned_attention"
            weights |= under(own, attention(mixer)) | {f"{own}.out.bias": mixer.o_proj.bias}
        for name in ("gate", "up", "down"):
            weights |= dense(f"layers.{i}.gated_network.{name}", getattr(layer.mlp_block, f"{name}_proj"))
        weights[f"layers.{i}.rms_norm.weight"] = 1 + layer.temporal_pre_norm.weight
        weights[f"layers.{i}.rms_norm_1.weight"] = 1 + layer.channel_pre_norm.weight
    weights["table"] = theirs.model.embed_tokens.weight
    weights["rms_norm.weight"] = 1 + theirs.model.final_norm.weight
    sizes = {"h": h, "n": HEAD, "kv_heads": HEADS, "w": w, "hidden": HIDDEN, "window": window, "layers": 3}
    matches(model("hybrid/recurrent_gemma.seq", None, vocab=VOCAB, d=WIDTH, **sizes), theirs, weights)


@pytest.mark.against("Transformers")
def test_falcon_mamba_is_jambas_layer_with_norms_of_weight_one() -> None:
    pytest.importorskip("transformers")
    from transformers.models.falcon_mamba import FalconMambaConfig
    from transformers.models.falcon_mamba.modeling_falcon_mamba import FalconMambaMixer

    n, rank, inner = 4, 3, 2 * WIDTH
    config: Any = FalconMambaConfig(
        hidden_size=WIDTH, state_size=n, time_step_rank=rank, num_hidden_layers=1, mixer_rms_eps=1e-6
    )
    with doubles():
        mixer: Any = FalconMambaMixer(config, layer_idx=0, initialize_mixer_weights=False).double().eval()
        for index, weight in enumerate(mixer.parameters()):
            weight.copy_(0.5 * random(*weight.shape, seed=index + 1))
        x = random(BATCH, TIME, WIDTH)
        want: Tensor = mixer(x)
    u, z = mixer.in_proj.weight.chunk(2)
    low, B, C = mixer.x_proj.weight.split([rank, n, n])
    maps = {"x": u, "z": z, "dt_down": low, "B": B, "C": C, "conv": mixer.conv1d.weight[:, 0]}
    maps |= {"dt_up": mixer.dt_proj.weight, "out": mixer.out_proj.weight}
    maps |= {f"{name}_norm": torch.ones(size).double() for name, size in (("dt", rank), ("B", n), ("C", n))}
    weights = {f"{name}.weight": weight for name, weight in maps.items()}
    weights |= {"conv.bias": mixer.conv1d.bias, "dt_bias": mixer.dt_proj.bias}
    weights |= {"scan.A_log": mixer.A_log, "scan.D": mixer.D}
    ours = block("hybrid/jamba.seq", "mamba_mixer", d=WIDTH, n=n, w=inner, rank=rank)
    close(apply_model(ours, {"x": x}, weights), want, TOLERANCE)
