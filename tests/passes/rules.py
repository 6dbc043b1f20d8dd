"""Recurrences written by hand, one a class, for tests of the passes alone."""

from __future__ import annotations

from dataclasses import replace

from seqc.ir import build as b
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Const, DType, Expr, Leaf, LeafKind
from seqc.ir.recurrence import Parameter, Recurrence, State

SIZES = {"n": 5, "m": 3, "d": 6, "h": 2, "e": 4}


def given(name: str, *axes: str) -> Leaf:
    return Leaf(LeafKind.INPUT, name, axes)


def dot(axis: str, x: Expr, y: Expr) -> Expr:
    return b.sum_over([axis], b.mul(x, y))


def recurrence(
    name: str,
    states: list[tuple[State, Expr]],
    outputs: list[Expr],
    parameters: tuple[Parameter, ...] = (),
) -> Recurrence:
    from seqc.ir.traverse import leaves

    exprs = [*(update for _, update in states), *outputs]
    inputs = sorted((x for x in leaves(exprs) if x.kind is LeafKind.INPUT), key=lambda x: x.name)
    return Recurrence(
        name,
        tuple(inputs),
        parameters,
        tuple(state for state, _ in states),
        (),
        tuple(update for _, update in states),
        tuple(outputs),
        tuple(out.axes for out in outputs),
        SIZES,
    )


def _matrix(name: str = "S", *mapped: str) -> State:
    return State(name, (*mapped, "m", "n"), ZERO)


q, k, v = given("q", "n"), given("k", "n"), given("v", "m")
alpha, beta, gate, full = given("alpha"), given("beta"), given("a", "n"), given("w", "m", "n")


def delta(decay: Expr) -> Recurrence:
    s = _matrix()
    kept = b.mul(decay, s.leaf)
    error = b.sub(dot("n", kept, k), v)
    return recurrence("delta", [(s, b.sub(kept, b.mul(b.mul(beta, error), k)))], [dot("n", s.next, q)])


def linear(decay: Expr) -> Recurrence:
    s = _matrix()
    return recurrence("linear", [(s, b.add(b.mul(decay, s.leaf), b.mul(v, k)))], [dot("n", s.next, q)])


def mapped() -> Recurrence:
    """Gated linear attention over heads: queries of two kinds share a state."""
    s = _matrix("S", "h")
    key, value, query = given("k", "h", "n"), given("v", "h", "m"), given("q", "h", "e", "n")
    update = b.add(b.mul(given("alpha", "h"), s.leaf), b.mul(value, key))
    return replace(recurrence("mapped", [(s, update)], [dot("n", s.next, query)]), mapped=("h", "e"))


def diagonal(complex_state: bool = False) -> Recurrence:
    if complex_state:
        h = State("h", ("d",), ZERO, DType.COMPLEX)
        gate_ = b.apply("polar", given("r", "d"), given("theta", "d"))
        return recurrence(
            "lru", [(h, b.add(b.mul(gate_, h.leaf), given("x", "d")))], [b.apply("real", h.next)]
        )
    h = State("h", ("d",), Const(0.3))
    update = b.add(b.mul(b.apply("sigmoid", given("x", "d")), h.leaf), given("y", "d"))
    return recurrence("gated", [(h, update)], [h.next])


def gateloop() -> Recurrence:
    s = State("S", ("m", "n"), ZERO, DType.COMPLEX)
    turn = b.apply("polar", b.apply("sigmoid", given("r", "n")), given("theta", "n"))
    return recurrence(
        "gateloop", [(s, b.add(b.mul(turn, s.leaf), b.mul(v, k)))], [dot("n", b.apply("real", s.next), q)]
    )


def mamba() -> Recurrence:
    h = State("h", ("d", "n"), ZERO)
    decay = b.apply("exp", b.mul(given("dt", "d"), b.neg(b.apply("exp", given("A", "d", "n")))))
    update = b.add(b.mul(decay, h.leaf), b.mul(b.mul(given("dt", "d"), given("x", "d")), k))
    return recurrence("mamba", [(h, update)], [dot("n", h.next, q)])


def mlstm() -> Recurrence:
    m, c, n = State("mx", (), Const(-1e4)), _matrix("C"), State("z", ("n",), ZERO)
    log_f, i = b.apply("log_sigmoid", given("f")), given("i")
    kept = b.apply("exp", b.sub(b.add(log_f, m.leaf), m.next))
    new = b.apply("exp", b.sub(i, m.next))
    read = dot("n", n.next, q)
    floor = b.apply("max", b.apply("abs", read), b.apply("exp", b.neg(m.next)))
    return recurrence(
        "mlstm",
        [
            (m, b.apply("max", b.add(log_f, m.leaf), i)),
            (c, b.add(b.mul(kept, c.leaf), b.mul(new, b.mul(v, k)))),
            (n, b.add(b.mul(kept, n.leaf), b.mul(new, k))),
        ],
        [b.div(dot("n", c.next, q), floor)],
    )


