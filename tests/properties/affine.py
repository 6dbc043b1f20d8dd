"""Random affine rules, and rewrites of a rule that mean the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from seqc.ir import build as b
from seqc.ir.expr import Apply, Axes, Const, Expr, Leaf, LeafKind
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import children, walk, with_children
from seqc.passes.relabel import relabel
from tests.passes.rules import given as value
from tests.passes.rules import recurrence

AXES = ("n", "m", "e")


@st.composite
def subsets(draw: st.DrawFn, axes: Axes, least: int = 0) -> Axes:
    chosen = draw(st.lists(st.sampled_from(axes), min_size=least, unique=True)) if axes else []
    return tuple(a for a in axes if a in chosen)


@st.composite
def affine_rules(draw: st.DrawFn) -> Recurrence:
    """One to three states of order one to three: decays over any axes, up to three rank-one terms on any
    axis.
    """
    count = draw(st.integers(1, 3))
    states = [
        State(f"S{i}", draw(subsets(AXES, 1)), Const(draw(st.sampled_from([0.0, 0.5])))) for i in range(count)
    ]
    if draw(st.booleans()):
        states = [replace(s, axes=states[0].axes) for s in states]
    shared_keys = draw(subsets(states[0].axes, 1))
    rules: list[tuple[State, Expr]] = []
    names = iter(range(1000))

    def fresh(axes: Axes, gate: bool = False) -> Expr:
        leaf = value(f"{'g' if gate else 'x'}{next(names)}", *axes)
        return b.apply("sigmoid", leaf) if gate and draw(st.booleans()) else b.mul(Const(0.5), leaf)

    for i, state in enumerate(states):
        kept = (
            state.leaf
            if draw(st.booleans())
            else b.mul(fresh(draw(subsets(state.axes)), gate=True), state.leaf)
        )
        update: Expr = kept
        for _ in range(draw(st.integers(0, 3))):
            keys = shared_keys if draw(st.booleans()) and set(shared_keys) <= set(state.axes) else draw(
                subsets(state.axes, 1))  # fmt: skip
            source = kept if draw(st.booleans()) else state.leaf
            answer = b.sum_over(keys, b.mul(fresh(keys), source))
            update = b.sub(update, b.mul(fresh((*keys, *draw(subsets(tuple(a for a in state.axes if a not in keys))))),
                                         b.mul(Const(0.3), answer)))  # fmt: skip
        parts = draw(st.lists(subsets(state.axes, 1), min_size=1, max_size=2))
        update = b.add(update, b.product(fresh(axes) for axes in parts))
        if i and draw(st.booleans()):
            other = rules[i - 1][0]
            extra = tuple(a for a in other.axes if a not in state.axes)
            missing = tuple(a for a in state.axes if a not in other.axes)
            linked = b.sum_over(extra, other.next if draw(st.booleans()) else other.leaf)
            update = b.add(update, b.mul(Const(0.4), b.mul(fresh(missing), linked)))
        rules.append((state, update))
    outputs = [_output(draw, state, fresh) for state, _ in rules]
    return recurrence("random", rules, outputs)


def _output(draw: st.DrawFn, state: State, fresh: object) -> Expr:
    over = draw(subsets(state.axes))
    source = state.next if draw(st.booleans()) else state.leaf
    query = value(f"q{state.name}", *over)
    read = b.sum_over(over, b.mul(source, query)) if over else source
    return b.apply("tanh", read) if draw(st.booleans()) else read


@st.composite
def rewrites(draw: st.DrawFn, rec: Recurrence) -> Recurrence:
    """The same rule spelt otherwise: operands swapped, products distributed, sums regrouped, axes renamed."""

    def respell(root: Expr) -> Expr:
        done: dict[Expr, Expr] = {}
        for node in walk([root]):
            new = with_children(node, tuple(done[c] for c in children(node)))
            done[node] = _respell(new, draw(st.integers(0, 3)))
        return done[root]

    changed = replace(
        rec, updates=tuple(respell(u) for u in rec.updates), outputs=tuple(respell(o) for o in rec.outputs)
    )
    if draw(st.booleans()):
        return _rename_axes(changed, {"n": "zz", "m": "aa", "e": "mm"})
    return changed


def _respell(node: Expr, how: int) -> Expr:
    match node:
        case Apply(op="add" | "mul", args=(x, y)) if how == 1:
            return Apply(node.op, (y, x))
        case Apply(op="mul", args=(x, Apply(op="add" | "sub" as op, args=(y, z)))) if how == 2:
            return Apply(op, (Apply("mul", (x, y)), Apply("mul", (x, z))))
        case Apply(op="sub", args=(x, y)) if how == 2:
            return Apply("add", (x, Apply("mul", (Const(-1), y))))
        case Apply(op="mul", args=(x, Apply(op="mul", args=(y, z)))) if how == 3:
            return Apply("mul", (Apply("mul", (x, y)), z))
        case Apply(op="add", args=(x, Apply(op="add", args=(y, z)))) if how == 3:
            return Apply("add", (Apply("add", (x, y)), z))
        case _:
            return node


def _rename_axes(rec: Recurrence, names: dict[str, str]) -> Recurrence:
    def rename(axes: Axes) -> Axes:
        return tuple(names.get(a, a) for a in axes)

    return replace(
        rec,
        inputs=tuple(Leaf(LeafKind.INPUT, x.name, rename(x.over)) for x in rec.inputs),
        states=tuple(replace(s, axes=rename(s.axes)) for s in rec.states),
        updates=relabel(rec.updates, names),
        outputs=relabel(rec.outputs, names),
        returns=tuple(rename(r) for r in rec.returns),
        sizes={names.get(a, a): n for a, n in rec.sizes.items()},
    )
