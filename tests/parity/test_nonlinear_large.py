"""The cells that are networks of their own, against loops over PyTorch's convolutions and layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.specs import apply, close, random, rule

pytestmark = pytest.mark.against("a loop over PyTorch's layers")


def test_predrnn_is_a_loop_over_convolutions() -> None:
    batch, time, layers, ch, rows, columns, taps = 2, 4, 2, 3, 4, 5, 3
    predrnn = rule("nonlinear/predrnn.seq", layers=layers, ch=ch, r=rows, c=columns, u=taps, w=taps)
    x = random(batch, time, ch, rows, columns)
    counts = {"W_x": 7, "W_h": 4, "W_m": 3, "W_o": 2}
    own = {
        name: 0.3 * random(layers, count, ch, ch, taps, taps, seed=i)
        for i, (name, count) in enumerate(counts.items())
    }
    own |= {"W_1": 0.5 * random(layers, 2, ch, ch, seed=5), "b": random(layers, 7, ch, seed=6)}

    def gates(name: str, layer: int, seen: Tensor) -> tuple[Tensor, ...]:
        kernels = own[name][layer]
        bias = own["b"][layer].flatten() if name == "W_x" else None
        return F.conv2d(seen, kernels.flatten(0, 1), bias, padding=taps // 2).chunk(len(kernels), 1)

    nothing = torch.zeros(batch, ch, rows, columns, dtype=torch.float64)
    shown, cells, climbing = [nothing] * layers, [nothing] * layers, nothing
    want: list[Tensor] = []
    for t in range(time):
        below = x[:, t]
        for layer in range(layers):
            g, i, f, g_m, i_m, f_m, o = gates("W_x", layer, below)
            g_h, i_h, f_h, o_h = gates("W_h", layer, shown[layer])
            g_k, i_k, f_k = gates("W_m", layer, climbing)
            cells[layer] = torch.sigmoid(f + f_h) * cells[layer] + torch.sigmoid(i + i_h) * torch.tanh(
                g + g_h
            )
            climbing = torch.sigmoid(f_m + f_k) * climbing + torch.sigmoid(i_m + i_k) * torch.tanh(g_m + g_k)
            by_cell, by_climbing = own["W_o"][layer]
            o = o + o_h + F.conv2d(cells[layer], by_cell, padding=taps // 2)
            o = o + F.conv2d(climbing, by_climbing, padding=taps // 2)
            mixed = torch.cat([cells[layer], climbing], 1)
            one = torch.cat(list(own["W_1"][layer]), 1)[:, :, None, None]
            below = shown[layer] = torch.sigmoid(o) * torch.tanh(F.conv2d(mixed, one))
        want.append(below)
    close(apply(predrnn, {"x": x}, own), torch.stack(want, 1), 1e-10)


def test_a_thought_machine_is_a_loop_over_ticks() -> None:
    ticks, places, n, v, d, j, length, hidden = 6, 5, 4, 3, 6, 4, 3, 2
    ctm = rule("nonlinear/ctm.seq", p=places, n=n, v=v, d=d, j=j, M=length, hidden=hidden)
    keys, values = random(1, places, n, seed=1)[0], random(1, places, v, seed=2)[0]
    shapes = {
        "decay": (j, j),
        "N_1": (d, 2 * hidden, length),
        "c_1": (d, 2 * hidden),
        "N_2": (d, 2, hidden),
        "c_2": (d, 2),
        "gain": (d,),
        "offset": (d,),
        "first_past": (d, length),
        "first_z": (d,),
        "Q.weight": (n, j, j),
        "from_read.weight": (2 * d, v),
        "from_read.bias": (2 * d,),
        "from_z.weight": (2 * d, d),
    }
    own = {name: random(*shape, seed=10 + i) for i, (name, shape) in enumerate(shapes.items())}
    pairs = [(i, k) for i in range(j) for k in range(i, j)]
    z, past = own["first_z"], list(own["first_past"].unbind(1))
    alpha = {(i, k): z[i] * z[k] for i, k in pairs}
    beta = {pair: torch.ones((), dtype=torch.float64) for pair in pairs}
    want = torch.zeros(ticks, j, j, dtype=torch.float64)
    for t in range(ticks):
        query = sum(
            (own["Q.weight"][:, i, k] * alpha[i, k] / beta[i, k].sqrt() for i, k in pairs), torch.zeros(n)
        )
        read = torch.softmax(keys @ query / n**0.5, 0) @ values
        raw = own["from_read.weight"] @ read + own["from_read.bias"] + own["from_z.weight"] @ z
        a = F.silu(F.layer_norm(F.glu(raw, 0), (d,), own["gain"], own["offset"]))
        past = [*past[1:], a]
        heard = torch.einsum("dkm,dm->dk", own["N_1"], torch.stack(past, 1)) + own["c_1"]
        spoken = torch.einsum("dlk,dk->dl", own["N_2"], F.glu(heard, 1)) + own["c_2"]
        z = F.glu(spoken, 1)[:, 0]
        for i, k in pairs:
            r = torch.exp(-own["decay"][i, k].clamp(0, 15))
            alpha[i, k] = r * alpha[i, k] + z[i] * z[k]
            beta[i, k] = r * beta[i, k] + 1
            want[t, i, k] = alpha[i, k] / beta[i, k].sqrt()
    given = {"keys": keys.expand(1, ticks, -1, -1), "values": values.expand(1, ticks, -1, -1)}
    close(apply(ctm, given, own), want[None], 1e-10)
