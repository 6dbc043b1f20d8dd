"""Memories that learn as they read, as plain loops from the papers' equations, with gradients worked out by hand.

Every function runs one row: an input has the time first, `[T, ...]`.  Gradients are taken at the memory as it was
before tokens 0, period, 2 period, …; a period of 1 takes them at every token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.parity.naive.network import Array, Memory, Network, Pointwise, error_from

Tokens = Sequence[int]


# --- Titans and TTT ---


def titans(
    q: Array,
    k: Array,
    v: Array,
    alpha: Array,
    eta: Array,
    theta: Array,
    start: Memory,
    net: Network,
    period: int,
) -> Array:
    """Titans (2501.00663, (12) to (15)): `Z = eta Z - theta grad`, `W = (1 - alpha) W + Z`, of `½‖M(k) - v‖²`.

    q, k `[T, n]`, v `[T, m]`, gates `[T]`; answers `M(q)` after the write, `[T, m]`.
    """
    memory, held = list(start), list(start)
    surprise = [np.zeros_like(matrix) for matrix in memory]
    answers: list[Array] = []
    for t in range(len(q)):
        if t % period == 0:
            held = list(memory)
        slopes = net.gradient(held, k[t], error_from(v[t]))
        for i, slope in enumerate(slopes):
            surprise[i] = eta[t] * surprise[i] - theta[t] * slope
            memory[i] = (1 - alpha[t]) * memory[i] + surprise[i]
        answers.append(net.read(memory, q[t]))
    return np.array(answers)


def ttt(q: Array, k: Array, v: Array, rate: Array, start: Memory, net: Network, period: int) -> Array:
    """TTT (2407.04620, (1) to (6)): the first memory of a mini-batch minus the sum of its gradients so far.

    The token-wise factor of the public code is 1 here.
    """
    answers: list[Array] = []
    first = list(start)
    for begin in range(0, len(q), period):
        total = [np.zeros_like(matrix) for matrix in first]
        for t in range(begin, min(begin + period, len(q))):
            slopes = net.gradient(first, k[t], error_from(v[t]))
            total = [done + rate[t] * slope for done, slope in zip(total, slopes, strict=True)]
            answers.append(net.read([matrix - done for matrix, done in zip(first, total, strict=True)], q[t]))
        first = [matrix - done for matrix, done in zip(first, total, strict=True)]
    return np.array(answers)


# --- Miras: Moneta, Yaad, Memora (2504.13173) ---


def moneta(
    q: Array,
    k: Array,
    v: Array,
    alpha: Array,
    eta: Array,
    start: Memory,
    net: Network,
    period: int,
    p: float,
    normalise: Pointwise,
) -> Array:
    """`A = alpha A - eta grad`, `W = normalise(A)`, of `Σ |e|^p` with `|e| = √(e² + 1e-6)`."""
    duals = list(start)
    held = [normalise(dual) for dual in duals]
    answers: list[Array] = []
    for t in range(len(q)):
        if t % period == 0:
            held = [normalise(dual) for dual in duals]

        def slope(y: Array, t: int = t) -> Array:
            error = y - v[t]
            return np.asarray(p * error * np.sqrt(error * error + 1e-6) ** (p - 2))

        slopes = net.gradient(held, k[t], slope)
        duals = [alpha[t] * dual - eta[t] * each for dual, each in zip(duals, slopes, strict=True)]
        answers.append(net.read([normalise(dual) for dual in duals], q[t]))
    return np.array(answers)


def published_normaliser(dual: Array, q: float) -> Array:
    """Moneta's `A / ‖A‖_q^(q-2)`, with sizes that are smooth at 0."""
    sizes = np.sqrt(dual * dual + 1e-6)
    return np.asarray(dual / np.sum(sizes**q) ** ((q - 2) / q))


def mirror_of_q_norm(dual: Array, q: float) -> Array:
    """The gradient of `½‖A‖_r²`, `1/q + 1/r = 1`: `sign(A) |A|^(r-1) / ‖A‖_r^(r-2)`, smooth at 0."""
    r = q / (q - 1)
    sizes = np.sqrt(dual * dual + 1e-12)
    return np.asarray(dual / sizes * sizes ** (r - 1) / np.sum(sizes**r) ** ((r - 2) / r))


def yaad(
    q: Array,
    k: Array,
    v: Array,
    alpha: Array,
    eta: Array,
    delta: Array,
    start: Memory,
    net: Network,
    period: int,
    entries: bool,
) -> Array:
    """`W = alpha W - eta grad` of Huber's loss of the error's length, or of its entries; delta `[T]` is the threshold.

    Within the threshold the slope is the error e, beyond it `delta e/‖e‖`, or `delta sign(e)` entry by entry.
    """
    memory, held = list(start), list(start)
    answers: list[Array] = []
    for t in range(len(q)):
        if t % period == 0:
            held = list(memory)

        def slope(y: Array, t: int = t) -> Array:
            error = y - v[t]
            if entries:
                return np.asarray(np.clip(error, -delta[t], delta[t]))
            return np.asarray(error * min(1.0, delta[t] / float(np.linalg.norm(error))))

        slopes = net.gradient(held, k[t], slope)
        memory = [alpha[t] * matrix - eta[t] * each for matrix, each in zip(memory, slopes, strict=True)]
        answers.append(net.read(memory, q[t]))
    return np.array(answers)


