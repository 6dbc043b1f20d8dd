"""Gradients held at the start of every `c` tokens: the dual form.

A held state copies a memory whenever a token counter is a multiple of the period, and the updates see the copy.
Between two such moments the copy is a constant, so the memory is affine in its own past with sources that all tokens
of the window compute at once: a window is one block of a chunked form, and what it writes is known through the
products of activations and errors.  No memory is ever written out a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import (
    Apply,
    Const,
    Expr,
    Index,
    Leaf,
    LeafKind,
    Reduce,
    depends_on,
    leaves,
    substitute,
)
from seqc.ir.plan import FRESH, RESTART, TOKEN, VALID, Adjoint, Stage
from seqc.ir.recurrence import Recurrence, State
from seqc.passes.canonical import same
from seqc.passes.forms.kernels import Sequences
from seqc.passes.forms.stage import StageBuilder, hoist
from seqc.passes.groups import components, inline_next, inlined, merge_coupled, reads_of
from seqc.passes.linear import NotAffine, read_affine
from seqc.passes.reads import Reader

_VALID = Leaf(LeafKind.READ, VALID, (TOKEN,))
_FRESH = Leaf(LeafKind.READ, FRESH)
_RESTART = Leaf(LeafKind.READ, RESTART)


@dataclass(frozen=True, slots=True)
class Held:
    """What is held: for each held state the value it takes when it is refreshed; and the counter that says when."""

    copies: Mapping[str, Expr]
    now: Mapping[str, Expr]  # the value in use at a token
    counter: State
    period: int


@lru_cache(maxsize=16)
def find_held(recurrence: Recurrence) -> Held | None:
    """The held states of a recurrence, read off its updates; None if there are none (or they have no dual form)."""
    updates = recurrence.updates_by_name
    for state in recurrence.states:
        period = _counts_modulo(state, updates[state.name])
        if period is None:
            continue
        copies: dict[str, Expr] = {}
        now: dict[str, Expr] = {}
        for other in recurrence.states:
            match updates[other.name]:
                case Apply(op="where", args=(condition, value, kept)) as whole if kept is other.leaf:
                    if _is_multiple(condition, state, period):
                        copies[other.name], now[other.name] = value, whole
                case _:
                    pass
        if copies:
            held = Held(copies, now, state, period)
            return held if _separable(recurrence, held) else None
    return None


def _counts_modulo(state: State, update: Expr) -> int | None:
    match update:
        case Apply(op="mod", args=(value, Const(value=period))) if period >= 1 and period == int(period):
            return int(period) if same(value, build.add(state.leaf, Const(1))) else None
        case _:
            return None


def _is_multiple(condition: Expr, counter: State, period: int) -> bool:
    match condition:
        case Apply(op="eq", args=(value, Const(value=0.0))) | Apply(op="eq", args=(Const(value=0.0), value)):
            wrapped = build.apply("mod", counter.leaf, Const(period))
            return value is counter.leaf or value is wrapped
        case _:
            return False


def _opened(recurrence: Recurrence, held: Held) -> tuple[dict[str, Expr], tuple[Expr, ...], dict[Expr, Leaf]]:
    """Updates and outputs of the rest, with the held values as leaves."""
    fixed = [s for s in recurrence.states if s.name in held.copies or s is held.counter]
    free = [s for s in recurrence.states if s not in fixed]
    updates = recurrence.updates_by_name
    exprs = inline_next(fixed, updates, [*(updates[s.name] for s in free), *recurrence.outputs])
    axes = {s.name: s.axes for s in fixed}
    frozen: dict[Expr, Leaf] = {
        expr: Leaf(LeafKind.READ, f"{name}.now", axes[name]) for name, expr in held.now.items()
    }
    exprs = list(substitute(exprs, dict(frozen)))
    return dict(zip((s.name for s in free), exprs, strict=False)), tuple(exprs[len(free) :]), frozen


def opened_updates(recurrence: Recurrence) -> dict[str, Expr]:
    """The updates of what is not held, given the held values; empty where nothing is held."""
    held = find_held(recurrence)
    return {} if held is None else _opened(recurrence, held)[0]


def _separable(recurrence: Recurrence, held: Held) -> bool:
    """Whether, given the held values, everything else is affine and no held state or count is used otherwise."""
    if recurrence.stores:
        return False
    fixed = [s for s in recurrence.states if s.name in held.copies or s is held.counter]
    free = [s for s in recurrence.states if s not in fixed]
    updates, outputs, _ = _opened(recurrence, held)
    if any(reads_of(expr, fixed) for expr in (*updates.values(), *outputs)):
        return False
    try:
        for group in merge_coupled(components(free, updates), updates):
            affine = read_affine(group, inlined(group, updates))
            if affine.rank_ones or _sources(affine.sources, group) is None:
                return False
    except NotAffine:
        return False
    return True


def _sources(
    sources: Mapping[str, Expr], group: Sequence[State]
) -> dict[str, list[tuple[Expr, Expr]]] | None:
    """The sources as products of a factor with the last axis of the memory and one without it."""
    from seqc.passes.linear import separate_source

    axes, keys = group[0].axes, _keys(group)
    result: dict[str, list[tuple[Expr, Expr]]] = {}
    for name, source in sources.items():
        pairs = separate_source(
            source, keys, tuple(a for a in axes if a not in keys and not _mapped(a, source, keys))
        )
        if pairs is None:
            return None
        result[name] = pairs
    return result


def _keys(group: Sequence[State]) -> tuple[str, ...]:
    """The last axis of a matrix memory: what a layer contracts."""
    return group[0].axes[-1:]


def _mapped(axis: str, source: Expr, keys: Sequence[str]) -> bool:
    """Whether every factor with a key axis also has this one: an axis the rule is mapped over."""
    from seqc.passes.canonical import poly

    atoms = [a for monomial in poly(source) for a, _ in monomial if set(a.axes) & set(keys)]
    return bool(atoms) and all(axis in a.axes for a in atoms)


class _Window:
    """One window of `period` tokens as a block."""

    def __init__(self, recurrence: Recurrence, held: Held) -> None:
        self.recurrence, self.held = recurrence, held
        self.builder = StageBuilder("held", held.period, recurrence.sizes, phase=held.counter.name)
        restart = build.apply("gt", _RESTART, ZERO)
        self.start: dict[str, Expr] = {
            s.name: build.where(restart, self._lower(s.initial, {}), s.leaf) for s in recurrence.states
        }
        self.values: dict[Expr, Expr] = {}  # block-level values of leaves that appear at token level

    def _lower(self, expr: Expr, known: Mapping[Expr, Expr]) -> Expr:
        """A token-level expression at block level: what the window does not change comes in as an input."""
        moving = [leaf for leaf in leaves([expr]) if leaf in known]
        mapping = dict(known)
        for _, value in hoist([expr], moving, ""):
            mapping[value] = self.builder.lift_if_varying(value)
        lowered = substitute([expr], mapping)[0]
        inside = set(leaves(mapping.values()))
        rest: dict[Expr, Expr] = {leaf: self.builder.lift_if_varying(leaf) for leaf in leaves([expr])
                if leaf in leaves([lowered]) and leaf not in inside and leaf.kind is not LeafKind.STATE}  # fmt: skip
        return substitute([lowered], rest)[0]

    def lift(self, expr: Expr, padding: float) -> Expr:
        """A coefficient at block level, without effect at tokens that are padding."""
        if not any(leaf in self.values for leaf in leaves([expr])):
            return self.builder.lift(expr, padding)
        real = build.apply("gt", _VALID, ZERO)
        return build.where(real, self._lower(expr, self.values), Const(padding))

    def build(self) -> tuple[Stage, Adjoint, tuple[Expr, ...]]:
        updates, outputs, frozen = _opened(self.recurrence, self.held)
        fresh = build.apply("gt", _FRESH, ZERO)
        starts: dict[Expr, Expr] = {s.leaf: self.start[s.name] for s in self.recurrence.states}
        now: dict[str, Expr] = {}
        for name, value in self.held.copies.items():
            now[name] = build.where(fresh, substitute([value], starts)[0], self._carried(name))
            self.values[frozen[self.held.now[name]]] = now[name]
        last = self._solve(updates, outputs)
        last.update(now)
        last[self.held.counter.name] = self._count()
        names = [s.name for s in self.recurrence.states]
        pairs = [
            (Leaf(LeafKind.READ, f"held.out{k}", axes), self._lower(expr, self.values))
            for k, (expr, axes) in enumerate(zip(self.outputs, self.recurrence.returns, strict=True))
        ]
        stage, adjoint = self.builder.finish(self.recurrence.states, [last[name] for name in names], pairs)
        return stage, adjoint, tuple(leaf for leaf, _ in pairs)

    def _carried(self, name: str) -> Expr:
        return self.recurrence.state(name).leaf

    def _solve(self, updates: dict[str, Expr], outputs: tuple[Expr, ...]) -> dict[str, Expr]:
        """The memories after the window; leaves `self.outputs` over known values only."""
        free = [s for s in self.recurrence.states if s.name in updates]
        left = merge_coupled(components(free, updates), updates)
        last: dict[str, Expr] = {}
        self.outputs = outputs
        while left:
            group, reader = self._next(left)
            left.remove(group)
            self.outputs = reader.replace(self.outputs)
            last.update(self._group(group, updates, reader))
        return last

    def _next(self, left: list[list[State]]) -> tuple[list[State], Reader]:
        found: list[tuple[list[State], Reader]] = []
        for group in left:
            others = [state for g in left if g is not group for state in g]
            trial = Reader(group, f"held.{group[0].name}", others)
            trial.replace(self.outputs)
            found.append((group, Reader(group, f"held.{group[0].name}", others)))
            if not trial.blocked and not any(q.whole for read in trial.reads for q in read.queries):
                return found[-1]
        return found[0]

    def _group(self, group: list[State], updates: dict[str, Expr], reader: Reader) -> dict[str, Expr]:
        affine = read_affine(group, inlined(group, updates))
        sequences = Sequences(affine, self.lift, self.held.period, dict(self.builder.sizes), self.start)
        pairs = _sources(affine.sources, group)
        assert pairs is not None
        for target, products in pairs.items():
            for key, value in products:
                sequences.write(target, key, value, _keys(group))
        for read in reader.reads:
            answers: list[Expr] = []
            for query in read.queries:
                factors = [self._lower(factor, self.values) for factor in query.factors]
                answer = sequences.read(query.state.name, query.after, factors, query.over)
                answers.append(build.rename(answer, dict(query.names)))
            self.values[read.leaf] = build.total(answers)
        return {state.name: sequences.last(state.name) for state in group}

    def _count(self) -> Expr:
        """The number of slots used by the window's tokens, modulo the period."""
        ends = build.mul(_VALID, build.add(Index(TOKEN), Const(1)))
        return build.apply("mod", Reduce("max", (TOKEN,), ends), Const(self.held.period))


def held_stage(recurrence: Recurrence, held: Held) -> tuple[Stage, Adjoint, tuple[Expr, ...]]:
    """The dual form of a recurrence with held states: one stage, and the outputs as its reads."""
    return _Window(recurrence, held).build()


__all__ = ["Held", "depends_on", "find_held", "held_stage"]
