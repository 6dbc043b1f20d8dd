"""LaMemo (2204.07341) segment by segment: one sequence, memory in front of the new tokens, every pair by itself.

The authors' layer (thu-coai/LaMemo on GitHub) gives the same to 1e-15 without the 1e-6 that it adds to a denominator,
where the last segment is as long as the others.
"""

from __future__ import annotations

import math

import numpy as np

from tests.parity.naive.stacks import Array, Weights, layer_norm, under

Found = tuple[Array, Array]  # what attention found, `[tokens, h, m]`, and its sum of weights, `[tokens, h]`


def lamemo(tokens: Array, w: Weights, layers: int, segment: int, past: int) -> Array:
    """The scores of all tokens `[T, vocab]`; `past` tokens are kept from one segment to the next."""
    embedded = w["new.embed.weight"][tokens.astype(int)]
    found: list[Found | None] = [None] * layers
    rows: list[Array] = []
    for start in range(0, len(tokens), segment):
        first = max(0, start - past)
        old = start - first
        x = embedded[first : start + segment]
        for layer in range(layers):
            own = under(f"layers.{layer}.", w)
            attended = under("lamemo_attention.", own)
            O, total = look_ahead(x, old, attended, found[layer], segment)
            found[layer] = O, total
            x = layer_norm(x + np.einsum("dhm,thm->td", attended["W_o"], O), own, "layer_norm")
            x = layer_norm(x + feed_forward(x, under("relu_feed_forward.", own)), own, "layer_norm_1")
        rows.extend(x[old:])
    return np.array(rows) @ w["lm_head.scores.weight"].T


def feed_forward(x: Array, w: Weights) -> Array:
    hidden = np.maximum(x @ w["up.weight"].T + w["up.bias"], 0)
    return np.asarray(hidden @ w["down.weight"].T + w["down.bias"])


def look_ahead(x: Array, old: int, w: Weights, before: Found | None, segment: int) -> Found:
    """What all tokens have found, the first `old` of them being memory, which `before` ends with.

    A new token sees all tokens up to itself. Memory sees the tokens on its right, up to the first new one, that were
    not there a segment ago; sums of weights add up, and what was found is weighed by them.
    """
    heads, value = w["W_v"].shape[:2]
    O, total = np.zeros((len(x), heads, value)), np.zeros((len(x), heads))
    for head in range(heads):
        v = x @ w["W_v"][head].T
        for i in range(len(x)):
            seen = range(max(i, old - segment) + 1, old + 1) if i < old else range(i + 1)
            weights = np.exp([score(x, i, j, w, head) for j in seen])
            O[i, head], total[i, head] = weights @ v[seen], weights.sum()
            if i < old and before is not None:
                found, weight = (part[len(part) - old + i, head] for part in before)
                O[i, head] += weight * found
                total[i, head] += weight
    return O / total[..., None], total


def score(x: Array, i: int, j: int, w: Weights, head: int) -> float:
    """`(q_i + u) · k_j + (q_i + w) · W_R R_|i-j|`, over √n: R holds sines, then cosines; w is one of two."""
    q, k = w["W_q"][head] @ x[i], w["W_k"][head] @ x[j]
    angles = abs(i - j) * 10000.0 ** (-np.arange(0, x.shape[1], 2) / x.shape[1])
    place = w["W_R"][head] @ np.sin(angles) + w["W_S"][head] @ np.cos(angles)
    side = w["w_behind" if j <= i else "w_ahead"][head]
    return float((q + w["u"][head]) @ k + (q + side) @ place) / math.sqrt(len(q))
