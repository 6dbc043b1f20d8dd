"""Nonlinear and gated cells as plain loops from the papers' equations.

Every function runs one row: an input `[T, d]` is the share of a gate or a proposal that comes from the token, its bias
included.  A matrix is `[output, input]`, vectors `[d]` multiply entry by entry; answers `[T, d]`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def lem(
    d1: Array, d2: Array, z_in: Array, y_in: Array, V_1: Array, V_2: Array, V_z: Array, V_y: Array, dt: float
) -> Array:
    """Long expressive memory (2110.04744): two states with time steps of their own; y sees the new z."""
    z, y = np.zeros(d1.shape[1]), np.zeros(d1.shape[1])
    answers: list[Array] = []
    for t in range(len(d1)):
        of_z = dt * sigmoid(d1[t] + V_1 @ y)
        of_y = dt * sigmoid(d2[t] + V_2 @ y)
        z = (1 - of_z) * z + of_z * np.tanh(z_in[t] + V_z @ y)
        y = (1 - of_y) * y + of_y * np.tanh(y_in[t] + V_y @ z)
        answers.append(y)
    return np.array(answers)


def para_gru(z: Array, r: Array, n: Array, a_z: Array, a_r: Array, a_n: Array) -> Array:
    """ParaGRU (2510.21450): a GRU whose recurrent weights are vectors; the reset comes before the weight."""
    h = np.zeros_like(z[0])
    answers: list[Array] = []
    for t in range(len(z)):
        update, reset = sigmoid(a_z * h + z[t]), sigmoid(a_r * h + r[t])
        h = (1 - update) * h + update * np.tanh(a_n * (h * reset) + n[t])
        answers.append(h)
    return np.array(answers)


def para_lstm(
    f: Array, g: Array, o: Array, a_f: Array, a_g: Array, a_o: Array, p_f: Array, p_o: Array
) -> Array:
    """ParaLSTM (2510.21450): coupled gates, peepholes, recurrent weights that are vectors; o sees the new c."""
    c, h = np.zeros_like(f[0]), np.zeros_like(f[0])
    answers: list[Array] = []
    for t in range(len(f)):
        forget = sigmoid(a_f * h + p_f * c + f[t])
        c = forget * c + (1 - forget) * np.tanh(a_g * h + g[t])
        h = sigmoid(a_o * h + p_o * c + o[t]) * np.tanh(c)
        answers.append(h)
    return np.array(answers)


def elstm(f: Array, z: Array, w_f: Array, w_z: Array) -> Array:
    """eLSTM (2305.19044): `c = f c + (1 - f) tanh(z + w_z c)`, `f = sigmoid(f + w_f c)`; answers c."""
    c = np.zeros_like(f[0])
    answers: list[Array] = []
    for t in range(len(f)):
        forget = sigmoid(f[t] + w_f * c)
        c = forget * c + (1 - forget) * np.tanh(z[t] + w_z * c)
        answers.append(c)
    return np.array(answers)


def sru(u: Array, f: Array, r: Array, x: Array, v_f: Array, v_r: Array) -> Array:
    """SRU (1709.02755): both gates see the c before; the answer is a gated mean of the new c and the input."""
    c = np.zeros_like(u[0])
    answers: list[Array] = []
    for t in range(len(u)):
        forget, reset = sigmoid(f[t] + v_f * c), sigmoid(r[t] + v_r * c)
        c = forget * c + (1 - forget) * u[t]
        answers.append(reset * c + (1 - reset) * x[t])
    return np.array(answers)


def leaky(x: Array, R: Array, tau: Array) -> Array:
    """`h = (1 - 1/tau) h + (1/tau) tanh(R h + x)`; tau `[d]`, at least 1."""
    h = np.zeros_like(x[0])
    answers: list[Array] = []
    for token in x:
        h = (1 - 1 / tau) * h + np.tanh(R @ h + token) / tau
        answers.append(h)
    return np.array(answers)


def scrn(b: Array, a: Array, P: Array, R: Array, alpha: Array, delayed: bool) -> Array:
    """SCRN (1412.7753): slow `s = alpha s + (1 - alpha) b`, fast `h = sigmoid(P s + a + R h)`; answers h.

    `delayed` takes the s before, as the authors' code does.
    """
    s, h = np.zeros(b.shape[1]), np.zeros(a.shape[1])
    answers: list[Array] = []
    for t in range(len(a)):
        before = s
        s = alpha * s + (1 - alpha) * b[t]
        h = sigmoid(P @ (before if delayed else s) + a[t] + R @ h)
        answers.append(h)
    return np.array(answers)


def plrnn(s: Array, A: Array, W: Array, h: Array, start: Array) -> Array:
    """PLRNN: `z = A z + W relu(z) + h + s`; A a diagonal, of W only what is off it."""
    z, off = start, W - np.diag(np.diag(W))
    answers: list[Array] = []
    for token in s:
        z = A * z + off @ relu(z) + h + token
        answers.append(z)
    return np.array(answers)


def shallow_plrnn(
    s: Array, A: Array, W_1: Array, W_2: Array, h_1: Array, h_2: Array, start: Array, clipped: bool
) -> Array:
    """Shallow PLRNN (2306.04406): `z = A z + W_1 relu(W_2 z + h_2) + h_1 + s`.

    Clipped, `relu(W_2 z)` is taken off within, so that what W_1 adds is bounded.
    """
    z = start
    answers: list[Array] = []
    for token in s:
        bent = relu(W_2 @ z + h_2)
        if clipped:
            bent = bent - relu(W_2 @ z)
        z = A * z + W_1 @ bent + h_1 + token
        answers.append(z)
    return np.array(answers)


def quasi_lstm(i: Array, f: Array, z: Array, o: Array) -> Array:
    """Quasi-LSTM (2309.11197): an LSTM whose gates see the token only."""
    c = np.zeros_like(i[0])
    answers: list[Array] = []
    for t in range(len(i)):
        c = sigmoid(f[t]) * c + sigmoid(i[t]) * np.tanh(z[t])
        answers.append(sigmoid(o[t]) * np.tanh(c))
    return np.array(answers)


def rhn(h: Array, t: Array, R_h: Array, R_t: Array, b_h: Array, b_t: Array) -> Array:
    """Recurrent highway network (1607.03474): `s = h t + s (1 - t)` once a layer; the token enters the first only.

    R_h, R_t `[depth, d, d]`, b_h, b_t `[depth, d]`.
    """
    s = np.zeros_like(h[0])
    answers: list[Array] = []
    for of_h, of_t in zip(h, t, strict=True):
        for layer in range(len(R_h)):
            proposal = np.tanh(R_h[layer] @ s + b_h[layer] + (of_h if layer == 0 else 0))
            transform = sigmoid(R_t[layer] @ s + b_t[layer] + (of_t if layer == 0 else 0))
            s = proposal * transform + s * (1 - transform)
        answers.append(s)
    return np.array(answers)


def mingru(z: Array, c: Array) -> Array:
    """minGRU (2410.01201): `h = (1 - z) h + z c`; z is a gate already."""
    h = np.zeros_like(z[0])
    answers: list[Array] = []
    for t in range(len(z)):
        h = (1 - z[t]) * h + z[t] * c[t]
        answers.append(h)
    return np.array(answers)


def minlstm(f: Array, i: Array, c: Array, normalised: bool) -> Array:
    """minLSTM (2410.01201): `h = f h + i c`, normalised with `f / (f + i)` and `i / (f + i)`."""
    h = np.zeros_like(f[0])
    answers: list[Array] = []
    for t in range(len(f)):
        keep, write = sigmoid(f[t]), sigmoid(i[t])
        total = keep + write if normalised else np.ones_like(keep)
        h = (keep * h + write * c[t]) / total
        answers.append(h)
    return np.array(answers)


def bilinear(x: Array, W: Array, start: Array, unit: bool = False) -> Array:
    """Bilinear network (2505.21749): `h = A_x h`, `A_x = Σ_k x_k W_k`; with `unit`, of length 1 after every token.

    W `[n, n, d]`, start `[n]`.
    """
    h = start
    answers: list[Array] = []
    for token in x:
        h = sum((value * W[:, :, k] for k, value in enumerate(token)), np.zeros(W.shape[:2])) @ h
        h = h / np.linalg.norm(h) if unit else h
        answers.append(h)
    return np.array(answers)


def bilinear_cp(x: Array, C: Array, R: Array, E: Array, start: Array) -> Array:
    """`A_x = C Diag(R x) E`."""
    h = start
    answers: list[Array] = []
    for token in x:
        h = C @ np.diag(R @ token) @ E @ h
        answers.append(h)
    return np.array(answers)


def bilinear_rotation(angle: Array, re: Array, im: Array) -> Array:
    """Pairs of entries that are turned, each by its angle; answers the first of each pair."""
    pairs = np.stack([re, im])
    answers: list[Array] = []
    for token in angle:
        cos, sin = np.cos(token), np.sin(token)
        pairs = np.stack([cos * pairs[0] - sin * pairs[1], sin * pairs[0] + cos * pairs[1]])
        answers.append(pairs[0])
    return np.array(answers)


def bilinear_diagonal(a: Array, start: Array) -> Array:
    """`h_t = a_t … a_1 h_0`."""
    return np.array([a[: t + 1].prod(axis=0) * start for t in range(len(a))])


def graves(
    i: Array, f: Array, z: Array, o: Array, text: Array, own: Mapping[str, Array], pace: Array
) -> Array:
    """An LSTM with peepholes and a window on a text (1308.0850, (46) to (51)); answers h and then w, `[T, d + e]`.

    `kappa` moves on by `exp(K h + pace)`; letter u weighs `Σ_k alpha_k exp(-beta_k (kappa_k - u)²)`, and w, the sum of
    the letters' vectors, is seen by the gates of the next token.  text `[T, letters, e]`.
    """
    h, c = np.zeros_like(i[0]), np.zeros_like(i[0])
    kappa, w = np.zeros_like(pace), np.zeros(text.shape[2])
    answers: list[Array] = []
    for t in range(len(i)):
        sums = {
            gate: x[t] + own[f"R_{gate}"] @ h + own[f"V_{gate}"] @ w
            for gate, x in zip("ifzo", (i, f, z, o), strict=True)
        }
        forget = sigmoid(sums["f"] + own["p_f"] * c)
        c = forget * c + sigmoid(sums["i"] + own["p_i"] * c) * np.tanh(sums["z"])
        h = sigmoid(sums["o"] + own["p_o"] * c) * np.tanh(c)
        alpha, beta = np.exp(own["A"] @ h + own["A.bias"]), np.exp(own["B"] @ h + own["B.bias"])
        kappa = kappa + np.exp(own["K"] @ h + pace)
        w = np.zeros_like(w)
        for letter, vector in enumerate(text[t]):
            w = w + np.sum(alpha * np.exp(-beta * (kappa - letter) ** 2)) * vector
        answers.append(np.concatenate([h, w]))
    return np.array(answers)
