"""The oracle against the definitions written out, and against what it must never depend on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import seqc
from seqc.ir.expr import Expr, Leaf, LeafKind
from seqc.ir.ops import OPS, RANDOM
from seqc.ir.recurrence import Recurrence
from seqc.oracle import initial_parameters, initial_state, parameter_table, run_recurrence
from seqc.oracle.evaluate import Frame, evaluate, order
from seqc.oracle.primitives import PRIMITIVES
from seqc.oracle.trace import trace
from tests.oracle import rules
from tests.properties.expressions import applied

BATCH, TIME = 2, 11
RULES = [
    rules.gated_delta(),
    rules.softmax_attention(),
    rules.softmax_attention(window=3),
    rules.softmax_attention(window=3, sinks=2),
    rules.past_sum(),
    rules.learned_start(),
]
EACH = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def inputs_of(rule: Recurrence, time: int = TIME) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        leaf.name: torch.randn(
            BATCH, time, *(rule.sizes[axis] for axis in leaf.axes), dtype=torch.float64, generator=generator
        )
        for leaf in rule.inputs
    }


def part(inputs: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    return {name: x[:, start:stop] for name, x in inputs.items()}


def test_every_primitive_has_a_row() -> None:
    assert set(PRIMITIVES) == set(OPS) - RANDOM


@pytest.mark.parametrize("op", sorted(op for op, row in OPS.items() if row.value is not None))
def test_primitives_agree_with_plain_numbers(op: str) -> None:
    """The table's value on floats is what the oracle computes on tensors."""
    row = OPS[op]
    assert row.value is not None
    for seed in range(5):
        numbers = torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
        args = numbers[: row.arity].tolist()
        want = row.value(*args)
        got = PRIMITIVES[op](*(torch.tensor(arg, dtype=torch.float64) for arg in args))
        torch.testing.assert_close(float(got), float(want), rtol=1e-12, atol=1e-12)


def test_gated_delta_is_the_written_out_loop() -> None:
    rule = rules.gated_delta()
    x = inputs_of(rule)
    (out,), state = run_recurrence(rule, x, {})
    memory = torch.zeros(BATCH, 4, 3, dtype=torch.float64)
    for t in range(TIME):
        q, k, v, alpha, beta = (x[name][:, t] for name in ("q", "k", "v", "alpha", "beta"))
        memory = alpha[:, None, None] * memory
        error = torch.einsum("bmn,bn->bm", memory, k) - v
        memory = memory - beta[:, None, None] * error[:, :, None] * k[:, None, :]
        torch.testing.assert_close(out[:, t], torch.einsum("bmn,bn->bm", memory, q))
    torch.testing.assert_close(state["S"], memory)


@pytest.mark.parametrize(("window", "sinks"), [(None, 0), (1, 0), (3, 0), (3, 2)])
def test_attention_is_the_masked_softmax(window: int | None, sinks: int) -> None:
    rule = rules.softmax_attention(window=window, sinks=sinks)
    x = inputs_of(rule)
    (out,), _ = run_recurrence(rule, x, {})
    here, there = torch.arange(TIME)[:, None], torch.arange(TIME)[None, :]
    seen = there <= here
    if window is not None:
        seen = seen & ((here - there < window) | (there < sinks))
    scores = torch.einsum("btn,bsn->bts", x["q"], x["k"]) - 0.1 * (here - there)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    torch.testing.assert_close(out, weights @ x["v"])


def test_a_store_before_the_token() -> None:
    rule = rules.past_sum()
    x = inputs_of(rule)
    (out,), _ = run_recurrence(rule, x, {})
    torch.testing.assert_close(out, x["v"].cumsum(1) - x["v"])


@EACH
@pytest.mark.parametrize("cut", [0, 1, 4, TIME])
def test_a_sequence_may_be_cut_anywhere(rule: Recurrence, cut: int) -> None:
    x, p = inputs_of(rule), initial_parameters(rule)
    (whole,), end = run_recurrence(rule, x, p)
    (first,), state = run_recurrence(rule, part(x, 0, cut), p)
    (second,), last = run_recurrence(rule, part(x, cut, TIME), p, state)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert all(torch.equal(last[name], end[name]) for name in end)


