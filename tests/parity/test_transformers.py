"""The oracle on our blocks against the mixers of Transformers, with random weights copied by name."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from tests.parity.references import doubles
from tests.parity.specs import apply_model, block, close, random
from tests.parity.weights import cut, gated_delta_net, mamba, mamba2, recurrent

pytestmark = pytest.mark.against("Transformers")

BATCH, TIME, WIDTH = 2, 11, 16
TOLERANCE = 1e-10


def theirs(model: str, config: str, mixer: str, layer: int = 0, **settings: Any) -> nn.Module:
    """A mixer of Transformers at double precision; every weight of it is random."""
    pytest.importorskip("transformers")
    with pytest.MonkeyPatch.context() as patch:
        for package in ("fla", "mamba_ssm", "causal_conv1d"):  # whose kernels would be taken, and want a GPU
            patch.setitem(sys.modules, package, None)
        module = pytest.importorskip(f"transformers.models.{model}.modeling_{model}")
    built = getattr(import_module(f"transformers.models.{model}"), config)(**settings)
    with doubles():
        made: nn.Module = getattr(module, mixer)(built, layer_idx=layer)
        for index, weight in enumerate(made.parameters()):
            weight.copy_(0.5 * random(*weight.shape, seed=index + 1))
    return made.double().eval()


def test_mamba() -> None:
    n, rank = 4, 3
    mixer: Any = theirs(
        "mamba",
        "MambaConfig",
        "MambaMixer",
        hidden_size=WIDTH,
        state_size=n,
        time_step_rank=rank,
        num_hidden_layers=1,
    )
    x = random(BATCH, TIME, WIDTH)
    with doubles():
        want = mixer(x)
    ours = block("gated/mamba.seq", "mamba_mixer", d=WIDTH, n=n, rank=rank)
    close(apply_model(ours, x, mamba(mixer)), want, TOLERANCE)


def test_mamba_2() -> None:
    n, p, groups, heads = 4, 8, 2, 2
    mixer: Any = theirs(
        "mamba2",
        "Mamba2Config",
        "Mamba2Mixer",
        hidden_size=WIDTH,
        state_size=n,
        head_dim=p,
        num_heads=groups * heads,
        n_groups=groups,
        chunk_size=4,
        num_hidden_layers=1,
        layer_norm_epsilon=1e-5,
    )
    x = random(BATCH, TIME, WIDTH)
    with doubles():
        want = mixer(x)
    ours = block("linear/mamba2.seq", "mamba2_mixer", d=WIDTH, n=n, p=p, groups=groups)
    close(apply_model(ours, x, mamba2(mixer)), want, TOLERANCE)


@pytest.mark.parametrize("start", [0, 1])
def test_recurrent_gemma(start: int) -> None:
    """At position 0 their input is not scaled; a sequence that starts later is the paper's."""
    h, w = 2, 8
    mixer: Any = theirs(
        "recurrent_gemma",
        "RecurrentGemmaConfig",
        "RecurrentGemmaRecurrentBlock",
        hidden_size=WIDTH,
        lru_width=h * w,
        num_attention_heads=h,
        num_hidden_layers=1,
    )
    x = random(BATCH, TIME, WIDTH)
    positions = torch.arange(start, start + TIME).expand(BATCH, TIME)
    with doubles():
        want, _ = mixer(x, positions, None, use_cache=False)
    ours = block("gated/rg_lru.seq", "rg_lru_mixer", d=WIDTH, h=h, w=w, unit_start=start == 0)
    weights = {name.replace("gate.", "y."): weight for name, weight in recurrent(mixer, h).items()}
    close(apply_model(ours, x, weights), want, TOLERANCE)


def test_qwen3_next() -> None:
    h, groups, n, m = 2, 2, 4, 6
    mixer: Any = theirs(
        "qwen3_next",
        "Qwen3NextConfig",
        "Qwen3NextGatedDeltaNet",
        hidden_size=WIDTH,
        linear_num_key_heads=h,
        linear_num_value_heads=h * groups,
        linear_key_head_dim=n,
        linear_value_head_dim=m,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
    )
    x = random(BATCH, TIME, WIDTH)
    with doubles():
        want = mixer(x)
    ours = block("delta/gated_delta.seq", "gated_delta_net", d=WIDTH, h=h, groups=groups, n=n, m=m)
    close(apply_model(ours, x, gated_delta_net(mixer)), want, TOLERANCE)


def test_kimi_linear() -> None:
    h, n = 2, 6
    mixer: Any = theirs(
        "kimi_linear",
        "KimiLinearConfig",
        "KimiLinearDeltaAttention",
        hidden_size=WIDTH,
        linear_num_heads=h,
        linear_head_dim=n,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
        rms_norm_eps=1e-6,
    )
    gate = mixer.forget_gate
    weights = {f"{name}.weight": getattr(mixer, f"{name}_proj").weight.unflatten(0, (h, n)) for name in "qkv"}
    for name, taps in cut(mixer.conv1d.weight[:, 0], dict.fromkeys("qkv", h * n)).items():
        weights[f"conv_{name}.weight"] = taps.unflatten(0, (h, n))
    weights |= {
        "f_down.weight": gate.f_a_proj.weight,
        "f_up.weight": gate.f_b_proj.weight.unflatten(0, (h, n)),
    }
    weights |= {"A_log": gate.A_log.flatten(), "dt_bias": gate.dt_bias.unflatten(0, (h, n))}
    weights |= {"beta.weight": mixer.b_proj.weight, "norm.weight": mixer.o_norm.weight}
    weights |= {
        "g_down.weight": mixer.g_a_proj.weight,
        "g_up.weight": mixer.g_b_proj.weight.unflatten(0, (h, n)),
    }
    weights["out.weight"] = mixer.o_proj.weight.unflatten(1, (h, n))
    x = random(BATCH, TIME, WIDTH)
    with doubles():
        want = mixer(x)
    ours = block("delta/kda.seq", "kimi_delta_attention", d=WIDTH, h=h, n=n, m=n, gate_bias=0)
    close(apply_model(ours, x, weights), want, TOLERANCE)


def test_minimax() -> None:
    h, n, layer, layers = 2, 4, 1, 3
    mixer: Any = theirs(
        "minimax",
        "MiniMaxConfig",
        "MiniMaxLightningAttention",
        layer,
        hidden_size=WIDTH,
        num_attention_heads=h,
        num_key_value_heads=h,
        head_dim=n,
        num_hidden_layers=layers,
        block_size=4,
    )
    maps = cut(mixer.qkv_proj.weight.unflatten(0, (h, -1)), dict.fromkeys("qkv", n), 1)
    weights = {f"{name}.weight": weight for name, weight in maps.items()}
    weights |= {"g.weight": mixer.output_gate.weight.unflatten(0, (h, n))}
    weights |= {"norm.weight": mixer.norm.weight.unflatten(0, (h, n))}
    weights |= {"out.weight": mixer.out_proj.weight.unflatten(1, (h, n))}
    x = random(BATCH, TIME, WIDTH)
    with doubles():
        want, _ = mixer(x, None, None)
    ours = block(
        "linear/lightning.seq", "lightning_attention", d=WIDTH, h=h, n=n, m=n, layer=layer, layers=layers
    )
    close(apply_model(ours, x, weights), want, TOLERANCE)
