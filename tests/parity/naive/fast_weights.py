"""Fast weights, slots and complex state spaces as plain loops, from the papers' equations.

Every function runs one row: an input has the time first, `[T, ...]`, a parameter has none.  A memory from keys to
values is `[value, key]`, read by `memory @ key`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
Forces = Callable[[Array, Array, Array], tuple[Array, Array]]  # of the unit slots, a key and a value: c and h


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max())
    return np.asarray(raised / raised.sum())


# --- slots on the sphere ---


def _on_the_sphere(q: Array, k: Array, v: Array, rate: Array, start: Array, forces: Forces) -> Array:
    """`s_i' = unit(s_i + rate · c_i · (I - n_i n_iᵀ) h)` with `n_i = unit(s_i)`; answers `Σ_i q_i n_i'`."""
    slots = start.copy()
    answers = []
    for t in range(len(q)):
        unit = slots / np.linalg.norm(slots, axis=1, keepdims=True)
        c, h = forces(unit, k[t], v[t])
        for i in range(len(slots)):
            tangent = h - unit[i] * (unit[i] @ h)
            moved = slots[i] + rate[t] * c[i] * tangent
            slots[i] = moved / np.linalg.norm(moved)
        answers.append(q[t] @ slots)
    return np.array(answers)


def lattice_decoding(q: Array, k: Array, v: Array, rate: Array, start: Array) -> Array:
    """Lattice (2504.05646), objective `½‖v - N k‖²`: `c = k`, `h = v - N k`.

    q, k `[T, slots]`, v `[T, d]`, rate `[T]`, start `[slots, d]`; answers `[T, d]`.
    """
    return _on_the_sphere(q, k, v, rate, start, lambda unit, key, value: (key, value - key @ unit))


def lattice_encoding(q: Array, k: Array, v: Array, rate: Array, start: Array) -> Array:
    """Lattice (2504.05646), objective `½‖k - Nᵀ v‖²`: `c = k - Nᵀ v`, `h = v`."""
    return _on_the_sphere(q, k, v, rate, start, lambda unit, key, value: (key - unit @ value, value))


def lattice_similarity(q: Array, k: Array, v: Array, rate: Array, start: Array) -> Array:
    """Lattice (2504.05646), objective `-⟨N, v kᵀ⟩`: `c = k`, `h = v`."""
    return _on_the_sphere(q, k, v, rate, start, lambda unit, key, value: (key, value))


# --- matrices that see their own answers ---


def srwm(x: Array, start: Array, outputs: int) -> Array:
    """Self-referential weight matrix (2202.05780, (5) to (8)).

    `[y, q, k, b] = W x`; q and k through softmax; `W_blk += sigmoid(b_blk) (W q - W k)_blk kᵀ` for the four blocks of
    rows y, q, k, b.  x `[T, d]`, start `[outputs + 2 d + 4, d]`; answers y `[T, outputs]`, before the write.
    """
    weights = start.copy()
    width = x.shape[1]
    ends = [outputs, outputs + width, outputs + 2 * width, outputs + 2 * width + 4]
    answers = []
    for token in x:
        raw = weights @ token
        answers.append(raw[:outputs])
        query, key = softmax(raw[ends[0] : ends[1]]), softmax(raw[ends[1] : ends[2]])
        rates = sigmoid(raw[ends[2] : ends[3]])
        change = np.outer(weights @ query - weights @ key, key)
        for block, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            weights[first:last] += rates[block] * change[first:last]
    return np.array(answers)


def delta_rnn(q: Array, k: Array, v: Array, beta: Array, r_k: Array, r_v: Array, r_beta: Array) -> Array:
    """Delta-RNN (2106.06295): two matrices under the delta rule, and `h_t = W_t q_t + R_t softmax(h_{t-1})`.

    q, k `[T, n]` with their feature map behind them, v `[T, m]`, beta `[T]`; R has keys and values of its own,
    `[T, m]`.
    """
    size = v.shape[1]
    fast, recurrent, h = np.zeros((size, q.shape[1])), np.zeros((size, size)), np.zeros(size)
    answers = []
    for t in range(len(q)):
        fast += beta[t] * np.outer(v[t] - fast @ k[t], k[t])
        recurrent += r_beta[t] * np.outer(r_v[t] - recurrent @ r_k[t], r_k[t])
        h = fast @ q[t] + recurrent @ softmax(h)
        answers.append(h)
    return np.array(answers)


def rdn(
    q: Array, k: Array, v: Array, beta: Array, R_q: Array, R_k: Array, R_v: Array, R_beta: Array
) -> Array:
    """Recurrent delta network (2106.06295): the slow network sees `tanh(h_{t-1})`.

    `q, k = softmax(W x + R tanh h)`, `v = W x + R tanh h`, `beta = sigmoid(W x + R tanh h)`, then the delta rule and
    `h = W_fast q`.  q, k `[T, n]`, v `[T, m]`, beta `[T]` are the shares W x; R_q, R_k `[n, m]`, R_v `[m, m]`,
    R_beta `[m]`.
    """
    size = v.shape[1]
    fast, h = np.zeros((size, q.shape[1])), np.zeros(size)
    answers = []
    for t in range(len(q)):
        seen = np.tanh(h)
        query, key = softmax(q[t] + R_q @ seen), softmax(k[t] + R_k @ seen)
        rate = sigmoid(beta[t] + R_beta @ seen)
        fast += rate * np.outer(v[t] + R_v @ seen - fast @ key, key)
        h = fast @ query
        answers.append(h)
    return np.array(answers)


def warp(x: Array, A: Array, B: Array, start: Array) -> Array:
    """WARP (2506.01153): `theta_t = A theta_{t-1} + B (x_t - x_{t-1})`, the weights of a small network.

    x `[T, d]`, A `[p, p]`, B `[p, d]`, start `[p]`, which the first token has made; answers theta `[T, p]`.
    """
    theta = start
    answers = [theta]
    for t in range(1, len(x)):
        theta = A @ theta + B @ (x[t] - x[t - 1])
        answers.append(theta)
    return np.array(answers)


def root_network(theta: Array, tau: float, token: Array, hidden: int, outputs: int) -> Array:
    """The network of one hidden layer that `theta` holds: weights of tau, of the token, biases, out, biases."""
    sizes = [hidden, hidden * len(token), hidden, hidden * outputs, outputs]
    time, seen, bias, out, level = np.split(theta, np.cumsum(sizes)[:-1])
    raised = np.maximum(time * tau + seen.reshape(hidden, -1) @ token + bias, 0)
    return np.asarray(raised @ out.reshape(hidden, outputs) + level)


# --- continuous time ---

Change = Callable[[Array, Array, Array], Array]  # of a memory, a key and a value


def continuous(
    x: Array, K: Array, V: Array, B: Array, Q: Array, change: Change, steps: int, before: Array
) -> Array:
    """Continuous-time fast weights (2206.01649): `dW/dt = beta(t) change(W, k(t), v(t))`, read by `W softmax(Q x)`.

    `k = softmax(K x)`, `v = tanh(V x)`, `beta = sigmoid(B x)`; x(t) is a line from token to token, which begins at
    `before`.  The classical fourth-order method makes `steps` steps a token.
    """
    memory, last, length = np.zeros((len(V), len(K))), before, 1 / steps
    answers = []
    for token in x:

        def slope(time: float, at: Array, last: Array = last, token: Array = token) -> Array:
            point = (1 - time) * last + time * token
            rate = sigmoid(B @ point)
            return np.asarray(rate * change(at, softmax(K @ point), np.tanh(V @ point)))

        for step in range(steps):
            now = step * length
            first = slope(now, memory)
            second = slope(now + length / 2, memory + length / 2 * first)
            third = slope(now + length / 2, memory + length / 2 * second)
            fourth = slope(now + length, memory + length * third)
            memory = memory + length / 6 * (first + 2 * second + 2 * third + fourth)
        last = token
        answers.append(memory @ softmax(Q @ token))
    return np.array(answers)


def hebb(memory: Array, key: Array, value: Array) -> Array:
    """`v kᵀ`."""
    return np.outer(value, key)


def oja(memory: Array, key: Array, value: Array) -> Array:
    """`v (k - Wᵀ v)ᵀ`."""
    return np.outer(value, key - memory.T @ value)


def soft_oja(memory: Array, key: Array, value: Array) -> Array:
    """`v softmax(k - Wᵀ v)ᵀ`, as the public code has it."""
    return np.outer(value, softmax(key - memory.T @ value))


def delta(memory: Array, key: Array, value: Array) -> Array:
    """`(v - W k) kᵀ`."""
    return np.outer(value - memory @ key, key)


# --- others ---


def taylorshift(q: Array, k: Array, v: Array, tau: float) -> Array:
    """TaylorShift (2403.02920), causal, every pair of tokens by itself.

    Weights `1 + s + s²/2` with `s = tau q·k`, divided by their sum over the past; q and k come as they are.
    """
    answers = []
    for t in range(len(q)):
        scores = [tau * float(q[t] @ k[j]) for j in range(t + 1)]
        weights = np.array([1 + s + s * s / 2 for s in scores])
        answers.append(weights @ v[: t + 1] / weights.sum())
    return np.array(answers)


def fade(x: Array, y: Array, gamma: float, theta: float, eta: float, low: float, high: float) -> Array:
    """FADE (2604.27063), linear form: every weight decays at a rate of its own, which is learned on the way.

    With `delta = y - w·x`: `gam_i += theta delta x_i g_i` within bounds, `lam_i = exp(gam_i)`,
    `g_i = g_i max(0, 1 - lam_i - eta x_i²) - lam_i w_i`, `w_i = (1 - lam_i) w_i + eta delta x_i`, in this order;
    g takes the old w.  x `[T, n]`, y `[T]`; answers the prediction w·x before the write, `[T]`.
    """
    width = x.shape[1]
    weights, traces, rates = np.zeros(width), np.zeros(width), np.full(width, gamma)
    answers = []
    for t in range(len(x)):
        prediction = weights @ x[t]
        answers.append(prediction)
        delta = y[t] - prediction
        for i in range(width):
            rates[i] = np.clip(rates[i] + theta * delta * x[t, i] * traces[i], low, high)
            decay = np.exp(rates[i])
            traces[i] = traces[i] * max(0.0, 1 - decay - eta * x[t, i] ** 2) - decay * weights[i]
            weights[i] = (1 - decay) * weights[i] + eta * delta * x[t, i]
    return np.array(answers)


def gateloop(q: Array, k: Array, v: Array, magnitude: Array, angle: Array) -> Array:
    """GateLoop (2311.01927): `S = Diag(a) S + k vᵀ` over the complex numbers, `o = Re(S)ᵀ q`.

    q, k `[T, n]`, v `[T, m]`; `a = sigmoid(magnitude) exp(i angle)`, both `[T, n]`.
    """
    memory: Complex = np.zeros((k.shape[1], v.shape[1]), complex)
    answers = []
    for t in range(len(q)):
        gate = sigmoid(magnitude[t]) * np.exp(1j * angle[t])
        memory = gate[:, None] * memory + np.outer(k[t], v[t])
        answers.append(memory.real.T @ q[t])
    return np.array(answers)


def s4d(x: Array, log_re: Array, im: Array, log_step: Array, C: Complex, D: Array) -> Array:
    """S4D (2206.11893), zero-order hold: one small diagonal system a channel, half of its conjugate pairs kept.

    `A = -exp(log_re) + i im`, `h = exp(step A) h + x`, `y = 2 Re Σ_n C (exp(step A) - 1)/A h + D x`.
    x `[T, d]`; log_re, im, C `[d, n]`; log_step, D `[d]`.
    """
    poles = -np.exp(log_re) + 1j * im
    turned = np.exp(np.exp(log_step)[:, None] * poles)
    read = C * (turned - 1) / poles
    state: Complex = np.zeros(poles.shape, complex)
    answers = []
    for token in x:
        state = turned * state + token[:, None]
        answers.append(2 * (read * state).sum(axis=1).real + D * token)
    return np.array(answers)


def s5(x: Array, poles: Complex, log_step: Array, B: Complex, C: Complex, D: Array) -> Array:
    """S5 (2208.04933), zero-order hold: one diagonal system for all channels, half of its conjugate pairs kept.

    `h = exp(step A) h + (exp(step A) - 1)/A B x`, `y = 2 Re(C h) + D x`.  x `[T, d]`; poles A, log_step `[n]`;
    B `[n, d]`, C `[d, n]`, D `[d]`.
    """
    turned = np.exp(np.exp(log_step) * poles)
    write = ((turned - 1) / poles)[:, None] * B
    state: Complex = np.zeros(poles.shape, complex)
    answers = []
    for token in x:
        state = turned * state + write @ token
        answers.append(2 * (C @ state).real + D * token)
    return np.array(answers)


def hgrn_complex(f: Array, re: Array, im: Array, theta: Array) -> Array:
    """HGRN (2311.04823): `h = f exp(i theta) h + (1 - f) c`, `c = re + i im`; answers both parts, `[T, 2, d]`.

    f, re, im `[T, d]`, theta `[d]`.
    """
    state: Complex = np.zeros(theta.shape, complex)
    answers = []
    for t in range(len(f)):
        state = f[t] * np.exp(1j * theta) * state + (1 - f[t]) * (re[t] + 1j * im[t])
        answers.append(np.stack([state.real, state.imag]))
    return np.array(answers)
