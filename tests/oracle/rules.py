"""Recurrences built by hand, so that the oracle is tested without the language."""

from __future__ import annotations

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import Const, Expr, Leaf, LeafKind, Softmax
from seqc.ir.recurrence import Parameter, Recurrence, State, Store


def given(name: str, *axes: str) -> Leaf:
    return Leaf(LeafKind.INPUT, name, axes)


def gated_delta(n: int = 3, m: int = 4) -> Recurrence:
    q, k, v, alpha, beta = given("q", "n"), given("k", "n"), given("v", "m"), given("alpha"), given("beta")
    memory = State("S", ("m", "n"), ZERO)
    kept = build.mul(alpha, memory.leaf)
    error = build.sub(build.sum_over("n", build.mul(kept, k)), v)
    update = build.sub(kept, build.mul(beta, build.mul(error, k)))
    read = build.sum_over("n", build.mul(memory.next, q))
    return Recurrence(
        "gated_delta",
        (q, k, v, alpha, beta),
        (),
        (memory,),
        (),
        (update,),
        (read,),
        (("m",),),
        {"n": n, "m": m},
        (("kept", kept),),
    )


def softmax_attention(n: int = 3, m: int = 2, window: int | None = None, sinks: int = 0) -> Recurrence:
    """Scores lose a tenth for every token of age."""
    q, k, v = given("q", "n"), given("k", "n"), given("v", "m")
    keys = Store("keys", "t", ("n",), k, window, sinks)
    values = Store("values", "t", ("m",), v, window, sinks)
    age = Leaf(LeafKind.AGE, "t", ("t",))
    scores = build.sub(build.sum_over("n", build.mul(q, keys.next)), build.mul(Const(0.1), age))
    read = build.sum_over("t", build.mul(Softmax(("t",), scores), values.next))
    sizes = {"n": n, "m": m}
    return Recurrence("attention", (q, k, v), (), (), (keys, values), (), (read,), (("m",),), sizes)


def past_sum(m: int = 2) -> Recurrence:
    """The sum of the entries before this token: what a store holds before it grows."""
    v = given("v", "m")
    store = Store("past", "t", ("m",), v)
    total = build.sum_over("t", store.leaf)
    sizes = {"m": m}
    return Recurrence("past", (v,), (), (), (store,), (), (total,), (("m",),), sizes)


def learned_start(d: int = 2) -> Recurrence:
    """h' = a · h + x from a learned h, and a state that follows another within the token."""
    x = given("x", "d")
    decay = Parameter("decay", ("d",), build.apply("uniform", Const(0.5), Const(0.9)))
    start = Parameter("start", ("d",), build.add(decay.leaf, Const(1.0)), decays=False)
    h = State("h", ("d",), start.leaf)
    top = State("top", ("d",), Const(-1.0))
    updates: tuple[Expr, ...] = (
        build.add(build.mul(decay.leaf, h.leaf), x),
        build.apply("max", top.leaf, h.next),
    )
    sizes = {"d": d}
    return Recurrence(
        "learned",
        (x,),
        (decay, start),
        (h, top),
        (),
        updates,
        (build.sub(h.next, top.next),),
        (("d",),),
        sizes,
    )
