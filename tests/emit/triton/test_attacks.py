"""Rules that are written to break kernels, in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

import time

import pytest
import torch

from tests.emit.torch.rules import inputs_of
from tests.emit.triton import parts, reading
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import MAKERS, kernels_of, written

pytest.importorskip("triton")

NAMED = """
rule named(a[d], b[d]) {
    param  flags[d] = uniform(0.1, 1)
    param  stages[d] = uniform(0.1, 1)
    state  h[d] = 0
    h'     = tanh(a * flags) * h + softmax[d](b * stages)
    return h' * silu(b)
}
"""
CHOSEN = """
rule chosen(a[d], x[d]) {
    param  w[d] = uniform(-1, 1)
    state  h[d] = 0
    h'     = where(w > 0, sigmoid(a), 0.5) * h + x
    return h'
}
"""
SCALED = """
rule scaled(a[d], y[d]) {
    param  w = 0.7
    param  u = 1.1
    state  h[d] = 0
    h'     = tanh(a) * h + 1
    return h', y * w * u
}
"""
SQUARED = """
rule squared(q[n], k[n], v[m], a) {
    state  S[m, n] = 0
    S'     = sigmoid(a) * S + v * k * k
    return sum[n](S' * q * q)
}
"""
SYSTEM = """
rule system(q[h, n], k[n], v[m], alpha, beta) {
    state  S[h, n, m] = 0
    let    R = alpha * S
    S'     = R - beta * k * (sum[n](R * k) - v)
    return sum[n](S' * q)
}
"""
SYSTEMS = """
rule systems(q[h, g, n], k[h, n], v[h, m], alpha[h], beta[h]) {
    state  S[h, g, n, m] = 0
    let    R = alpha * S
    S'     = R - beta * k * (sum[n](R * k) - v)
    return sum[n](S' * q)
}
"""
LOGARITHMIC = """
rule logarithmic(a[d], x[d]) {
    state  h[d] = 0
    h'     = sigmoid(a) * h + x
    return h'
}
"""
REPEATED = """
rule repeated(a[d], x[d]) {
    state  h[d] = 0
    h'     = sigmoid(a) * h + x
    let    y = h'
    repeat 40 {
        y = 0.5 * y + 0.3 * tanh(y)
    }
    return y
}
"""
PLACED = """
rule placed(x[d]; slot = 3) {
    state  t = 0
    state  X[slot, d] = 0
    t'     = t + 1
    X'     = where(index[slot] == t % slot, x, X)
    return X'
}
"""
ALTERNATING = """
rule alternating(x[d]) {
    state  t = 0
    state  h[d] = 0
    t'     = t + 1
    let    even = t % 2 == 0
    h'     = where(x > 0.2 and even, x, where(even or abs(x) > 0.9, tanh(h), 0.5 * h + x))
    return h'
}
"""
COSINE = """
rule cosine(q[n], k[n], v[m]) {
    store  K[s, n] = k
    store  V[s, m] = v
    let    w = softmax[s](sum[n](q * K') / sqrt(sum[n](K' * K')))
    return sum[s](w * V' / sqrt(sum[m](V' * V')))
}
"""
MAKERS.update(
    {
        "a system for all heads": written(SYSTEM, h=3, n=5, m=18),
        "a system for some heads": written(SYSTEMS, h=2, g=3, n=3, m=40),
        "names of the course": written(NAMED, d=5),
        "a comparison of parameters": written(CHOSEN, d=5),
        "scalar parameters": written(SCALED, d=5),
        "squares": written(SQUARED, n=5, m=3),
        "places as gates": written(PLACED, d=18),
        "a condition for all": written(ALTERNATING, d=5),
        "logarithms of gates": written(LOGARITHMIC, d=40),
    }
)
reading.RULES |= {"cosine": written(COSINE, n=3, m=5)}


def compared(name: str) -> list[float]:
    return parts.compared(name, 35, True, begun=True)


def in_one_pass(name: str) -> tuple[list[float], set[str]]:
    return parts.in_one_pass(name, 35)


def read(name: str) -> list[float]:
    return reading.compared(name, 45, False)


@pytest.mark.parametrize(
    "name",
    [
        "names of the course",
        "a comparison of parameters",
        "places as gates",
        "a condition for all",  # beside one for each
        "a system for all heads",  # whose cotangents are sums over heads, of which each has a part
        "a system for some heads",
    ],
)
def test_kernels_compute_what_tokens_compute(name: str, interpreted: Interpreted) -> None:
    assert max(interpreted(compared, name)) < 2e-6


def test_gates_of_which_logarithms_are_known_go_in_one_pass(interpreted: Interpreted) -> None:
    (stage,) = kernels_of(MAKERS["logarithms of gates"]()).stages
    assert list(stage.kernels.face.fused) == ["fused", "fused_back"]
    errors, _ = interpreted(in_one_pass, "logarithms of gates")
    assert max(errors) < 2e-6


def test_scalars_do_not_widen_and_so_inputs_are_widened_before() -> None:
    assert parts.kept(MAKERS["scalar parameters"]()) == {"a"}


def test_only_what_is_an_input_is_a_factor_of_16_bits() -> None:
    (stage,) = kernels_of(MAKERS["squares"]()).stages
    named = [stage.kernels.face.inputs[place].name.rpartition(".")[2] for place in stage.kernels.face.factors]
    assert {*named} <= {"v"}


def test_outputs_are_looked_at_once_however_many_ways_lead_through_them() -> None:
    began = time.perf_counter()
    kernels_of(written(REPEATED, d=3)())
    assert time.perf_counter() - began < 30


def test_what_is_singular_at_zero_is_not_computed_beyond_the_last_token(interpreted: Interpreted) -> None:
    assert max(interpreted(read, "cosine")) < 2e-6


def test_blocks_take_inputs_as_the_loop_does(interpreted: Interpreted) -> None:
    """Of one sequence for all, and only of the lengths that there are."""
    assert interpreted(spread) < 2e-6


def spread() -> float:
    made = parts.BACKEND.module(parts.scheduled(MAKERS["key decay"]()))
    inputs = {key: x.detach().float() for key, x in inputs_of(MAKERS["key decay"](), 2, 35).items()}
    inputs["alpha"] = inputs["alpha"][:1]
    whole = {**inputs, "alpha": inputs["alpha"].expand(2, -1, -1).contiguous()}
    reset = torch.zeros(1, 35, dtype=torch.bool)
    reset[0, 20] = True
    ours, wanted = made(**inputs, reset=reset)[0], made(**whole, reset=reset.expand(2, -1))[0]
    with pytest.raises(RuntimeError):
        made(**{**inputs, "v": inputs["v"][:, :30]})
    return float((ours - wanted).detach().abs().max())
