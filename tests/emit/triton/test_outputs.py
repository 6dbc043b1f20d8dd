"""Outputs inside the kernels of blocks, in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

import pytest
import torch

from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import KEYS, MAKERS, kernels_of, of_spec, written
from tests.emit.triton.test_gates import AROUND, operations, read

pytest.importorskip("triton")

GATED = parts.RETENTION.replace("alpha)", "alpha, z[m])").replace("S'(q)", "silu(z) * S'(q)")
SCALED = parts.RETENTION.replace("alpha)", "alpha, z[m], g)").replace(
    "S'(q)", "g * S'(q) * sum[m](z * z) / 4 / (1 + abs(g))"
)
SKIPPED = """
rule skipped(q[n], k[n], v[h, m], alpha[h], z[h, m]) {
    param  D[m] = uniform(-1, 1)
    state  S[h, m, n] = 0
    S'     = alpha * S + v * k
    return (sum[n](S' * q) * D + D * v) / (1 + abs(z))
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
BOUNDED = """
rule bounded(a[d], x[d], o[d]) {
    param  D[d] = uniform(-1, 1)
    state  h[d] = 0
    h'     = sigmoid(a) * h + x
    return tanh(h' + D * x) * h' * sigmoid(o)
}
"""
TURNED = """
rule turned_parts(size[d], angle[d], re[d], o[d]) {
    param  D[d] = uniform(-1, 1)
    state  h[d] complex = complex(0.1, 0.2)
    h'     = polar(sigmoid(size), angle) * h + re
    return sigmoid(o) * real(h') + D * re, imag(h')
}
"""
CHAINED = """
rule chained(a[d], x[d], o[d]) {
    state  h[d] = 0
    state  w[d] = 0
    h'     = sigmoid(a) * h + x
    w'     = sigmoid(a) * w + h'
    return sigmoid(o) * h' * w'
}
"""
INSIDE = {
    "gated output": written(GATED, n=5, m=18),
    "skipped": written(SKIPPED, h=2, n=3, m=18),
    "normed": written(NORMED, n=5, m=3),
    "bounded": written(BOUNDED, d=40),
    "chained": written(CHAINED, d=40),
    "bonus": of_spec("linear/rwkv6", "rwkv6", **KEYS),
    "max-stabilised mean": of_spec("xlstm/mlstm", "mlstm", **KEYS),
}
BESIDE = {  # PyTorch computes some inputs
    "scaled": written(SCALED, n=5, m=3),
    "turned parts": written(TURNED, d=40),
    "weighted mean": of_spec("attention/aaren", "aaren", m=5),
}
MAKERS.update({**INSIDE, **BESIDE})


def compared(name: str, resets: bool, dtype: torch.dtype, begun: bool) -> list[float]:
    """As `parts.compared`, of 35 tokens."""
    return parts.compared(name, 35, resets, dtype=dtype, begun=begun)


def besides(name: str) -> set[str]:
    """What PyTorch does besides calling kernels and casts."""
    return operations(name) - AROUND


def results(name: str) -> list[str]:
    """What the kernels of the stages of a rule give, in order."""
    return [port.name for stage in kernels_of(MAKERS[name]()).stages for port in stage.kernels.face.outputs]


@pytest.mark.parametrize("name", [*INSIDE, *BESIDE])
def test_outputs_are_computed_where_states_are_read(name: str, interpreted: Interpreted) -> None:
    """Parameters are shared by tokens, rows and tiles; sequences begin anew; no length is a multiple of a block."""
    assert max(interpreted(compared, name, True, torch.float32, True)) < 2e-6


@pytest.mark.parametrize("name", ["gated output", "skipped", "normed", "bounded", "bonus"])
def test_outputs_of_16_bits(name: str, interpreted: Interpreted) -> None:
    assert max(interpreted(compared, name, False, torch.bfloat16, False)) < torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("name", INSIDE)
def test_pytorch_does_nothing_after_kernels(name: str, interpreted: Interpreted) -> None:
    assert not interpreted(besides, name)


def test_stages_give_the_outputs_and_nothing_else() -> None:
    """What outputs read of other stages these give, whichever came first."""
    assert results("bonus") == ["S.out0"]
    assert results("turned parts") == ["h.out0", "h.out1"]
    assert results("max-stabilised mean") == ["m.after", "m.before", "z.read0", "C.out0"]
    assert results("weighted mean") == ["m.after", "m.before", "u.after", "w.out0"]
    assert results("chained") == ["h.after", "w.out0"]


def test_kernels_read_what_outputs_are_computed_from() -> None:
    """A sum of what the stage reads is made of that; all factors are one input, of which PyTorch computes a scalar."""
    assert read("gated output") == {"reset", "alpha", "q", "k", "v", "z"}
    assert read("skipped") == {"reset", "alpha", "q", "k", "v", "z", "D"}
    assert len(read("scaled")) == 6
    assert read("bonus") == {"reset", "w", "r", "k", "v", "u"}


@pytest.mark.parametrize(
    "output",
    [
        "tanh(S'(q))",  # not linear in what is read of a matrix
        "S'(q) * S'(q)",
        "z / S'(q)",
        "softmax[m](S'(q))",  # entries meet
        "z * sum[m](S'(q))",
        "S'(q) + softmax[m](z)",
        "S'(q) * sigmoid(cos(exp(sin(z))))",  # many operations
        "S'(q), z * S'(q)",  # two results in place of one
        "S'(q) * b",  # more axes
    ],
)
def test_other_outputs_stay_outside(output: str) -> None:
    text = parts.RETENTION.replace("alpha)", "alpha, z[m], b[c])").replace("S'(q)", output)
    MAKERS["other output"] = written(text, n=5, m=3, c=2)
    assert results("other output") == ["S.read0"]


def test_outputs_stay_outside_where_stages_would_wait_for_one_another() -> None:
    text = CHAINED.replace("w[d]", "w").replace("* w + h'", "* w + sum[d](h')")
    MAKERS["waiting"] = written(text.replace("w'     = sigmoid(a)", "w'     = 0.9"), d=40)
    assert results("waiting") == ["h.read0", "h.after", "w.after"]
