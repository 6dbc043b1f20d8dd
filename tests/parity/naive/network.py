"""A small network that is a memory, with its gradient worked out by hand.

A memory is a list of matrices from inputs to outputs, `[output, input]`; of a network with biases, the last column is
the bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Memory = Sequence[Array]
Pointwise = Callable[[Array], Array]


def silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


def silu_slope(x: Array) -> Array:
    """`σ + x σ (1 - σ)`."""
    gate = 1 / (1 + np.exp(-x))
    return np.asarray(gate + x * gate * (1 - gate))


def normal_share(x: Array) -> Array:
    """Φ, the share of a standard normal distribution below x."""
    return np.array([0.5 + 0.5 * math.erf(each / math.sqrt(2)) for each in x])


def gelu(x: Array) -> Array:
    """`x Φ(x)`."""
    return np.asarray(x * normal_share(x))


def gelu_slope(x: Array) -> Array:
    """`Φ + x φ` with the density φ."""
    return np.asarray(normal_share(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


SCALE, CUBE = math.sqrt(2 / math.pi), 0.044715


def gelu_tanh(x: Array) -> Array:
    """`½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`."""
    return np.asarray(0.5 * x * (1 + np.tanh(SCALE * (x + CUBE * x**3))))


def gelu_tanh_slope(x: Array) -> Array:
    bent = np.tanh(SCALE * (x + CUBE * x**3))
    return np.asarray(0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * SCALE * (1 + 3 * CUBE * x * x))


@dataclass(frozen=True)
class Network:
    """`W_L act(… W_1 u)`, and with a scale `u + scale · LN(W_L act(… W_1 u))`."""

    activation: Pointwise = gelu
    slope: Pointwise = gelu_slope
    scale: Array | None = None
    biased: bool = False
    eps: float = 1e-6

    def read(self, memory: Memory, query: Array) -> Array:
        z, _ = self._forward(memory, query)
        if self.scale is None:
            return z
        unit, _ = self._normalised(z)
        return query + self.scale * unit

    def gradient(self, memory: Memory, key: Array, slope: Pointwise) -> list[Array]:
        """Of a loss of the answer to `key` by every matrix; `slope` is the loss's gradient by the answer."""
        z, seen = self._forward(memory, key)
        pull = self._through_norm(z, slope(self.read(memory, key)))
        found: list[Array] = []
        for layer in reversed(range(len(memory))):
            found.insert(0, np.outer(pull, self._shown(seen[layer], layer)))
            if layer:
                back = memory[layer][:, : len(seen[layer])].T @ pull
                pull = back * self.slope(seen[layer])
        return found

    def _forward(self, memory: Memory, u: Array) -> tuple[Array, list[Array]]:
        """The last sum, and what every layer gets, before the activation."""
        seen: list[Array] = []
        for layer, matrix in enumerate(memory):
            seen.append(u)
            u = matrix @ self._shown(u, layer)
        return u, seen

    def _shown(self, u: Array, layer: int) -> Array:
        bent = self.activation(u) if layer else u
        return np.append(bent, 1.0) if self.biased else bent

    def _normalised(self, z: Array) -> tuple[Array, float]:
        deviation = math.sqrt(float(np.mean((z - z.mean()) ** 2)) + self.eps)
        return np.asarray((z - z.mean()) / deviation), deviation

    def _through_norm(self, z: Array, pull: Array) -> Array:
        """`(D e - Σ e - x̂ Σ e x̂) / (D std)` with `e = scale · pull` (2407.04620)."""
        if self.scale is None:
            return pull
        unit, deviation = self._normalised(z)
        e, width = self.scale * pull, len(z)
        return np.asarray((width * e - e.sum() - unit * (e @ unit)) / (width * deviation))


def error_from(value: Array) -> Pointwise:
    """The slope of `½‖y - value‖²` by y."""
    return lambda y: y - value