def memora(
    q: Array,
    k: Array,
    v: Array,
    alpha: Array,
    eta: Array,
    start: Memory,
    net: Network,
    period: int,
    scale: float,
) -> Array:
    """`W = c softmax(alpha log W - eta grad)`, every row of a matrix by itself; starts at `c softmax(start)`."""

    def spread(x: Array) -> Array:
        raised = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(scale * raised / raised.sum(axis=1, keepdims=True))

    memory = [spread(matrix) for matrix in start]
    held = memory
    answers: list[Array] = []
    for t in range(len(q)):
        if t % period == 0:
            held = memory
        slopes = net.gradient(held, k[t], error_from(v[t]))
        memory = [
            spread(alpha[t] * np.log(matrix) - eta[t] * each)
            for matrix, each in zip(memory, slopes, strict=True)
        ]
        answers.append(net.read(memory, q[t]))
    return np.array(answers)


# --- windows: the Omega rule and Atlas (2505.23735) ---


def window_of(t: int, length: int) -> Tokens:
    """The tokens up to t that a window of `length` holds."""
    return range(max(0, t - length + 1), t + 1)


def window_gradient(
    net: Network, memory: Memory, k: Array, v: Array, g: Array, tokens: Tokens
) -> list[Array]:
    """Of `Σ_i g_i ½‖M(k_i) - v_i‖²` over some tokens."""
    total = [np.zeros_like(matrix) for matrix in memory]
    for i in tokens:
        slopes = net.gradient(memory, k[i], error_from(v[i]))
        total = [done + g[i] * slope for done, slope in zip(total, slopes, strict=True)]
    return total


def omega_closed(q: Array, k: Array, v: Array, alpha: Array, g: Array, eta: Array, window: int) -> Array:
    """The Omega rule of a matrix, in closed form: `S = S (alpha I - eta Σ g_i k_i k_iᵀ) + eta Σ g_i v_i k_iᵀ`."""
    memory = np.zeros((v.shape[1], k.shape[1]))
    answers: list[Array] = []
    for t in range(len(q)):
        seen = window_of(t, window)
        gram = sum((g[i] * np.outer(k[i], k[i]) for i in seen), np.zeros((k.shape[1], k.shape[1])))
        write = sum((g[i] * np.outer(v[i], k[i]) for i in seen), np.zeros_like(memory))
        memory = memory @ (alpha[t] * np.eye(k.shape[1]) - eta[t] * gram) + eta[t] * write
        answers.append(memory @ q[t])
    return np.array(answers)


def omega(
    q: Array,
    k: Array,
    v: Array,
    alpha: Array,
    g: Array,
    eta: Array,
    start: Memory,
    net: Network,
    period: int,
    window: int,
) -> Array:
    """The Omega rule: `W = alpha W - eta grad` of the window's weighted loss; the weights g belong to the tokens."""
    memory, held = list(start), list(start)
    answers: list[Array] = []
    for t in range(len(q)):
        if t % period == 0:
            held = list(memory)
        slopes = window_gradient(net, held, k, v, g, window_of(t, window))
        memory = [alpha[t] * matrix - eta[t] * each for matrix, each in zip(memory, slopes, strict=True)]
        answers.append(net.read(memory, q[t]))
    return np.array(answers)


def orthogonalised(x: Array, steps: int) -> Array:
    """Newton-Schulz as in Muon: `X <- a X + b X Xᵀ X + c (X Xᵀ)² X`, from X over its length; zero stays zero."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x / math.sqrt(float(np.sum(x * x)) + 1e-12)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + b * square @ x + c * square @ square @ x
    return x


def atlas(
    q: Array,
    k: Array,
    v: Array,
    alpha: Array,
    g: Array,
    eta: Array,
    theta: Array,
    start: Memory,
    net: Network,
    period: int,
    window: int,
    steps: int,
) -> Array:
    """Atlas: `Z = theta Z + grad` of the window, `W = alpha W - eta NS(Z)`."""
    memory, held = list(start), list(start)
    surprise = [np.zeros_like(matrix) for matrix in memory]
    answers: list[Array] = []
    for t in range(len(q)):
        if t % period == 0:
            held = list(memory)
        slopes = window_gradient(net, held, k, v, g, window_of(t, window))
        for i, slope in enumerate(slopes):
            surprise[i] = theta[t] * surprise[i] + slope
            memory[i] = alpha[t] * memory[i] - eta[t] * orthogonalised(surprise[i], steps)
        answers.append(net.read(memory, q[t]))
    return np.array(answers)


# --- the whole past at once: MesaNet (2506.05233) ---


def mesa(q: Array, k: Array, v: Array, beta: Array, g: Array, ridge: Array) -> Array:
    """`H = g H + beta k kᵀ`, `G = g G + beta v kᵀ`, `o = G (H + diag ridge)⁻¹ q`, solved exactly; ridge `[n]`."""
    gram, write = np.zeros((k.shape[1], k.shape[1])), np.zeros((v.shape[1], k.shape[1]))
    answers: list[Array] = []
    for t in range(len(q)):
        gram = g[t] * gram + beta[t] * np.outer(k[t], k[t])
        write = g[t] * write + beta[t] * np.outer(v[t], k[t])
        answers.append(write @ np.linalg.solve(gram + np.diag(ridge), q[t]))
    return np.array(answers)


def weighted_least_squares(q: Array, k: Array, v: Array, beta: Array, g: Array, ridge: float) -> Array:
    """What recursive least squares computes: at every token the ridge regression of all tokens so far.

    Token i weighs `beta_i Π_{i<j≤t} g_j`, and the ridge, which is forgotten like a token, `ridge Π_{j≤t} g_j`.
    """
    answers: list[Array] = []
    for t in range(len(q)):
        weights = np.array([beta[i] * np.prod(g[i + 1 : t + 1]) for i in range(t + 1)])
        rows = k[: t + 1]
        gram = rows.T @ (weights[:, None] * rows) + ridge * np.prod(g[: t + 1]) * np.eye(k.shape[1])
        best = np.linalg.solve(gram, rows.T @ (weights[:, None] * v[: t + 1]))
        answers.append(best.T @ q[t])
    return np.array(answers)
