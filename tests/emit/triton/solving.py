"""What the tests need of Newton's iteration: rules, and comparisons that run where Triton interprets kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seqc.ir.recurrence import Recurrence
from tests.emit.torch.rules import error, inputs_of
from tests.emit.triton import parts
from tests.emit.triton.parts import BACKEND, MAKERS, of_spec, scheduled, units, written

if TYPE_CHECKING:
    from backends.torch import rule as in_torch  # noqa: TID251  # what `seqc.backends` is in a checkout
else:
    from seqc.backends.torch import rule as in_torch

GATED = """
rule gated(x[d], g[d]) {
    param  a[d] = normal(0, 0.5)
    state  h[d] = 0
    let    keep = sigmoid(a * h + g)
    h'     = keep * h + (1 - keep) * tanh(x)
    return h'
}
"""
FED = """
rule fed(x[d], a[d]) {
    state  s[d] = 0
    state  h[d] = 0
    s'     = 0.5 * tanh(a) * s + x
    h'     = tanh(h + s')
    return h'
}
"""
READ = """
rule read(x[d], k[n], q[n], w) {
    param  A[d, n] = uniform(0.1, 1)
    state  H[d, n] = A
    H'     = tanh(exp(-A * w * w) * H + k * x)
    return sum[n](q * H')
}
"""
STEEP = """
rule steep(x[d]) {
    state  h[d] = 0
    h'     = tanh(100 * h + x)
    return h'
}
"""
BESIDE = """
rule beside(x[d]) {
    param  a[d] = normal(0, 0.5)
    state  h[d] = 0
    h'     = tanh(a * h + x)
    return h'
}
"""
NAMES = {
    "gated": written(GATED, d=19),
    "fed by a scan": written(FED, d=5),
    "read": written(READ, d=5, n=3),
    "two states": of_spec("nonlinear/para_lstm", "para_lstm", h=2, d=5),
    "three gates": of_spec("nonlinear/para_gru", "para_gru", h=2, d=5),
    "steep": written(STEEP, d=3),
}
MAKERS.update(NAMES)
MAKERS.update({"beside": written(BESIDE, d=100), "gated, wide": written(GATED, d=64)})


def compared(name: str, time: int) -> list[float]:
    return parts.compared(name, time, True, mode="newton", begun=True)


def solved(name: str) -> Any:
    """What runs a rule whose states are solved for."""
    (found,) = units(scheduled(MAKERS[name](), "newton"), "a test").values()
    return found


def dense() -> list[Any]:
    """The kernels of a rule with recurrent weights, if this schedule is asked for."""
    rec: Recurrence = of_spec("nonlinear/elman", "elman", d=5)()
    return list(units(scheduled(rec, "newton"), "a test").values())


def corrections(name: str, time: int) -> list[int]:
    """How often each program corrects its guesses: on the way there, and on the way back."""
    found: list[int] = []
    rec = MAKERS[name]()
    made: Any = BACKEND.module(scheduled(rec, "newton"))
    module = solved(name).stages[0].kernels.module
    corrected = module.corrected

    def counted(*args: Any) -> Any:
        found[-1] += 1
        return corrected(*args)

    module.corrected = counted
    try:
        inputs = {key: x.detach().float().requires_grad_() for key, x in inputs_of(rec, 1, time).items()}
        found.append(0)
        out, _ = made(**inputs)
        found.append(0)
        out.sum().backward()
    finally:
        module.corrected = corrected
    return found


def late_alone(name: str, time: int, at: int) -> list[float]:
    """The errors of an output at a token and its gradients by inputs of zero, which no later token has any part in."""
    rec = MAKERS[name]()
    results: list[Tensor] = []
    for mode, dtype in (("newton", torch.float32), ("reference", torch.float64)):
        made: Any = BACKEND.module(scheduled(rec, mode)) if mode == "newton" else in_torch(rec, mode=mode)
        x = torch.zeros(1, time, 3, dtype=dtype, requires_grad=True)
        out, _ = made.to(dtype)(x=x)
        (grad,) = torch.autograd.grad(out[:, at].sum(), x)
        results += [out.double(), grad.double()]
    assert bool(results[1].isfinite().all())
    return [float((results[0] - results[2]).abs().max()), error(results[1], results[3])]
