"""Rules: every parallel form against the token loop, values and gradients; states, splits, resets, mapping."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

import seqc
from seqc.ir.recurrence import Recurrence
from tests.emit.torch import rules
from tests.emit.torch.parts import backend
from tests.emit.torch.rules import error, everything, inputs_of

FORMS: list[tuple[Callable[[], Recurrence], str | None]] = [
    (rules.average, "scan"),
    (rules.average, "loop"),
    (rules.tanh_cell, "loop"),
    (rules.linear_attention, "chunk"),
    (rules.linear_attention, "scan"),
    (lambda: rules.linear_attention(heads=2), "chunk"),
    (rules.gated_delta, "chunk"),
    (rules.gated_delta, "loop"),
    (lambda: rules.gated_delta(vector_gate=True), "chunk"),
    (rules.rotation, "scan"),
    (rules.attention, None),
    (lambda: rules.attention(slope=True, grouped=True), None),
    (lambda: rules.attention(window=5), None),
    (lambda: rules.attention(window=5, sinks=2, slope=True), None),
]


@pytest.mark.parametrize(("make", "mode"), FORMS)
@pytest.mark.parametrize("time", [1, 2, 70])
@pytest.mark.parametrize("resets", [False, True])
def test_a_form_computes_what_the_token_loop_computes(
    make: Callable[[], Recurrence], mode: str | None, time: int, resets: bool
) -> None:
    rec = make()
    form, loop = backend.rule(rec, mode=mode).double(), backend.rule(rec, mode="reference").double()
    inputs = inputs_of(rec, 2, time)
    reset = torch.rand(2, time, generator=torch.Generator().manual_seed(5)) < 0.1 if resets else None
    found, wanted = everything(form, inputs, reset=reset), everything(loop, inputs, reset=reset)
    assert all(error(x, y) < 1e-9 for x, y in zip(found, wanted, strict=True))


def test_an_average_worked_by_hand() -> None:
    module: Any = backend.rule(rules.average())
    alpha = torch.tensor([[[0.5, 0.0, 1.0], [0.5, 1.0, 1.0]]])
    b = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 2.0, -1.0]]])
    out, state = module(alpha=alpha, b=b)
    assert out.tolist() == [[[1.25, 1.0, 1.5], [0.625, 3.0, 0.5]]]
    assert state["h"].tolist() == [[0.625, 3.0, 0.5]]


def test_linear_attention_worked_by_hand() -> None:
    module: Any = backend.rule(rules.linear_attention(), mode="chunk")
    one = torch.eye(4)[None]
    k, q = one[:, [0, 1, 0]], one[:, [0, 0, 0]]
    v = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]])
    out, _ = module(q=q, k=k, v=v, alpha=torch.tensor([[1.0, 0.5, 0.5]]))
    assert out.tolist() == [[[1, 0, 0], [0.5, 0, 0], [0.25, 0, 1]]]


@pytest.mark.parametrize(("make", "mode"), FORMS)
def test_gradients_agree_with_differences(make: Callable[[], Recurrence], mode: str | None) -> None:
    rec = make()
    module: Any = backend.rule(rec, mode=mode).double()
    inputs = inputs_of(rec, 1, 3)

    def outputs(*values: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = module(**dict(zip(inputs, values, strict=True)))[0]
        return out

    assert torch.autograd.gradcheck(outputs, list(inputs.values()))


@pytest.mark.parametrize(("make", "mode"), FORMS)
def test_a_sequence_may_be_split_anywhere_and_stepped(
    make: Callable[[], Recurrence], mode: str | None
) -> None:
    rec = make()
    module: Any = backend.rule(rec, mode=mode).double()
    inputs = {name: x.detach() for name, x in inputs_of(rec, 2, 40).items()}
    whole, _ = module(**inputs)
    head, state = module(**{name: x[:, :17] for name, x in inputs.items()})
    state = {name: x.detach().clone() for name, x in state.items()}
    tail, _ = module(**{name: x[:, 17:] for name, x in inputs.items()}, state=state)
    assert error(torch.cat([head, tail], 1), whole) < 1e-12
    steps: list[torch.Tensor] = []
    for t in range(17, 40):
        out, state = module.step(**{name: x[:, t] for name, x in inputs.items()}, state=state)
        steps.append(out)
    assert error(torch.stack(steps, 1), whole[:, 17:]) < 1e-12


def test_states_are_named_tensors_that_can_be_reordered() -> None:
    module: Any = backend.rule(rules.gated_delta())
    inputs = {name: x.detach().float() for name, x in inputs_of(rules.gated_delta(), 3, 9).items()}
    _, state = module(**inputs)
    assert {name: tuple(x.shape) for name, x in module.init_state(3).items()} == {"S": (3, 3, 4)}
    order = torch.tensor([2, 0])
    kept, _ = module(
        **{n: x[order] for n, x in inputs.items()}, state={n: x[order] for n, x in state.items()}
    )
    both, _ = module(**inputs, state=state)
    assert torch.allclose(kept, both[order], atol=1e-6)


def test_inputs_with_more_axes_are_mapped() -> None:
    rec = rules.gated_delta()
    module: Any = backend.rule(rec).double()
    inputs = {name: x.detach() for name, x in inputs_of(rec, 6, 20).items()}
    mapped = {name: x.unflatten(0, (2, 3)).movedim(1, 2) for name, x in inputs.items()}
    out, state = module(**inputs)
    wide, states = module(**mapped)
    assert torch.equal(wide.movedim(2, 1).flatten(0, 1), out)
    assert torch.equal(states["S"].flatten(0, 1), state["S"])
    mapped["alpha"] = mapped["alpha"][:, :, :1]  # the same gate for all
    assert module(**mapped)[0].shape == wide.shape
    step, _ = module.step(**{name: x[:, 0] for name, x in mapped.items()}, state=states)
    assert step.shape == (2, 3, 3)


def test_gates_and_states_keep_single_precision_when_inputs_do_not() -> None:
    module: Any = backend.rule(rules.linear_attention(), mode="chunk")
    exact = {name: x.detach() for name, x in inputs_of(rules.linear_attention(), 1, 100).items()}
    low = {name: x.bfloat16() for name, x in exact.items()}
    out, state = module(**low)
    assert out.dtype == torch.bfloat16
    assert state["S"].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        again, _ = module(**low)
    assert torch.equal(out, again)
    double, _ = backend.rule(rules.linear_attention(), mode="reference")(
        **{n: x.double() for n, x in low.items()}
    )
    assert error(out.double(), double) < 5e-3


@pytest.mark.parametrize("gate", [0.0, 1.0, 1e-38])
def test_extreme_gates_are_exact_and_have_finite_gradients(gate: float) -> None:
    rec = rules.linear_attention()
    inputs = inputs_of(rec, 1, 130)
    inputs["alpha"] = torch.full((1, 130), gate, dtype=torch.float64, requires_grad=True)
    found = everything(backend.rule(rec, mode="chunk").double(), inputs)
    wanted = everything(backend.rule(rec, mode="reference").double(), inputs)
    assert all(x.isfinite().all() and error(x, y) < 1e-9 for x, y in zip(found, wanted, strict=True))


def test_modules_can_be_copied_and_seeded() -> None:
    module: Any = backend.rule(rules.tanh_cell(), seed=3)
    assert torch.equal(copy.deepcopy(module).state_dict()["R"], module.state_dict()["R"])
    assert torch.equal(backend.rule(rules.tanh_cell(), seed=3).state_dict()["R"], module.state_dict()["R"])
    assert not torch.equal(
        backend.rule(rules.tanh_cell(), seed=4).state_dict()["R"], module.state_dict()["R"]
    )


def test_a_complex_gate_that_is_an_exponential_can_be_reset() -> None:
    spec = seqc.loads(
        "rule turn(x[d]) {\n param a[d] = uniform(-1, 1)\n param b[d] = uniform(0, 3)\n"
        "state h[d] complex = 0\n h' = exp(complex(-exp(a), b)) * h + x\n return real(h') }"
    )
    assert seqc.conform(spec, fast=True, only=["values", "resets"]).passed


def test_a_constant_takes_its_kind_from_a_number_and_not_from_the_reset() -> None:
    """Of what the gradient of the map between the lags needs, only the reset comes with the token."""
    spec = seqc.loads(
        "rule echo(x[d]; lag = 3, sooner = lag) {\n state h[d] = 0\n state past[lag, d] = 0\n"
        "let older = sum[sooner](past[lag -> sooner] * where(index[lag] == index[sooner] + 1, 1, 0))\n"
        "past' = where(index[lag] == 0, h, older)\n h' = tanh(x + at[lag](past, -1))\n return h' }"
    )
    assert seqc.conform(spec, fast=True, only=["gradients", "resets"]).passed


def test_states_whose_axes_stand_in_no_common_order_begin_as_they_are_declared() -> None:
    """The values of the second network have `[m, hidden]`, where the order of all axes puts `hidden` first."""
    spec = seqc.loads(
        "rule pair(q[n], k[n], v[m], beta) {\n memory A: n -> m = mlp(hidden = 3)\n"
        "memory B: n -> m = mlp(hidden = 5)\n objective 0.5 * sumsq(A(k) + B(k) - v)\n"
        "learner gd(rate = 0.1 * beta)\n return A'(q) + B'(q) }"
    )
    assert seqc.conform(spec, fast=True, only=["values", "mapping"]).passed
