"""Whole language models as plain sums and loops, from the papers' equations: one sequence, `[T, d]`, weights by name.

`w` holds the weights of one block, without its prefix; a linear map's are `[outputs…, inputs…]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def under(prefix: str, w: Weights) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def gelu(x: Array) -> Array:
    return np.asarray(x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2)


def softmax(x: Array, axis: int = -1) -> Array:
    raised = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True))


def rms(x: Array, weight: Array) -> Array:
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * weight)


def layer_norm(x: Array, w: Weights, name: str) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    unit = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)
    return np.asarray(unit * w[f"{name}.weight"] + w[f"{name}.bias"])


def swiglu(x: Array, w: Weights) -> Array:
    return (silu(x @ w["gate.weight"].T) * (x @ w["up.weight"].T)) @ w["down.weight"].T


def turned(x: Array, t: int) -> Array:
    """Rotary positions: the halves of a query or a key as real and imaginary parts."""
    half = len(x) // 2
    z = x[:half] + 1j * x[half:]
    z = z * np.exp(1j * t * 10000.0 ** (-np.arange(half) / half))
    return np.concatenate([z.real, z.imag])


def attention(x: Array, w: Weights, window: int = 0) -> Array:
    """Grouped queries over the tokens so far, or over the last `window`, with rotary positions."""
    out = w["out.weight"]
    y = np.zeros((len(x), *out.shape[1:]))
    for head, (W_k, W_v) in enumerate(zip(w["k.weight"], w["v.weight"], strict=True)):
        keys = [turned(W_k @ token, t) for t, token in enumerate(x)]
        for group, W_q in enumerate(w["q.weight"][head]):
            for t, token in enumerate(x):
                seen = range(max(0, t - window + 1) if window else 0, t + 1)
                query = turned(W_q @ token, t)
                share = softmax(np.array([query @ keys[j] for j in seen]) / math.sqrt(len(query)))
                y[t, head, group] = sum(p * (W_v @ x[j]) for p, j in zip(share, seen, strict=True))
    return np.asarray(np.tensordot(y, out, axes=([1, 2, 3], [1, 2, 3])))


def scores(x: Array, w: Weights) -> Array:
    return rms(x, w["rms_norm.weight"]) @ w["lm_head.scores.weight"].T


# --- Griffin (2402.19427) ---


def recurrent(x: Array, w: Weights) -> Array:
    """Figure 2(c): a convolution of four taps and the RG-LRU, (1) to (4), beside a gate."""
    u, taps = x @ w["u.linear.weight"].T, w["u.causal_conv.weight"]
    h, rows = np.zeros(u.shape[1]), []
    for t in range(len(x)):
        here = sum(taps[:, 3 - age] * u[t - age] for age in range(min(t, 3) + 1))
        r, i = sigmoid(w["y.linear.weight"] @ here), sigmoid(w["y.linear_1.weight"] @ here)
        a = np.exp(-8 * np.log1p(np.exp(w["y.rg_lru.decay"])) * r)
        h = a * h + np.sqrt(1 - a * a) * (i * here)
        rows.append(h)
    return np.asarray((gelu(x @ w["g.linear.weight"].T) * np.array(rows)) @ w["linear.weight"].T)


def griffin(tokens: Array, w: Weights, layers: int, window: int) -> Array:
    """Twice the recurrent block, once local attention, an MLP after each."""
    x = w["embed.weight"][tokens.astype(int)]
    for layer in range(layers):
        own = under(f"layers.{layer}.", w)
        norm = iter([rms_name("rms_norm", i) for i in range(6)])
        for number, mixer in enumerate(("recurrent", "recurrent_1", "local_attention")):
            y, mixing = rms(x, own[next(norm)]), under(f"{mixer}.", own)
            x = x + (attention(y, mixing, window) if number == 2 else recurrent(y, mixing))
            network = under("swiglu." if number == 0 else f"swiglu_{number}.", own)
            x = x + swiglu(rms(x, own[next(norm)]), network)
    return scores(x, w)


def rms_name(name: str, number: int) -> str:
    """The weights of the norm that comes after `number` others."""
    return f"{name}_{number}.weight" if number else f"{name}.weight"


# --- Flowformer (2202.06258), the causal form of the public code ---


def flow(q: Array, k: Array, v: Array) -> Array:
    """One head, all sums over the tokens so far: conservation, competition of the sources, allocation to the sinks."""
    q, k, eps = sigmoid(q), sigmoid(k), 1e-6
    count = np.arange(1, len(q) + 1)
    incoming = count / np.sum((q + eps) * (np.cumsum(k, 0) + eps), 1)
    outgoing = count / np.sum((k + eps) * (np.cumsum(q, 0) + eps), 1)
    sink = np.sum((q + eps) * (np.cumsum(k * outgoing[:, None], 0) + eps), 1) / count
    source = np.sum((k + eps) * (np.cumsum(q * incoming[:, None], 0) + eps), 1) / count
    rival = np.exp(np.clip(source, -1, 1))
    competed = v * (rival / np.cumsum(rival) * count)[:, None]
    pairs = np.tril((q * (incoming / count)[:, None]) @ k.T)
    return np.asarray((pairs @ competed) * sigmoid(sink)[:, None])


def flowformer(tokens: Array, w: Weights, layers: int) -> Array:
    x = w["embed.weight"][tokens.astype(int)]
    for layer in range(layers):
        own = under(f"layers.{layer}.", w)
        y = layer_norm(x, own, "layer_norm")
        maps = (own[f"flow_layer.{name}.weight"] for name in "qkv")
        heads = [flow(y @ W_q.T, y @ W_k.T, y @ W_v.T) for W_q, W_k, W_v in zip(*maps, strict=True)]
        x = x + np.einsum("hte,dhe->td", np.array(heads), own["flow_layer.out.weight"])
        inner = gelu(layer_norm(x, own, "layer_norm_1") @ own["feed_forward.up.weight"].T)
        x = x + inner @ own["feed_forward.down.weight"].T
    return layer_norm(x, w, "layer_norm") @ w["lm_head.scores.weight"].T


# --- HGRN2 (2404.07904) ---


def hgrn2(tokens: Array, w: Weights, layers: int) -> Array:
    """`H = diag(f) H + (1 - f) i`, read by the output gate; f is at least the cumulative softmax of its layer."""
    x, shares = w["embed.weight"][tokens.astype(int)], softmax(w["gamma"], 0)
    for layer in range(layers):
        own = under(f"layers.{layer}.", w)
        mixer, least = under("hgrn2_mixer.", own), shares[1 : layer + 1].sum(0)
        y = rms(x, own["rms_norm.weight"])
        read = np.zeros((len(x), *mixer["norm.weight"].shape))
        for head in range(len(mixer["q.weight"])):
            q, f, i = (y @ mixer[f"{name}.weight"][head].T for name in "qfi")
            f, state = least[head] + (1 - least[head]) * sigmoid(f), np.zeros((f.shape[1], i.shape[1]))
            for t in range(len(x)):
                state = f[t][:, None] * state + np.outer(1 - f[t], i[t])
                read[t, head] = silu(q[t]) @ state
        width = read[0].size
        normed = rms(read.reshape(-1, width), mixer["norm.weight"].reshape(width))
        x = x + normed @ mixer["out.weight"].reshape(-1, width).T
        x = x + swiglu(rms(x, own["rms_norm_1.weight"]), under("swiglu.", own))
    return scores(x, w)


# --- depth that is reused ---


def sandwich(x: Array, w: Weights) -> Array:
    """Huginn (2502.05171, section 3.2): `x = norm(f(norm(x)) + x)`, for attention and for the MLP."""
    x = rms(attention(rms(x, w["norm_1.weight"]), under("y.attention.", w)) + x, w["norm_2.weight"])
    return rms(swiglu(rms(x, w["norm_3.weight"]), under("swiglu.", w)) + x, w["norm_4.weight"])


def huginn(tokens: Array, w: Weights, prelude: int, core: int, coda: int, steps: int) -> Array:
    """Section 3: `e = P(x)`, `s = R(e, s)` some times, `p = C(s)`; R begins with a map of [s, e]."""
    e = w["embed.weight"][tokens.astype(int)]
    for layer in range(prelude):
        e = sandwich(e, under(f"prelude.{layer}.sandwich.", w))
    s = np.tile(w["start"], (len(e), 1))
    for _ in range(steps):
        s = np.concatenate([s, e], axis=1) @ w["steps.adapter.map.weight"].T
        for layer in range(core):
            s = sandwich(s, under(f"steps.core.{layer}.sandwich.", w))
        s = rms(s, w["steps.core_norm.weight"])
    for layer in range(coda):
        s = sandwich(s, under(f"coda.{layer}.sandwich.", w))
    return scores(s, w)


def intra_layer(tokens: Array, w: Weights, reuse: list[int]) -> Array:
    """Intra-layer recurrence (2505.01855): layer l is applied `reuse[l]` times in place."""
    x = w["embed.weight"][tokens.astype(int)]
    for layer, times in enumerate(reuse):
        own = under(f"layers.{layer}.repeat.", w)
        for _ in range(times):
            x = x + attention(rms(x, own["rms_norm.weight"]), under("attention.", own))
            x = x + swiglu(rms(x, own["rms_norm_1.weight"]), under("swiglu.", own))
    return scores(x, w)
