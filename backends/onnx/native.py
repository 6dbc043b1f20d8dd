"""Recurrences that ONNX's `LinearAttention` operator computes, found by the structure of their update.

The operator advances `S' = exp(g) S + k ⊗ u` with `u = v` or `u = β (v - exp(g) Sᵀ k)`, and reads `Sᵀ q` after the
write.  Which axes are keys, columns and heads is read off the update: keys are those that the read sums over, heads
those that the key side or the gate depends on besides, columns the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Axes, Const, DType, Expr, Leaf
from seqc.ir.plan import RESET
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import substitute
from seqc.passes.canonical import canonical, factors, same
from seqc.passes.forms.kernels import log_of
from seqc.passes.forms.problem import Problem
from seqc.passes.linear import Affine, NotAffine, read_affine, scaled, separate_source
from seqc.passes.reads import Query
from seqc.passes.schedule import problems


@dataclass(frozen=True, slots=True)
class Native:
    """One group of states as the operator sees it; expressions are at token level.

    `log_decay` is the gate's logarithm where it can be written without taking one; `decay` is None where there is no
    gate.  The read, times `scale`, is known to the rest of the recurrence as `leaf`.
    """

    state: State
    leaf: Leaf
    heads: Axes
    keys: Axes
    columns: Axes
    query: Expr
    key: Expr
    value: Expr
    scale: float
    decay: Expr | None
    log_decay: Expr | None
    beta: Expr | None

    @property
    def rule(self) -> str:
        return rule(self.decay is not None, self.beta is not None)


def rule(gated: bool, delta: bool) -> str:
    """The operator's name for an update, with or without a gate and a correction by what is known."""
    words = (["gated"] if gated else []) + (["delta"] if delta else [])
    return "_".join(words) or "linear"


def find_native(recurrence: Recurrence) -> dict[str, Native]:
    """The groups that the operator computes, by the name of their stage."""
    if recurrence.stores or not recurrence.states:
        return {}
    found = {problem.name: match(problem) for problem in problems(recurrence).problems}
    return {name: native for name, native in found.items() if native is not None}


def match(problem: Problem) -> Native | None:
    """The operator's view of a problem, or None."""
    if len(problem.states) != 1 or len(problem.reads) != 1 or len(problem.reads[0].queries) != 1:
        return None
    (state,), (query,) = problem.states, problem.reads[0].queries
    if (
        state.dtype is not DType.REAL
        or state.initial is not ZERO
        or not query.after
        or query.names
        or query.whole
    ):
        return None
    try:
        affine = read_affine([state], without_reset(state, problem.updates))
    except NotAffine:
        return None
    sides = _sides(affine, state, query.over)
    if sides is None:
        return None
    return _complete(problem, state, query, *sides)


def without_reset(state: State, updates: Sequence[Expr]) -> tuple[Expr, ...]:
    """The updates with the state itself in the place of what a reset makes of it."""
    return substitute(updates, {build.where(RESET, state.initial, state.leaf): state.leaf})


def _sides(
    affine: Affine, state: State, keys: Axes
) -> tuple[Expr, Expr, Expr, Expr | None, Axes, Axes] | None:
    """Gate, key, value, rate, heads and columns of an affine update; None where it has another structure."""
    source, decay = affine.sources.get(state.name), affine.decay(state)
    if source is None or decay is ZERO or set(affine.diagonal) - {(state.name, state.name)}:
        return None
    terms = affine.rank_ones
    if len(terms) > 1 or any(set(term.keys) != set(keys) for term in terms):
        return None
    key_side = [decay, *(x for term in terms for x in (term.read, term.write))]
    key_side += [f for f in factors(source) if set(f.axes) & set(keys)]
    heads = tuple(a for a in state.axes if a not in keys and any(a in x.axes for x in key_side))
    columns = tuple(a for a in state.axes if a not in keys and a not in heads)
    pairs = separate_source(source, keys, columns)
    if not columns or pairs is None or len(pairs) != 1:
        return None
    key, value = pairs[0]
    if not terms:  # what scales a whole head goes with the value, so that heads can share a key
        scale, core = scaled(key, keys)
        return decay, core, build.mul(scale, value), None, heads, columns
    read, write = terms[0].read, build.neg(terms[0].write)
    # The gate stands on either side of the rank-one term: `β k ⊗ (exp(g) k)` or `exp(g) β k ⊗ k`.
    for plain, whole in ((_divide(read, decay), write), (read, _divide(write, decay))):
        rate = _divide(whole, plain)
        if not set(rate.axes) & {*keys, *columns} and same(key, build.mul(rate, plain)):
            return decay, plain, value, rate, heads, columns
    return None


def _divide(product: Expr, factor: Expr) -> Expr:
    """A product without one of its factors."""
    if factor is ONE:
        return product
    written = factors(product)
    for i, other in enumerate(written):
        if same(other, factor):
            return build.product([*written[:i], *written[i + 1 :]])
    return canonical(build.div(product, factor))


def _complete(
    problem: Problem,
    state: State,
    query: Query,
    decay: Expr,
    key: Expr,
    value: Expr,
    rate: Expr | None,
    heads: Axes,
    columns: Axes,
) -> Native | None:
    keys = query.over
    inner = build.product(f for f in query.factors if set(f.axes) & set(keys))
    rest = build.product(f for f in query.factors if not set(f.axes) & set(keys))
    scale = 1.0
    if isinstance(rest, Const) and rest.value:
        scale = rest.value
    else:
        inner = build.mul(inner, rest)
    if set(inner.axes) & set(columns) or not set(keys) <= set(inner.axes) or set(key.axes) & set(columns):
        return None
    gate = None if decay is ONE else decay
    log = None if gate is None else log_of(gate)
    leaf = problem.reads[0].leaf
    shared = {axis: (axis not in inner.axes) + (axis not in key.axes) for axis in heads}
    heads = tuple(sorted(heads, key=shared.__getitem__))  # those that keys and queries share stand last
    return Native(state, leaf, heads, keys, columns, inner, key, value, scale, gate, log, rate)
