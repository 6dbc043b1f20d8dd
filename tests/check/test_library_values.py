"""What the standard library's blocks compute, against the same written in torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import seqc
from seqc.oracle import initial_parameters, run_model

BATCH, TIME, D = 2, 9, 8
Reference = Callable[[Tensor, dict[str, Tensor]], Tensor]


def run(call: str, header: str = "x[d]") -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The input, the output and the parameters of a block of one call, all of them random."""
    model = seqc.loads(f"model m({header}; d = {D}, h = 4, n = 2) {{ return {call} }}").model().model
    torch.manual_seed(0)
    shape = [{"d": D, "h": 4, "n": 2}[axis] for axis in model.body.inputs[0].axes]
    x = torch.randn(BATCH, TIME, *shape, dtype=torch.float64)
    parameters = {
        name: torch.randn(value.shape, dtype=torch.float64)
        for name, value in initial_parameters(model).items()
    }
    (y,), _ = run_model(model, x, parameters)
    return x, y, {name.partition(".")[2]: value for name, value in parameters.items()}


def rotated(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    angle = torch.arange(TIME, dtype=torch.float64)[:, None] * 10000.0 ** (
        -torch.arange(half, dtype=torch.float64) / half
    )
    cos, sin = (torch.cat([f, f], -1)[:, None] for f in (angle.cos(), angle.sin()))
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def attention(
    x: Tensor, p: dict[str, Tensor], bias: Tensor, rotate: Callable[[Tensor], Tensor] = rotated
) -> Tensor:
    """`bias` is `[heads, time, time]`, -inf where nothing is seen."""
    q, k, v = (
        torch.einsum("...d,hnd->...hn", x, p[f"{w}.weight"].reshape(-1, *p[f"{w}.weight"].shape[-2:]))
        for w in "qkv"
    )
    groups = q.shape[-2] // k.shape[-2]
    q, k, v = rotate(q), rotate(k).repeat_interleave(groups, -2), v.repeat_interleave(groups, -2)
    scores = torch.einsum("bthn,bshn->bhts", q, k) / math.sqrt(q.shape[-1]) + bias
    y = torch.einsum("bhts,bshn->bthn", scores.softmax(-1), v)
    return torch.einsum("bthn,dhn->btd", y, p["out.weight"].flatten(1, -2))


def causal(window: int = TIME, sinks: int = 0) -> Tensor:
    t, s = torch.meshgrid(torch.arange(TIME), torch.arange(TIME), indexing="ij")
    seen = (s <= t) & ((t - s < window) | (s < sinks))
    return torch.zeros(TIME, TIME, dtype=torch.float64).masked_fill(~seen, -math.inf)


def alibi() -> Tensor:
    t, s = torch.meshgrid(torch.arange(TIME), torch.arange(TIME), indexing="ij")
    slopes = torch.tensor([2.0 ** (-8 * (i + 1) / 4) for i in range(4)], dtype=torch.float64)
    return causal() - slopes[:, None, None] * (t - s)


def convolved(x: Tensor, weight: Tensor) -> Tensor:
    width = weight.shape[-1]
    padded = F.pad(x.flatten(2).mT, (width - 1, 0))
    return F.conv1d(padded, weight.flatten(0, -2)[:, None], groups=padded.shape[1]).mT.reshape(x.shape)


def shifted(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, 0))[:, :-1]


def normed(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


CASES: dict[str, Reference] = {
    "rms_norm(x)": lambda x, p: normed(x) * p["weight"],
    "unit_rms(x)": lambda x, _: normed(x),
    "layer_norm(x)": lambda x, p: F.layer_norm(x, (D,), p["weight"], p["bias"]),
    "l2_norm(x)": lambda x, _: x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt(),
    "swiglu(x)": lambda x, p: (
        (F.silu(x @ p["gate.weight"].mT) * (x @ p["up.weight"].mT)) @ p["down.weight"].mT
    ),
    "geglu(x)": lambda x, p: (
        (F.gelu(x @ p["gate.weight"].mT) * (x @ p["up.weight"].mT)) @ p["down.weight"].mT
    ),
    "feed_forward(x)": lambda x, p: F.gelu(x @ p["up.weight"].mT) @ p["down.weight"].mT,
    "glu(x)": lambda x, p: torch.sigmoid(x @ p["gate.weight"].mT) * (x @ p["up.weight"].mT),
    "softcap(x, 2)": lambda x, _: 2 * torch.tanh(x / 2),
    "elu(x)": lambda x, _: F.elu(x),
    "leaky_relu(x)": lambda x, _: F.leaky_relu(x),
    "softsign(x)": lambda x, _: F.softsign(x),
    "clip(x, -1, 0.5)": lambda x, _: x.clamp(-1, 0.5),
    "log_add_exp(x, 2 * x)": lambda x, _: torch.logaddexp(x, 2 * x),
    "short_conv(x)": lambda x, p: F.silu(convolved(x, p["conv.weight"])),
    "shift(x)": lambda x, _: shifted(x),
    "token_mix(x)": lambda x, p: x + p["mix"] * (shifted(x) - x),
    "attention(x, h)": lambda x, p: attention(x, p, causal()),
    "attention(x, h, kv_heads = 2)": lambda x, p: attention(x, p, causal()),
    "attention(x, h, kv_heads = 1)": lambda x, p: attention(x, p, causal()),
    "local_attention(x, h, window = 3)": lambda x, p: attention(x, p, causal(3)),
    "local_attention(x, h, window = 3, kv_heads = 1, sinks = 2)": lambda x, p: attention(x, p, causal(3, 2)),
    "alibi_attention(x, h)": lambda x, p: attention(x, p, alibi(), lambda x: x),
    "lm_head(x, 5)": lambda x, p: x @ p["scores.weight"].mT,
    "classifier(x, 5)": lambda x, p: x.mean(1) @ p["scores.weight"].mT + p["scores.bias"],
    "regression(x)": lambda x, p: x.mean(1) @ p["values.weight"].mT + p["values.bias"],
}
HEADS: dict[str, Reference] = {
    "rms_norm[n](x)": lambda x, p: normed(x) * p["weight"],
    "head_norm(x[h -> head])": lambda x, p: normed(x) * p["weight"],
    "head_layer_norm(x[h -> head])": lambda x, p: F.layer_norm(x, (2,)) * p["weight"] + p["bias"],
    "head_conv(x[h -> head])": lambda x, p: F.silu(convolved(x, p["conv.weight"])),
}


@pytest.mark.parametrize("call", CASES)
def test_a_block_computes_what_torch_does(call: str) -> None:
    x, y, parameters = run(call)
    torch.testing.assert_close(y, CASES[call](x, parameters), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("call", HEADS)
def test_a_block_over_heads_computes_what_torch_does(call: str) -> None:
    x, y, parameters = run(call, "x[h, n]")
    torch.testing.assert_close(y, HEADS[call](x, parameters), rtol=1e-9, atol=1e-11)
