"""Variants of attention as plain loops over all pairs of tokens, one row at a time.

`x` is `[time, width]`; `w` has the weights under the names of the papers' maps, `[head, output, input]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.parity.naive.cells import relu, sigmoid
from tests.parity.naive.systems import Array, Weights, rotary, softmax

Score = Callable[[int, int], float]
Value = Callable[[int, int], Array]


def weighed(score: Score, value: Value, t: int, first: int = 0) -> Array:
    """The mean of what a token gets from those up to it, by the softmax of its scores."""
    weights = softmax(np.array([score(t, s) for s in range(first, t + 1)]))
    return np.asarray(sum(p * value(t, s) for p, s in zip(weights, range(first, t + 1), strict=True)))


def rows_of(v: Array) -> Value:
    return lambda t, s: np.asarray(v[s])


def product(q: Array, k: Array) -> Score:
    return lambda t, s: float(q[t] @ k[s]) / math.sqrt(q.shape[1])


def neural(x: Array, w: Weights) -> Array:
    """Neural attention (2502.17206): a network of three layers on both tokens gives the score."""
    answers = np.zeros_like(x)
    for i in range(len(w["w_3"])):
        q, k = x @ (w["P_q.weight"][i] @ w["q.weight"][i]).T, x @ (w["P_k.weight"][i] @ w["k.weight"][i]).T
        layer = np.concatenate([w["W_q.weight"][i], w["W_k.weight"][i]], 1)

        def score(t: int, s: int, i: int = i, q: Array = q, k: Array = k, layer: Array = layer) -> float:
            first = relu(layer @ np.concatenate([q[t], k[s]]) + w["b_1"][i])
            return float(w["w_3"][i] @ relu(w["W_2"][i] @ first + w["b_2"][i]))

        v = x @ w["v.weight"][i].T
        for t in range(len(x)):
            answers[t] += w["out.weight"][:, i] @ weighed(score, rows_of(v), t)
    return answers


def turned(x: Array, weight: Array) -> Array:
    return np.stack([rotary(weight @ token, t) for t, token in enumerate(x)])


def dual(x: Array, w: Weights) -> Array:
    """Dual attention (2405.16727): heads of values, and heads of relations and symbols."""
    answers = np.zeros_like(x)
    for i in range(len(w["q.weight"])):
        score, v = product(turned(x, w["q.weight"][i]), turned(x, w["k.weight"][i])), x @ w["v.weight"][i].T
        for t in range(len(x)):
            answers[t] += w["out.weight"][:, i] @ weighed(score, rows_of(v), t)
    for i in range(len(w["rq.weight"])):
        score = product(turned(x, w["rq.weight"][i]), turned(x, w["rk.weight"][i]))

        def told(t: int, s: int, i: int = i) -> Array:
            relation = ((w["asks.weight"][i] @ x[t]) * (w["told.weight"][i] @ x[s])).sum(1)
            symbol = softmax(w["templates"] @ (w["found.weight"] @ x[s])) @ w["symbols"][:, i]
            return np.asarray(w["W_r"][i] @ relation + symbol)

        for t in range(len(x)):
            answers[t] += w["out_r.weight"][:, i] @ weighed(score, told, t)
    return answers


def best(scores: Array, k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda e: -scores[e])[:k]


def switch_head(x: Array, w: Weights, k: int) -> Array:
    """SwitchHead (2312.07987): values and output maps are those of the best experts, each with its sigmoid."""
    answers = np.zeros_like(x)
    for i in range(len(w["q.weight"])):
        v = np.zeros((len(x), w["v.weight"].shape[2]))
        for t, token in enumerate(x):
            routes = sigmoid(w["route_v.weight"][i] @ token)
            v[t] = sum(routes[e] * (w["v.weight"][i, e] @ token) for e in best(routes, k))
        score = product(turned(x, w["q.weight"][i]), turned(x, w["k.weight"][i]))
        for t, token in enumerate(x):
            read = weighed(score, rows_of(v), t)
            routes = sigmoid(w["route_o.weight"][i] @ token)
            answers[t] += sum(routes[e] * (w["out.weight"][:, i, e] @ read) for e in best(routes, k))
    return answers


def shortformer(x: Array, w: Weights, window: int) -> Array:
    """Position-infused attention (2012.15832): queries and keys see sinusoids, values do not."""
    half = x.shape[1] // 2
    angles = np.arange(len(x))[:, None] / 10000 ** (np.arange(half) / half)
    placed = x + np.concatenate([np.sin(angles), np.cos(angles)], 1)
    answers = np.zeros_like(x)
    for i in range(len(w["q.weight"])):
        score, v = product(placed @ w["q.weight"][i].T, placed @ w["k.weight"][i].T), x @ w["v.weight"][i].T
        for t in range(len(x)):
            read = weighed(score, rows_of(v), t, max(0, t - window + 1))
            answers[t] += w["out.weight"][:, i] @ read
    return answers
