"""Layers of the field as plain loops from the papers' equations, one row at a time.

`x` is `[time, width]`; `w` has the weights under the names of the papers' maps, `[output, input]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tests.parity.naive.cells import sigmoid
from tests.parity.naive.network import gelu, silu

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
Weights = Mapping[str, Array]


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def layer_norm(x: Array, scale: Array, shift: Array, eps: float = 1e-5) -> Array:
    centred = x - x.mean()
    return np.asarray(centred / np.sqrt((centred**2).mean() + eps) * scale + shift)


def unit_rms(x: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean() + eps))


def softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())


def mega(x: Array, w: Weights, chunk: int) -> Array:
    """Mega (2209.10655, section 3): tokens of one chunk see each other, and all tokens where `chunk` is 0."""

    def of(name: str, u: Array) -> Array:
        return np.asarray(w[f"{name}.weight"] @ u + w.get(f"{name}.bias", 0))

    p, damp = sigmoid(w["average.alpha"]), sigmoid(w["average.delta"])
    h = np.zeros_like(p)
    keys: list[Array] = []
    values: list[Array] = []
    answers: list[Array] = []
    for t, token in enumerate(x):
        normed = layer_norm(token, w["norm.weight"], w["norm.bias"])
        h = p * w["average.beta"] * normed[:, None] + (1 - p * damp) * h
        mixed = (w["average.gamma"] * h).sum(1) / math.sqrt(h.shape[1])
        average = silu(mixed + w["average.omega"] * normed)
        z = silu(of("W_z", average))
        keys.append(w["gamma_k"] * z + w["beta_k"])
        values.append(silu(of("W_v", normed)))
        query = w["gamma_q"] * z + w["beta_q"]
        first = t - t % chunk if chunk else 0
        bias = [w["far"][min(t - s, len(w["far"]) - 1)] for s in range(first, t + 1)]
        scores = np.array(keys[first:]) @ query / math.sqrt(len(z)) + np.array(bias)
        read = softmax(scores) @ np.array(values[first:])
        r, u = silu(of("W_r", average)), sigmoid(of("W_u", average))
        proposal = silu(of("W_h", average) + w["U.weight"] @ (r * read))
        answers.append(u * proposal + (1 - u) * token)
    return np.array(answers)


def turned(x: Array, angles: Array) -> Array:
    """Pairs `[pair, 2]`, each turned by its angle."""
    pairs = np.array([1, 1j]) @ x.T * np.exp(1j * angles)
    return np.stack([pairs.real, pairs.imag], 1)


def mamba3(x: Array, w: Weights, floor: float) -> Array:
    """Mamba-3 with one input and one output: groups of heads share keys and queries `[group, pair, 2]`."""
    groups, heads = w["D"].shape
    pairs, count = w["B_weight"].shape[0], len(w["angles.weight"])
    answers = np.zeros_like(x)
    for g in range(groups):
        for i in range(heads):
            state = np.zeros((w["x.weight"].shape[2], pairs, 2))
            angle, old = np.zeros(pairs), np.zeros_like(state)
            for t, token in enumerate(x):
                dt = softplus(w["dt.weight"][g, i] @ token + w["dt_bias"][g, i])
                decay = np.exp(-dt * np.maximum(softplus(w["A.weight"][g, i] @ token), floor))
                blend = sigmoid(w["trap.weight"][g, i] @ token)
                angle[:count] += dt * math.pi * np.tanh(w["angles.weight"] @ token)
                key = unit_rms(w["B.weight"][g] @ token, 1e-5) * w["B_weight"] + w["B_bias"][g, i]
                query = unit_rms(w["C.weight"][g] @ token, 1e-5) * w["C_weight"] + w["C_bias"][g, i]
                value = w["x.weight"][g, i] @ token
                now = value[:, None, None] * turned(key, angle)
                state = decay * (state + (1 - blend) * dt * old) + blend * dt * now
                old = now
                read = (state * turned(query, angle)).sum((1, 2)) + w["D"][g, i] * value
                answers[t] += w["out.weight"][:, g, i] @ (read * silu(w["z.weight"][g, i] @ token))
    return answers


def rotary(x: Array, t: int) -> Array:
    """Halves turned against each other (Su et al. 2021)."""
    half = len(x) // 2
    angle = t / 10000 ** (np.arange(half) / half)
    first, second = x[:half], x[half:]
    return np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), first * np.sin(angle) + second * np.cos(angle)]
    )


def less(x: Array, w: Weights, window: int, sinks: int) -> Array:
    """LESS (2402.09398): a token that leaves the cache of first and last tokens goes into a linear memory."""
    answers = np.zeros_like(x)
    for i in range(len(w["D_1"])):
        cache: list[tuple[int, Array, Array]] = []
        memory, total = np.zeros((w["v.weight"].shape[1], w["D_1"].shape[1])), np.zeros(w["D_1"].shape[1])
        for t, token in enumerate(x):
            key, query = rotary(w["k.weight"][i] @ token, t), rotary(w["q.weight"][i] @ token, t)
            cache.append((t, key, w["v.weight"][i] @ token))
            gone = [entry for entry in cache if sinks <= entry[0] <= t - window]
            cache = [entry for entry in cache if not sinks <= entry[0] <= t - window]
            for _, k, v in gone:
                k_0 = np.abs(w["D_1"][i]) * gelu(w["U_2.weight"][i] @ gelu(w["U_1.weight"][i] @ k))
                psi = np.abs(k_0 + w["D_2"][i] * (w["U_3.weight"][i] @ k_0))
                memory, total = memory + np.outer(v, psi), total + psi
            phi = np.abs(gelu(w["W_2.weight"][i] @ gelu(w["W_1.weight"][i] @ query)))
            weights = np.exp(np.array([k for _, k, _ in cache]) @ query / math.sqrt(len(query)))
            read = memory @ phi + weights @ np.array([v for _, _, v in cache])
            answers[t] += w["out.weight"][:, i] @ (read / (max(phi @ total, 1e-6) + weights.sum()))
    return answers


def convolved(x: Array | Complex, kernel: Complex) -> Complex:
    """Pictures `[channel, row, column]` under a kernel `[output, channel, u, w]`, zeros around them."""
    out, _, u, v = kernel.shape
    _, rows, columns = x.shape
    wide = np.pad(x, ((0, 0), (u // 2, u - 1 - u // 2), (v // 2, v - 1 - v // 2)))
    answers = np.zeros((out, rows, columns), dtype=complex)
    for r in range(rows):
        for c in range(columns):
            answers[:, r, c] = (kernel * wide[:, r : r + u, c : c + v]).sum((1, 2, 3))
    return answers


def conv_s5(
    x: Array,
    log_dt: Array,
    lambda_re: Array,
    lambda_im: Array,
    B_re: Array,
    B_im: Array,
    C_re: Array,
    C_im: Array,
    D: Array,
) -> Array:
    """ConvS5 (2310.19694): `x [time, channel, row, column]`; input is held over a step of length dt."""
    dt, eigenvalue = np.exp(log_dt), np.minimum(lambda_re, -1e-4) + 1j * lambda_im
    kept = np.exp(dt * eigenvalue)
    state = np.zeros((len(dt), *x.shape[2:]), dtype=complex)
    answers: list[Array] = []
    for frame in x:
        enters = convolved(frame, B_re + 1j * B_im)
        state = kept[:, None, None] * state + ((kept - 1) / eigenvalue)[:, None, None] * enters
        shown = convolved(state, C_re + 1j * C_im)
        answers.append(np.asarray(2 * shown.real + np.tensordot(D, frame, 1), dtype=np.float64))
    return np.array(answers)


def chimera(
    x: Array,
    along: Array,
    across: Array,
    B1: Array,
    B2: Array,
    C1: Array,
    C2: Array,
    a1: Array,
    a4: Array,
    A2: Array,
    A3: Array,
) -> Array:
    """Chimera (2406.04320) on a grid of times and variates, one point after the other; `x [time, variate]`."""
    times, variates = x.shape
    one, two = -np.exp(a1), -np.exp(a4)
    h1, h2 = np.zeros((2, times + 1, variates + 1, len(a1)))
    answers = np.zeros_like(x)
    for t in range(times):
        for v in range(variates):
            kept = np.exp(along[t, v] * one)
            drive = A2 * h2[t, v + 1] + B1[t, v] * x[t, v]
            h1[t + 1, v + 1] = kept * h1[t, v + 1] + (kept - 1) / one * drive
            kept = np.exp(across[t, v] * two)
            drive = A3 * h1[t + 1, v] + B2[t, v] * x[t, v]
            h2[t + 1, v + 1] = kept * h2[t + 1, v] + (kept - 1) / two * drive
            answers[t, v] = C1[t, v] @ h1[t + 1, v + 1] + C2[t, v] @ h2[t + 1, v + 1]
    return answers


def matern(y: Array, noise: Array, dt: Array, rate: float, scale: float) -> tuple[Array, Array]:
    """Means and variances of a process with the kernel `s² (1 + l τ) exp(-l τ)`, given all observations so far."""
    place = np.cumsum(dt)
    means: list[float] = []
    variances: list[float] = []
    for t in range(len(y)):
        apart = rate * np.abs(place[: t + 1, None] - place[None, : t + 1])
        kernel = scale**2 * (1 + apart) * np.exp(-apart)
        share = np.linalg.solve(kernel + np.diag(noise[: t + 1]), kernel[t])
        means.append(float(share @ y[: t + 1]))
        variances.append(float(kernel[t, t] - share @ kernel[t]))
    return np.array(means), np.array(variances)