@EACH
def test_a_reset_begins_anew(rule: Recurrence) -> None:
    x, p = inputs_of(rule), initial_parameters(rule)
    reset = torch.zeros(BATCH, TIME, dtype=torch.bool)
    reset[0, 5] = True
    (whole,), _ = run_recurrence(rule, x, p, reset=reset)
    (plain,), _ = run_recurrence(rule, x, p)
    (anew,), _ = run_recurrence(rule, part(x, 5, TIME), p)
    torch.testing.assert_close(whole[1], plain[1])
    torch.testing.assert_close(whole[0, 5:], anew[0])
    assert not torch.allclose(whole[0, 5:], plain[0, 5:])


def test_parameters_and_states_before_the_first_token() -> None:
    rule = rules.learned_start()
    p = initial_parameters(rule, seed=3)
    assert list(p) == list(parameter_table(rule)) == ["decay", "start"]
    assert bool(((p["decay"] >= 0.5) & (p["decay"] <= 0.9)).all())
    assert torch.equal(p["start"], p["decay"] + 1)
    assert not torch.equal(p["decay"], initial_parameters(rule, seed=4)["decay"])
    assert torch.equal(initial_state(rule, p, 2)["h"], p["start"].expand(2, -1))


def test_gradient_of_sqrt_bounded_is_clipped() -> None:
    x = torch.tensor([-1.0, 0.0, 1e-12, 0.25, 4.0], dtype=torch.float64, requires_grad=True)
    bound = torch.tensor(10.0, dtype=torch.float64)
    (slope,) = torch.autograd.grad(PRIMITIVES["sqrt_bounded"](x, bound).sum(), x)
    torch.testing.assert_close(slope, torch.tensor([10.0, 10.0, 10.0, 1.0, 0.25], dtype=torch.float64))


def test_a_tie_of_max_goes_to_the_first() -> None:
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    y = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert [float(g) for g in torch.autograd.grad(PRIMITIVES["max"](x, y), [x, y])] == [1, 0]


def test_broadcasting_is_by_name() -> None:
    v, k = Leaf(LeafKind.INPUT, "v", ("m",)), Leaf(LeafKind.INPUT, "k", ("n",))
    outer = applied("mul", [v, k])
    values: dict[Expr, Tensor] = {
        v: torch.tensor([[1.0, 2.0]]).double(),
        k: torch.tensor([[1.0, 10.0, 100.0]]).double(),
    }
    found = evaluate(order([outer]), Frame((1,), {"m": 2, "n": 3}, values))[outer]
    assert found[0].tolist() == [[1, 10, 100], [2, 20, 200]]


def test_trace_shows_names_and_states_and_finds_the_fault() -> None:
    rule = rules.gated_delta()
    x = inputs_of(rule)
    found = trace(rule, x, {}, tokens=2)
    assert [entry.name for entry in found.entries] == ["q", "k", "v", "alpha", "beta", "kept", "S", "return"]
    assert all(entry.token == 2 for entry in found.entries)
    assert found.fault is None
    x["alpha"][1, 4] = torch.inf
    x["k"][1, 4] = 0
    fault = trace(rule, x, {}).fault
    assert fault is not None
    assert fault.token == 4
    assert repr(fault.expression) == "sum[n](alpha * S * k)"


def test_a_store_before_the_token_leaves_the_present_entry_out() -> None:
    """Softmax attention over strictly earlier tokens, with the scores a contraction over the store."""
    spec = seqc.loads(
        """
        rule earlier(q[n], k[n], v[m]) {
            store  K[s, n] = k
            store  V[s, m] = v
            return sum[s](softmax[s](sum[n](q * K)) * V)
        }
        """
    )
    generator = torch.Generator().manual_seed(0)
    inputs = {x: torch.randn(1, 5, 3, generator=generator, dtype=torch.float64) for x in "qkv"}
    (out,), _ = run_recurrence(spec.rule(n=3, m=3).recurrence, inputs, {})
    q, k, v = (inputs[x][0] for x in "qkv")
    want = [
        torch.softmax(k[:t] @ q[t], 0) @ v[:t] if t else torch.zeros(3, dtype=torch.float64) for t in range(5)
    ]
    torch.testing.assert_close(out[0], torch.stack(want))
