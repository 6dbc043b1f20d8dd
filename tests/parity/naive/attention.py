"""Attention and its relatives as plain loops from the papers' equations, one token at a time, every pair by itself.

Every function runs one row: queries and keys `[T, n]`, values `[T, m]`, answers `[T, m]`; token t sees tokens up to t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sees = Callable[[int, int], bool]  # whether token t sees token j
Score = Callable[[int, int], float]


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max())
    return np.asarray(raised / raised.sum())


def unit(x: Array) -> Array:
    """Of length 1, with an epsilon of 1e-6 under the root."""
    return np.asarray(x / math.sqrt(float(x @ x) + 1e-6))


def products(q: Array, k: Array) -> Score:
    """`q_t · k_j / √n`."""
    return lambda t, j: float(q[t] @ k[j]) / math.sqrt(q.shape[1])


def read(v: Array, score: Score, sees: Sees) -> Array:
    """The softmax over what a token sees; 0 where it sees nothing."""
    answers = np.zeros_like(v)
    for t in range(len(v)):
        seen = [j for j in range(t + 1) if sees(t, j)]
        if seen:
            answers[t] = softmax(np.array([score(t, j) for j in seen])) @ v[seen]
    return answers


# --- patterns: the Sparse Transformer (1904.10509, 4.3) ---


def strided(q: Array, k: Array, v: Array, stride: int, near: bool, far: bool) -> Array:
    """`{j : t - j < l}` and `{j : (t - j) mod l = 0}`, one or both."""

    def sees(t: int, j: int) -> bool:
        return (near and t - j < stride) or (far and (t - j) % stride == 0)

    return read(v, products(q, k), sees)


def fixed(q: Array, k: Array, v: Array, stride: int, ends: int, near: bool, far: bool) -> Array:
    """`{j : ⌊j / l⌋ = ⌊t / l⌋}` and `{j : j mod l ≥ l - c}`, one or both."""

    def sees(t: int, j: int) -> bool:
        return (near and j // stride == t // stride) or (far and j % stride in range(stride - ends, stride))

    return read(v, products(q, k), sees)


# --- scores ---


def relative(q: Array, k: Array, v: Array, E: Array) -> Array:
    """Music Transformer (1809.04281, (3)): `(q_t · k_j + q_t · E[t - j]) / √n`.

    E `[reach, n]`; distances from reach - 1 on share its last vector.
    """
    n, reach = q.shape[1], len(E)

    def score(t: int, j: int) -> float:
        return float(q[t] @ (k[j] + E[min(t - j, reach - 1)])) / math.sqrt(n)

    return read(v, score, lambda t, j: True)


def skewed(q: Array, E: Array) -> Array:
    """The paper's memory-saving way to `q_t · E[t - j]`: a column of zeros in front, reshaped, without the first row.

    E is `[T, n]`, with the distance T - 1 first; entries with j > t mean nothing.
    """
    length = len(q)
    padded = np.concatenate([np.zeros((length, 1)), q @ E.T], axis=1)
    return padded.reshape(length + 1, length)[1:]


def transformer_xl(
    q: Array, k: Array, v: Array, u: Array, w: Array, W_R: Array, segment: int, past: int, width: int
) -> Array:
    """Transformer-XL (1901.02860, 3.3): `(q_t + u) · k_j + (q_t + w) · W_R R_{t-j}`, over √n.

    R_d are the sines and then the cosines of `d · 10000^(-2i/width)`; W_R `[n, width]`.  A token sees its segment up to
    itself, and the last `past` tokens before the segment.
    """
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)

    def score(t: int, j: int) -> float:
        place = np.concatenate([np.sin((t - j) * rates), np.cos((t - j) * rates)])
        return float((q[t] + u) @ k[j] + (q[t] + w) @ (W_R @ place)) / math.sqrt(q.shape[1])

    return read(v, score, lambda t, j: j >= t // segment * segment - past)


def sigmoid_attention(q: Array, k: Array, v: Array, b: Array) -> Array:
    """Sigmoid attention (2409.04431, (3)): `Σ_j sigmoid(q_t · k_j / √n + b_t) v_j`; b `[T]`."""
    score = products(q, k)
    answers = np.zeros_like(v)
    for t in range(len(v)):
        for j in range(t + 1):
            answers[t] += v[j] / (1 + math.exp(-score(t, j) - b[t]))
    return answers


def sinks(q: Array, k: Array, v: Array, sink: float, window: int) -> Array:
    """One more score a head, whose value is 0 (2508.10925): a softmax over the tokens and the sink."""
    score = products(q, k)
    answers = np.zeros_like(v)
    for t in range(len(v)):
        seen = list(range(max(0, t - window + 1), t + 1))
        weights = softmax(np.array([*(score(t, j) for j in seen), sink]))
        answers[t] = weights[:-1] @ v[seen]
    return answers


def persistent(q: Array, k: Array, v: Array, pk: Array, pv: Array, window: int) -> Array:
    """Titans' attention (2501.00663, (19), (27)): a softmax over learned entries pk, pv and a window of tokens."""
    answers = np.zeros_like(v)
    for t in range(len(v)):
        first = max(0, t - window + 1)
        keys = np.concatenate([pk, k[first : t + 1]])
        values = np.concatenate([pv, v[first : t + 1]])
        answers[t] = softmax(keys @ q[t] / math.sqrt(q.shape[1])) @ values
    return answers