def momentum() -> Recurrence:
    s, z = _matrix(), _matrix("Z")
    error = b.sub(dot("n", s.leaf, k), v)
    velocity = b.sub(b.mul(given("eta"), z.leaf), b.mul(b.mul(beta, error), k))
    return recurrence(
        "momentum", [(s, b.add(b.mul(alpha, s.leaf), z.next)), (z, velocity)], [dot("n", s.next, q)]
    )


def rank_two() -> Recurrence:
    s = _matrix()
    k2, v2 = given("k2", "n"), given("v2", "m")
    first = b.sub(b.mul(alpha, s.leaf), b.mul(b.mul(beta, b.sub(dot("n", s.leaf, k), v)), k))
    second = b.sub(first, b.mul(b.mul(beta, b.sub(dot("n", first, k2), v2)), k2))
    return recurrence("product", [(s, second)], [dot("n", s.next, q), dot("m", s.leaf, given("p", "m"))])


def rnn() -> Recurrence:
    h = State("h", ("d",), ZERO)
    r = Parameter("R", ("d", "e"), b.apply("normal", ZERO, Const(0.3)))
    mixed = b.sum_over(["e"], b.mul(r.leaf, b.rename(h.leaf, {"d": "e"})))
    sizes_match = b.apply("tanh", b.add(mixed, given("x", "d")))
    rec = recurrence("rnn", [(h, sizes_match)], [h.next], (r,))
    return Recurrence(rec.name, rec.inputs, rec.parameters, rec.states, (), rec.updates, rec.outputs, rec.returns,
                      {**SIZES, "e": SIZES["d"]})  # fmt: skip


def delay() -> Recurrence:
    p = State("p", ("d",), Const(0.5))
    return recurrence("shift", [(p, given("x", "d"))], [p.leaf])


def counter() -> Recurrence:
    t = State("t", (), ZERO)
    return recurrence("position", [(t, b.add(t.leaf, ONE))], [b.add(t.next, given("x"))])


ALL: dict[str, Recurrence] = {
    "linear": linear(ONE),
    "retnet": linear(Const(0.9)),
    "scalar": linear(alpha),
    "log_scalar": linear(b.apply("exp", b.neg(given("g")))),
    "gla": linear(gate),
    "log_gla": linear(b.apply("sigmoid", given("g", "n"))),
    "column": linear(given("c", "m")),
    "element": linear(full),
    "delta": delta(ONE),
    "gated_delta": delta(alpha),
    "kda": delta(gate),
    "mapped": mapped(),
    "diagonal": diagonal(),
    "lru": diagonal(True),
    "gateloop": gateloop(),
    "mamba": mamba(),
    "mlstm": mlstm(),
    "momentum": momentum(),
    "rank_two": rank_two(),
    "rnn": rnn(),
    "delay": delay(),
    "counter": counter(),
}


def titans(period: int, momentum: bool = True) -> Recurrence:
    """A two-layer memory, gradients held for `period` tokens."""
    from seqc.passes.derive import gradient

    w1 = State("M.0", ("e", "n"), Parameter("M.0", ("e", "n"), Const(0)).leaf)
    w2 = State("M.1", ("m", "e"), Parameter("M.1", ("m", "e"), Const(0)).leaf)
    memory = [w1, w2]
    count = State("count", (), ZERO)
    held = [State(f"{s.name}.held", s.axes, s.initial) for s in memory]
    moved = [State(f"{s.name}.momentum", s.axes, ZERO) for s in memory]
    fresh = b.apply("eq", count.leaf, ZERO)
    now = [b.where(fresh, s.leaf, h.leaf) for s, h in zip(memory, held, strict=True)]

    def apply(weights: list[Expr], x: Expr) -> Expr:
        return dot("e", weights[1], b.apply("silu", dot("n", weights[0], x)))

    error = b.sub(apply(list(now), k), v)
    loss = b.mul(Const(0.5), b.sum_over(["m"], b.mul(error, error)))
    grads = gradient(loss, now)
    theta, eta = given("beta"), given("eta")
    states: list[tuple[State, Expr]] = []
    for s, h, z, n, g in zip(memory, held, moved, now, grads, strict=True):
        step = b.neg(b.mul(theta, g))
        if momentum:
            states.append((z, b.add(b.mul(eta, z.leaf), step)))
            step = z.next
        states += [(s, b.add(b.mul(alpha, s.leaf), step)), (h, n)]
    states.append((count, b.apply("mod", b.add(count.leaf, ONE), Const(period))))
    parameters = tuple(Parameter(s.name, s.axes, Const(0)) for s in memory)
    return recurrence("titans", states, [apply([s.next for s in memory], q)], parameters)


ALL["titans"] = titans(8)
ALL["held_plain"] = titans(3, False)
