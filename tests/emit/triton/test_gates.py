"""Gates inside the kernels of blocks, in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.emit.torch.rules import inputs_of
from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import BACKEND, MAKERS, kernels_of, scheduled, written

pytest.importorskip("triton")

DECAYED = """
rule decayed(x[h, p], B[n], C[n], dt[h]) {
    param  A_log[h] = log(uniform(1, 4))
    param  bias = uniform(-1, 1)
    state  H[h, p, n] = 0
    let    rate = softplus(dt + bias)
    H'     = exp(-rate * exp(A_log)) * H + rate * x * B
    return sum[n](C * H')
}
"""
SQUASHED = """
rule squashed(q[n], k[n], v[m], a, b) {
    param     slope = uniform(0.1, 1)
    memory    S: n -> m
    objective 0.5 * sumsq(S(k) - v)
    retention exp(-slope * softplus(a)) * S
    learner   gd(rate = sigmoid(b), at = retained)
    return    S'(q)
}
"""
LEAKY = """
rule leaky(a[d], x[d]) {
    state  h[d] = 0
    let    f = tanh(a)
    h'     = f * h + (1 - f) * x
    return h'
}
"""
TURNED = """
rule turned_gate(a[d], angle[d], re[d]) {
    state  h[d] complex = complex(0.1, 0.2)
    let    f = sigmoid(a)
    h'     = f * h + (1 - f) * polar(re, angle)
    return f * real(h') + abs(h)
}
"""
MAKERS["leaky"] = written(LEAKY, d=40)
MAKERS["leaky, complex"] = written(TURNED, d=40)
MAKERS["decayed"] = written(DECAYED, h=2, p=18, n=3)
MAKERS["key-wise"] = written(parts.GLA.replace("alpha * S", "exp(log_sigmoid(alpha) / 16) * S"), n=5, m=3)
MAKERS["squashed"] = written(SQUASHED, n=5, m=3)
GATED = ("decayed", "key-wise", "squashed", "leaky")
AROUND = {"_to_copy", "clone", "detach", "expand", "view", "alias", "slice", "new_empty", "empty"}


def compared(name: str, resets: bool, dtype: torch.dtype, begun: bool) -> list[float]:
    """As `parts.compared`, of 35 tokens."""
    return parts.compared(name, 35, resets, dtype=dtype, begun=begun)


def read(name: str) -> set[str]:
    """What the kernels of the only stage of a rule read."""
    (stage,) = kernels_of(MAKERS[name]()).stages
    return {port.name.rpartition(".")[2].lstrip("%") for port in stage.kernels.face.inputs}


@pytest.mark.parametrize("name", [*GATED, "leaky, complex"])
def test_gates_are_computed_where_they_are_read(name: str, interpreted: Interpreted) -> None:
    """Parameters are shared by tokens, rows and tiles; sequences begin anew."""
    assert max(interpreted(compared, name, True, torch.float32, True)) < 2e-6


@pytest.mark.parametrize("name", GATED)
def test_gates_of_16_bits(name: str, interpreted: Interpreted) -> None:
    assert max(interpreted(compared, name, False, torch.bfloat16, False)) < torch.finfo(torch.bfloat16).eps


def test_kernels_read_what_gates_are_computed_from() -> None:
    """Of parameters what they alone give."""
    assert read("decayed") == {"reset", "dt", "bias", "A_log_in", "x", "B", "C"}
    assert read("key-wise") == {"reset", "alpha", "q", "k", "v"}
    assert read("squashed") == {"reset", "slope", "a", "b", "q", "k", "v"}
    assert read("leaky") == {"reset", "a", "x"}


def test_complex_inputs_are_read_beside_gates() -> None:
    """As two parts, by PyTorch made of `a`, `re` and `angle`."""
    (stage,) = kernels_of(MAKERS["leaky, complex"]()).stages
    face = stage.kernels.face
    assert {"reset", "a"} < read("leaky, complex")
    assert len(face.inputs) == 4
    assert face.pairs == [True, True]
    assert len(face.outputs) == 4


CHAOTIC = """
rule chaotic(a[d], x[d]) {
    state  h[d] = 0
    let    y = a
    repeat 60 {
        y = y * (1 - y)
    }
    h'     = y * h + x
    return h'
}
"""


def test_a_gate_is_looked_at_once_however_many_ways_lead_through_it() -> None:
    (stage,) = kernels_of(written(CHAOTIC, d=3)()).stages
    assert len(stage.kernels.face.inputs) == 2


def test_a_kernel_for_several_inputs_sums_what_flows_to_one_source() -> None:
    """Both inputs of the state are computed from `a`."""
    (stage,) = kernels_of(MAKERS["leaky"]()).stages
    ((_, written),) = stage.kernels.face.writes
    names = [stage.kernels.face.inputs[place].name.rpartition(".")[2] for place in written]
    assert sorted(names) == ["a", "x"]


@pytest.mark.parametrize(
    "gate",
    [
        "softmax[n](alpha)",  # a sum
        "sigmoid(cos(exp(sin(alpha))))",  # many operations
        "sigmoid(alpha + beta * gamma + delta)",  # many numbers for one
    ],
)
def test_other_gates_are_read(gate: str) -> None:
    text = parts.GLA.replace("alpha * S", f"{gate} * S").replace(
        "alpha[n]", "alpha[n], beta[n], gamma[n], delta[n]"
    )
    MAKERS["other"] = written(text, n=5, m=3)
    found = read("other")
    assert "alpha" not in found
    assert len(found) == 4


class Operations(TorchDispatchMode):
    """The names of operations on tensors [batch, time, …]."""

    def __init__(self, *lead: int) -> None:
        super().__init__()
        self.lead, self.names = lead, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [x for x in (*args, made) if isinstance(x, Tensor)]
        if any(x.shape[:2] == self.lead for x in tensors):
            self.names.add(func.overloadpacket.__name__)
        return made


def operations(name: str) -> set[str]:
    """What PyTorch does in a forward pass besides calling kernels."""
    rec = MAKERS[name]()
    module = BACKEND.module(scheduled(rec))
    inputs = {key: x.detach().to(torch.bfloat16) for key, x in inputs_of(rec, 3, 37).items()}
    with torch.no_grad(), Operations(3, 37) as found:
        module(**inputs)
    return {each for each in found.names if not each.startswith("triton_")}


@pytest.mark.parametrize("name", ["gate a head", *GATED])
def test_pytorch_does_nothing_around_kernels_but_cast(name: str, interpreted: Interpreted) -> None:
    assert interpreted(operations, name) <= AROUND
