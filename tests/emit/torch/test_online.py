"""Mode `rtrl`: the gradients of backpropagation through time, with nothing kept of the past."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.emit.torch.rules import error

SPEC = seqc.loads("""
# A parameter that is contracted, one without axes, and one that the state begins with.
rule cell(x[d], u[e]) {
    param  W[d, e] = normal(0, 0.5)
    param  a[d] = uniform(-1, 1)
    param  g = 0.3
    param  start[d] = normal(0, 1)
    state  h[d] = tanh(start)
    state  c[d] = 0
    let    keep = sigmoid(a * h + g * c)
    c'     = keep * c + (1 - keep) * tanh(x + sum[e](W * u))
    h'     = 0.5 * h + tanh(c') * sigmoid(g)
    return h' * a, h - c'
}

# Affine, with a derivative that is bounded.
rule rg_lru(x[d], r[d]) {
    param  decay[d] = uniform(0.2, 2)
    let    log_a = -2 * softplus(decay) * sigmoid(r)
    state  h[d] = 0
    h'     = exp(log_a) * h + sqrt_bounded(1 - exp(2 * log_a), 1000) * x
    return h'
}

# A state of fewer axes feeds one of more; `w` is read by the output only.
rule spread(x[d], y, z[e]) {
    param  a = 0.4
    param  w[e] = normal(0, 1)
    param  m[d, e] = normal(0, 1)
    state  s = a
    state  S[d, e] = 0
    s'     = tanh(a * s + y)
    S'     = sigmoid(m * s') * S + x * z
    return sum[e](S' * w)
}

# What is reached only by way of another state, and what reaches no state.
rule chain(x[d]) {
    param  w[d] = uniform(0.5, 1)
    param  out[d] = normal(0, 1)
    state  first[d] = 0
    state  second[d] = 0
    first' = w * first + x
    second' = 0.9 * second + where(first > 0, first, 0.1 * first)
    return second' * out
}
""")
SIZES = {
    "cell": {"d": 3, "e": 5},
    "rg_lru": {"d": 7},
    "spread": {"d": 3, "e": 2},
    "chain": {"d": 5},
}


def pair(name: str) -> tuple[Any, Any]:
    """The rule as it learns online, and as a loop, with the same weights."""
    handle = SPEC.rule(name, **SIZES[name])
    online, loop = handle.torch(mode="rtrl").double(), handle.torch(mode="reference").double()
    loop.load_state_dict(online.state_dict())
    return online, loop


def draws(name: str, batch: int, time: int, *mapped: int) -> dict[str, Tensor]:
    torch.manual_seed(time)
    recurrence = SPEC.rule(name, **SIZES[name]).recurrence
    shapes = {leaf.name: [recurrence.sizes[axis] for axis in leaf.axes] for leaf in recurrence.inputs}
    return {key: torch.randn(batch, time, *mapped, *own).double() for key, own in shapes.items()}


def outputs_of(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def loss(outputs: tuple[Tensor, ...], time: int | slice) -> Tensor:
    """A sum over tokens in which every one counts differently."""
    weight = torch.linspace(1, 2, 100).double()[time]
    terms = [(x * x.sin()).flatten(int(isinstance(time, slice)) + 1).sum(-1) * weight for x in outputs]
    return torch.stack(terms).sum()


def compare(online: Any, loop: Any) -> None:
    for (name, got), wanted in zip(online.named_parameters(), loop.parameters(), strict=True):
        expected = torch.zeros_like(wanted) if wanted.grad is None else wanted.grad
        assert error(got.grad, expected) < 1e-10, name


@pytest.mark.parametrize("time", [1, 2, 33])
@pytest.mark.parametrize("name", SPEC.rules)
def test_gradients_are_those_of_backpropagation_through_time(name: str, time: int) -> None:
    online, loop = pair(name)
    inputs = draws(name, 3, time)
    wanted, _ = loop(**inputs)
    loss(outputs_of(wanted), slice(time)).backward()
    state = None
    for t in range(time):
        out, state = online.step(**{key: x[:, t] for key, x in inputs.items()}, state=state)
        for got, whole in zip(outputs_of(out), outputs_of(wanted), strict=True):
            torch.testing.assert_close(got, whole[:, t])
        loss(outputs_of(out), t).backward()
        assert not any(x.requires_grad for x in state.values())
    compare(online, loop)


@pytest.mark.parametrize("name", SPEC.rules)
def test_whole_sequences_resets_and_mapped_axes(name: str) -> None:
    online, loop = pair(name)
    inputs, reset = draws(name, 2, 23, 4), torch.rand(2, 23) < 0.15
    for rule in (online, loop):
        out, _ = rule(**inputs, reset=reset)
        loss(outputs_of(out), slice(23)).backward()
    compare(online, loop)


def test_what_is_kept_does_not_depend_on_the_length() -> None:
    online, _ = pair("cell")

    def kept(time: int) -> int:
        """The most numbers that a backward pass had waiting for it."""
        found, most, state = 0, 0, None

        def pack(x: Tensor) -> Tensor:
            nonlocal found
            found += x.numel()
            return x

        inputs = draws("cell", 2, time)
        for t in range(time):
            found = 0
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
                out, state = online.step(**{key: x[:, t] for key, x in inputs.items()}, state=state)
                loss(out, t).backward()
            most = max(most, found)
        return most

    assert kept(40) == kept(3)


def test_a_step_may_be_left_out_and_the_states_saved() -> None:
    online, loop = pair("rg_lru")
    inputs = draws("rg_lru", 2, 9)
    wanted, _ = loop(**inputs)
    loss((wanted[:, 8],), 8).backward()
    with torch.no_grad():
        _, state = online(**{key: x[:, :8] for key, x in inputs.items()})
    out, _ = online.step(**{key: x[:, 8] for key, x in inputs.items()}, state=state)
    loss((out,), 8).backward()
    compare(online, loop)


REFUSED = {
    "a dense matrix between the states": """
        rule r(x[d]; d = 3, e = d) { param R[d, e] = normal(0, 1)
        state h[d] = 0  h' = tanh(x + sum[e](R * h[d -> e]))  return h' }""",
    "a norm over the state": """
        rule r(x[d]; d = 3) { param w[d] = 1  state h[d] = 0  h' = w * h / (1 + sumsq(h)) + x  return h' }""",
    "a parameter that every entry depends on": """
        rule r(x[d]; d = 3) { param w[d] = 1  state h[d] = 0  h' = 0.5 * h + sum(w * x)  return h' }""",
    "the same by way of another state": """
        rule r(x[d]; d = 3) { param w[d] = 1  state c = 0  state h[d] = 0
        c' = 0.5 * c + sum(w * x)  h' = 0.5 * h + c' * x  return h' }""",
    "a complex state": """
        rule r(x[d]; d = 3) { param w[d] = 1  state h[d] complex = 0  h' = polar(0.9, w) * h + x  return real(h') }""",
    "a store": """
        rule r(q[n], k[n]; n = 3) { param w[n] = 1  store K[s, n] = w * k
        return sum[s](softmax[s](sum[n](q * K')) * K') }""",
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_elementwise_is_refused(why: str) -> None:
    with pytest.raises(seqc.SpecError) as caught:
        seqc.loads(REFUSED[why]).rule().torch(mode="rtrl")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0902"
    assert any("step" in note for note in diagnostic.notes)


def test_a_model_is_refused() -> None:
    model = seqc.loads("model m(x[f]; f = 3) {\n    let y[f] = linear(x)\n    return y\n}\n").model()
    with pytest.raises(seqc.SpecError, match="a rule by itself"):
        model.torch(mode="rtrl")
