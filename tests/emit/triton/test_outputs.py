"""Outputs inside the kernels of blocks, in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import KEYS, MAKERS, kernels_of, of_spec, written
from tests.emit.triton.test_gates import AROUND, compared, operations, read

pytest.importorskip("triton")

GATED = parts.GLA.replace("alpha[n]", "alpha[n], z[m]").replace("S'(q)", "silu(z) * S'(q)")
SKIPPED = """
rule skipped(q[n], k[n], v[h, m], alpha[h], z[h, m]) {
    param  D[m] = uniform(-1, 1)
    state  S[h, m, n] = 0
    S'     = alpha * S + v * k
    return (sum[n](S' * q) + D * v) / (1 + abs(z)), v - 0.3 * sum[n](S' * q) * z
}
"""
NORMED = """
rule normed(q[n], k[n], v[m], alpha) {
    state  S[m, n] = 0
    state  z[n] = 1
    S'     = alpha * S + v * k
    z'     = alpha * z + exp(k)
    return sum[n](S' * q) / max(abs(sum[n](z' * q)), 0.5)
}
"""
SQUASHED = """
rule squashed_out(a[d], x[d], o[d]) {
    param  D[d] = uniform(-1, 1)
    state  h[d] = 0
    h'     = sigmoid(a) * h + x
    return tanh(h' + D * x) * h' * sigmoid(o)
}
"""
TURNED = """
rule turned_out(size[d], angle[d], re[d], o[d]) {
    param  D[d] = uniform(-1, 1)
    state  h[d] complex = complex(0.1, 0.2)
    h'     = polar(sigmoid(size), angle) * h + re
    return sigmoid(o) * real(h') + D * re, imag(h')
}
"""
INSIDE = {
    "gated": written(GATED, n=5, m=18),
    "skipped": written(SKIPPED, h=2, n=3, m=18),
    "normed": written(NORMED, n=5, m=3),
    "squashed out": written(SQUASHED, d=40),
    "turned out": written(TURNED, d=40),
    "bonus": of_spec("linear/rwkv6", "rwkv6", **KEYS),
    "weighted mean": of_spec("attention/aaren", "aaren", m=5),
    "max-stabilised mean": of_spec("xlstm/mlstm", "mlstm", **KEYS),
}
MAKERS |= INSIDE