# --- memories beside attention ---


def memory_as_context(
    q: Array,
    k: Array,
    v: Array,
    r: Array,
    alpha: Array,
    eta: Array,
    theta: Array,
    pk: Array,
    pv: Array,
    context: Array,
    key: Array,
    query: Array,
    segment: int,
) -> Array:
    """Titans MAC (2501.00663, (21) to (25)) with a matrix for its memory, which learns at every token.

    `h_t = M r_t` is asked before the write; attention runs over persistent entries, over the h of the segment (its
    keys `context h`, its values h) and over its tokens; its result y is learned, `M` with `key y` for key and y for
    value, and answered as `y · M(query y)`, after the write.
    """
    memory = np.zeros((v.shape[1], q.shape[1]))
    surprise = np.zeros_like(memory)
    recalled: list[Array] = []
    answers: list[Array] = []
    for t in range(len(q)):
        recalled.append(memory @ r[t])
        first = t // segment * segment
        ahead = np.array(recalled[first:])
        keys = np.concatenate([pk, ahead @ context.T, k[first : t + 1]])
        values = np.concatenate([pv, ahead, v[first : t + 1]])
        y = softmax(keys @ q[t] / math.sqrt(q.shape[1])) @ values
        asked = unit(key @ y)
        surprise = eta[t] * surprise - theta[t] * np.outer(memory @ asked - y, asked)
        memory = (1 - alpha[t]) * memory + surprise
        answers.append(y * (memory @ unit(query @ y)))
    return np.array(answers)


def memory_network(
    tokens: Sequence[int], A: Array, C: Array, T_A: Array, T_C: Array, H: Array, W: Array, hops: int
) -> Array:
    """End-to-end memory networks (1503.08895): `p = softmax(u · m)`, `o = Σ p c`, `u = H u + o`, for every token.

    Entry j of the memory of token t is token `t - j`: `m_j = A[token] + T_A[j]`, `c_j = C[token] + T_C[j]`.  The first
    question is 0.1 everywhere; half of u passes through relu after every hop; W maps the last u to logits.
    """
    slots, width = T_A.shape
    answers: list[Array] = []
    for t in range(len(tokens)):
        past = [tokens[t - j] for j in range(min(slots, t + 1))]
        m = np.array([A[token] + T_A[j] for j, token in enumerate(past)])
        c = np.array([C[token] + T_C[j] for j, token in enumerate(past)])
        u = np.full(width, 0.1)
        for _ in range(hops):
            u = H @ u + softmax(m @ u) @ c
            u[: width // 2] = np.maximum(u[: width // 2], 0)
        answers.append(W @ u)
    return np.array(answers)


def recurrent_cell(
    q: Array,
    k: Array,
    v: Array,
    ids: Array,
    start: Array,
    W_k: Array,
    W_v: Array,
    W_self: Array,
    W_cross: Array,
    W_a: Array,
    W_b: Array,
    keep: Array,
    span: int,
) -> Array:
    """Block-Recurrent Transformer (2203.07852, 3.2 to 3.4): what tokens read from a state of vectors.

    q, k, v `[T, h, n]`; a block of `span` tokens reads the state that the block before has left, with keys and values
    that the state's own attention shares.  After a block, `c = g c + (1 - g) z`, `g = sigmoid(keep)`, where z adds up
    the maps of self-attention and of attention to the block.  W_k, W_v, W_self, W_cross `[h, n, d]`; W_a, W_b
    `[d, h, n]`; ids, start, keep `[slot, d]`.  The maps see a state vector with a mean square of 1, plus its id.
    """
    heads, root = q.shape[1], math.sqrt(q.shape[2])
    state = start
    answers = np.zeros_like(q)
    for first in range(0, len(q), span):
        block = range(first, min(first + span, len(q)))
        seen = np.array([vector / math.sqrt(float(np.mean(vector**2)) + 1e-6) for vector in state]) + ids
        z = np.zeros_like(state)
        for head in range(heads):
            keys, values = seen @ W_k[head].T, seen @ W_v[head].T  # [slot, n]
            for t in block:
                answers[t, head] = softmax(keys @ q[t, head] / root) @ values
            for slot, vector in enumerate(seen):
                among = softmax(keys @ (W_self[head] @ vector) / root) @ values
                within = softmax(k[block, head] @ (W_cross[head] @ vector) / root) @ v[block, head]
                z[slot] += W_a[:, head] @ among + W_b[:, head] @ within
        gate = sigmoid(keep)
        state = gate * state + (1 - gate) * z
    return answers


# --- experts ---


def sigma_moe(x: Array, router: Array, up: Array, down: Array, k: int) -> Array:
    """σ-MoE (2310.10837, (8) to (10)): `Σ_e s_e W2_e relu(W1_e x)` over the k largest `s = sigmoid(W x)`.

    router `[experts, d]`, up `[experts, hidden, d]`, down `[experts, d, hidden]`.
    """
    answers = np.zeros_like(x)
    for t, token in enumerate(x):
        scores = sigmoid(router @ token)
        for expert in np.argsort(-scores)[:k]:
            answers[t] += scores[expert] * (down[expert] @ np.maximum(up[expert] @ token, 0))
    return answers
