"""Small recurrences built by hand, and a way to compare two forms of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seqc.ir.build import add, apply, const, mul, rename, sub, sum_over
from seqc.ir.expr import Axes, DType, Expr, Leaf, LeafKind, Softmax
from seqc.ir.recurrence import Parameter, Recurrence, State, Store


def given(name: str, *axes: str) -> Leaf:
    return Leaf(LeafKind.INPUT, name, axes)


def rule(
    name: str,
    inputs: tuple[Leaf, ...],
    states: Mapping[State, Expr],
    output: Expr,
    axes: Axes,
    sizes: Mapping[str, int],
    parameters: tuple[Parameter, ...] = (),
    stores: tuple[Store, ...] = (),
) -> Recurrence:
    return Recurrence(
        name,
        inputs,
        parameters,
        tuple(states),
        stores,
        tuple(states.values()),
        (output,),
        (axes,),
        dict(sizes),
    )


def average() -> Recurrence:
    """h' = a · h + b, from 0.5."""
    a, b = given("alpha", "d"), given("b", "d")
    h = State("h", ("d",), const(0.5))
    return rule("average", (a, b), {h: add(mul(a, h.leaf), b)}, h.next, ("d",), {"d": 3})


def gated_average() -> Recurrence:
    """h' = sigmoid(w) · h + x, from w."""
    x, w = given("x", "d"), Parameter("w", ("d",), const(0.5))
    h = State("h", ("d",), w.leaf)
    update = add(mul(apply("sigmoid", w.leaf), h.leaf), x)
    return rule("gated_average", (x,), {h: update}, h.next, ("d",), {"d": 3}, (w,))


def tanh_cell() -> Recurrence:
    """h' = tanh(x + R h)."""
    x, h = given("x", "d"), State("h", ("d",), const(0))
    weight = Parameter("R", ("d", "e"), apply("normal", const(0), const(0.5)))
    mixed = sum_over(["e"], mul(weight.leaf, rename(h.leaf, {"d": "e"})))
    update = apply("tanh", add(x, mixed))
    return rule("tanh_cell", (x,), {h: update}, h.next, ("d",), {"d": 3, "e": 3}, (weight,))


def linear_attention(heads: int = 0) -> Recurrence:
    """S' = alpha · S + k ⊗ v, read by q; with `heads`, keys are shared by all of them."""
    h = ("h",) if heads else ()
    q, k, v, alpha = given("q", *h, "n"), given("k", "n"), given("v", *h, "m"), given("alpha", *h)
    s = State("S", (*h, "n", "m"), const(0))
    update = add(mul(alpha, s.leaf), mul(k, v))
    read = sum_over(["n"], mul(s.next, q))
    sizes = {"n": 4, "m": 3, **({"h": heads} if heads else {})}
    return rule("linear_attention", (q, k, v, alpha), {s: update}, read, (*h, "m"), sizes)


def gated_delta(vector_gate: bool = False) -> Recurrence:
    """S' = R - beta · (R k - v) ⊗ k with R = alpha · S."""
    q, k, v, beta = given("q", "n"), given("k", "n"), given("v", "m"), given("beta")
    alpha = given("alpha", "n") if vector_gate else given("alpha")
    s = State("S", ("m", "n"), const(0))
    kept = mul(alpha, s.leaf)
    update = sub(kept, mul(mul(beta, sub(sum_over(["n"], mul(kept, k)), v)), k))
    read = sum_over(["n"], mul(s.next, q))
    return rule("gated_delta", (q, k, v, alpha, beta), {s: update}, read, ("m",), {"n": 4, "m": 3})


def rotation() -> Recurrence:
    """h' = λ h + x with a complex λ, and the real part as output."""
    x = given("x", "d")
    nu = Parameter("nu", ("d",), apply("uniform", const(0.1), const(1)))
    theta = Parameter("theta", ("d",), apply("uniform", const(0), const(6.28)))
    factor = apply("polar", apply("exp", apply("neg", nu.leaf)), theta.leaf)
    h = State("h", ("d",), const(0), DType.COMPLEX)
    update = add(mul(factor, h.leaf), x)
    return rule("rotation", (x,), {h: update}, apply("real", h.next), ("d",), {"d": 3}, (nu, theta))


def attention(
    window: int | None = None, sinks: int = 0, slope: bool = False, grouped: bool = False
) -> Recurrence:
    """Softmax attention, with a bias that falls with the distance; grouped queries share keys and values."""
    kv, g = (("kv",), ("g",)) if grouped else ((), ())
    q, k, v, bias = given("q", *kv, *g, "n"), given("k", *kv, "n"), given("v", *kv, "m"), given("slope")
    keys = Store("K", "s", (*kv, "n"), k, window, sinks)
    values = Store("V", "s", (*kv, "m"), v, window, sinks)
    score = mul(const(0.5), sum_over(["n"], mul(q, keys.next)))
    if slope:
        score = sub(score, mul(bias, Leaf(LeafKind.AGE, "s", ("s",))))
    read = sum_over(["s"], mul(Softmax(("s",), score), values.next))
    inputs = (q, k, v, bias) if slope else (q, k, v)
    sizes = {"n": 4, "m": 3, **({"kv": 2, "g": 3} if grouped else {})}
    return rule("attention", inputs, {}, read, (*kv, *g, "m"), sizes, stores=(keys, values))


def inputs_of(rec: Recurrence, batch: int, time: int, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs that ask for gradients; gates lie between 0 and 1, keys have length 1."""
    draw = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for leaf in rec.inputs:
        shape = (batch, time, *(rec.sizes[a] for a in leaf.axes))
        x = torch.randn(shape, generator=draw, dtype=torch.float64)
        if leaf.name in ("alpha", "beta", "slope"):
            x = torch.sigmoid(x)
        if leaf.name == "k":
            x = x / x.norm(dim=-1, keepdim=True)
        made[leaf.name] = x.requires_grad_()
    return made


def everything(module: Any, inputs: Mapping[str, Tensor], **given: Any) -> list[Tensor]:
    """Outputs, final states, and the gradients of a random sum of both by inputs and parameters."""
    out, state = module(**inputs, **given)
    finals = [x for name, x in state.items() if f"{name}.count" not in state and not name.endswith(".count")]
    draw = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=draw, dtype=x.dtype) for x in (out, *finals)]
    loss = sum(((x * w).sum().real for x, w in zip((out, *finals), weights, strict=True)), torch.zeros(()))
    grads = torch.autograd.grad(loss, [*inputs.values(), *module.parameters()])
    return [out, *finals, *grads]


def error(found: Tensor, wanted: Tensor) -> float:
    """The relative 2-norm of the difference."""
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-12))


def assert_alike(module: nn.Module, found: Tensor, other: nn.Module, wanted: Tensor) -> None:
    """Two modules answer alike in single precision, and so do the gradients by their parameters."""
    assert error(found, wanted) < 1e-5
    grads = [
        torch.autograd.grad(out.square().sum(), list(each.parameters()))
        for each, out in ((module, found), (other, wanted))
    ]
    assert all(error(x, y) < 1e-4 for x, y in zip(*grads, strict=True))
