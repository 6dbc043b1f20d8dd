"""Costs are those that one would count by hand."""

from __future__ import annotations

from seqc.ir import build
from seqc.ir.expr import Leaf, LeafKind, Softmax
from seqc.ir.recurrence import Recurrence, State, Store
from seqc.passes import cost
from seqc.passes.schedule import schedule

N, M = 8, 4
K = Leaf(LeafKind.INPUT, "k", ("n",))
Q = Leaf(LeafKind.INPUT, "q", ("n",))
V = Leaf(LeafKind.INPUT, "v", ("m",))
SIZES = {"n": N, "m": M}


def linear_attention() -> Recurrence:
    memory = State("S", ("m", "n"), build.ZERO)
    update = build.add(memory.leaf, build.mul(V, K))
    read = build.sum_over(["n"], build.mul(memory.next, Q))
    return Recurrence("linear", (Q, K, V), (), (memory,), (), (update,), (read,), (("m",),), SIZES)


def softmax_attention(window: int | None) -> Recurrence:
    keys, values = Store("K", "s", ("n",), K, window), Store("V", "s", ("m",), V, window)
    scores = Softmax(("s",), build.sum_over(["n"], build.mul(keys.next, Q)))
    read = build.sum_over(["s"], build.mul(scores, values.next))
    return Recurrence("softmax", (Q, K, V), (), (), (keys, values), (), (read,), (("m",),), SIZES)


def test_a_token_of_linear_attention_is_a_write_and_a_read() -> None:
    assert cost.decode(linear_attention()) == cost.Cost(fixed=2 * N * M + 2 * N * M)


def test_a_token_of_linear_attention_moves_the_state_twice() -> None:
    assert cost.decode_bytes(linear_attention()) == cost.Cost(fixed=2 * 4 * N * M)


def test_softmax_attention_grows_with_its_context() -> None:
    each = 2 * N + cost.SOFTMAX + 2 * M
    assert cost.decode(softmax_attention(None)) == cost.Cost(context=each)
    assert cost.decode_bytes(softmax_attention(None)) == cost.Cost(fixed=4 * (N + M), context=4 * (N + M))


def test_a_window_bounds_the_cost() -> None:
    each = 2 * N + cost.SOFTMAX + 2 * M
    assert cost.decode(softmax_attention(16)) == cost.Cost(fixed=16 * each)


def test_gates_made_of_parameters_alone_are_paid_once() -> None:
    gate = build.apply("exp", Leaf(LeafKind.PARAM, "decay", ("n",)))
    assert cost.operations([build.mul(gate, K)], cost.Sizes(SIZES)) == cost.Cost(fixed=N, once=N)


def test_chunks_cost_less_than_tokens_where_states_are_large() -> None:
    big = {"n": 256, "m": 256}
    rule = linear_attention()
    large = Recurrence(
        rule.name, rule.inputs, (), rule.states, (), rule.updates, rule.outputs, rule.returns, big
    )
    chunked = cost.prefill_bytes(large, schedule).at(0)
    assert chunked < cost.decode_bytes(large).at(0) / 10
