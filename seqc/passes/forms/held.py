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
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, Axes, Const, Expr, Index, Leaf, LeafKind, Reduce
from seqc.ir.plan import FRESH, RESTART, TOKEN, VALID, Adjoint, Stage
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import leaves, substitute
from seqc.passes.canonical import factors, poly, same, terms
from seqc.passes.forms.kernels import Sequences
from seqc.passes.forms.problem import answers
from seqc.passes.forms.stage import StageBuilder, hoist
from seqc.passes.groups import components, inline_next, inlined, merge_coupled, reads_of
from seqc.passes.linear import Affine, NotAffine, read_affine, separate_source
from seqc.passes.reads import Reader

_VALID = Leaf(LeafKind.READ, VALID, (TOKEN,))
_FRESH = Leaf(LeafKind.READ, FRESH)
_RESTART = Leaf(LeafKind.READ, RESTART)

Products = Sequence[tuple[Expr, Expr]]


@dataclass(frozen=True, slots=True)
class Group:
    """Memories that are solved together, over the held values; each source is a sum of products `key · value`."""

    affine: Affine
    keys: Axes
    sources: Mapping[str, Products]

    @property
    def states(self) -> tuple[State, ...]:
        return self.affine.states


@dataclass(frozen=True, slots=True)
class Held:
    """What is held, and the rest of the recurrence given the held values.

    For each held state `copies` is the value that it takes when it is refreshed, and `now` the value in use at a token,
    which the groups and the outputs know as the leaf `leaf(name, …)`.
    """

    counter: State
    period: int
    copies: Mapping[str, Expr]
    now: Mapping[str, Expr]
    groups: Sequence[Group]
    outputs: tuple[Expr, ...]

    @staticmethod
    def leaf(state: State) -> Leaf:
        return Leaf(LeafKind.READ, f"{state.name}.now", state.axes)


@lru_cache(maxsize=16)
def find_held(recurrence: Recurrence) -> Held | None:
    """The held states of a recurrence, read off its updates; None if there are none (or they have no dual form)."""
    updates = recurrence.updates_by_name
    if recurrence.stores:
        return None
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
            return _open(recurrence, state, period, copies, now)
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


def _open(
    recurrence: Recurrence, counter: State, period: int, copies: dict[str, Expr], now: dict[str, Expr]
) -> Held | None:
    """What is held, if with the held values known everything else is affine and uses neither them nor the count."""
    fixed = [s for s in recurrence.states if s.name in copies or s is counter]
    free = [s for s in recurrence.states if s not in fixed]
    written = recurrence.updates_by_name
    exprs = inline_next(fixed, written, [*(written[s.name] for s in free), *recurrence.outputs])
    exprs = list(substitute(exprs, {now[s.name]: Held.leaf(s) for s in fixed if s is not counter}))
    if any(reads_of(expr, fixed) for expr in exprs):
        return None
    updates = dict(zip((s.name for s in free), exprs, strict=False))
    groups = [_group(states, free, updates) for states in merge_coupled(components(free, updates), updates)]
    found = [group for group in groups if group is not None]
    outputs = tuple(exprs[len(free) :])
    return Held(counter, period, copies, now, found, outputs) if len(found) == len(groups) else None


def _group(states: Sequence[State], free: Sequence[State], updates: Mapping[str, Expr]) -> Group | None:
    """A group in its own past only, with sources that are sums of products; None where it is something else."""
    own = inlined(states, updates)
    if any(reads_of(update, [s for s in free if s not in states]) for update in own):
        return None
    try:
        affine = read_affine(states, own)
    except NotAffine:
        return None
    keys = states[0].axes[-1:]  # what a layer contracts: the last axis of a matrix
    sources = {name: _products(source, states[0].axes, keys) for name, source in affine.sources.items()}
    found = {name: products for name, products in sources.items() if products is not None}
    return Group(affine, keys, found) if len(found) == len(sources) and not affine.rank_ones else None


def _products(source: Expr, axes: Axes, keys: Axes) -> Products | None:
    """A source as products of a factor with the key axis and one without; what has no other axis is one value."""
    columns = tuple(axis for axis in axes if axis not in keys and not _mapped(axis, source, keys))
    return separate_source(source, keys, columns) if columns else [(ONE, source)]


def _mapped(axis: str, source: Expr, keys: Axes) -> bool:
    """Whether every factor with a key axis also has this one: an axis that the rule is mapped over."""
    sides = [f for term in terms(source) for f in factors(term) if set(f.axes) & set(keys)]
    if not sides or not all(axis in side.axes for side in sides):
        sides = [a for monomial in poly(source) for a, _ in monomial if set(a.axes) & set(keys)]
    return bool(sides) and all(axis in side.axes for side in sides)


class _Window:
    """One window of `period` tokens as a block of `slots`, at least as many."""

    def __init__(self, recurrence: Recurrence, held: Held, slots: int) -> None:
        self.recurrence, self.held, self.slots = recurrence, held, slots
        self.builder = StageBuilder("held", slots, recurrence.sizes, phase=held.counter.name)
        restart = build.apply("gt", _RESTART, ZERO)
        self.start: dict[str, Expr] = {
            s.name: build.where(restart, self._lower(s.initial, {}), s.leaf) for s in recurrence.states
        }
        self.values: dict[Expr, Expr] = {}  # block-level values of leaves that appear at token level
        self.masked = False  # whether what is lifted is multiplied by what is 0 at padding

    def _lower(self, expr: Expr, known: Mapping[Expr, Expr]) -> Expr:
        """A token-level expression at block level: what the window does not change comes in as an input."""
        moving = [leaf for leaf in leaves([expr]) if leaf in known]
        mapping = dict(known)
        for _, value in hoist([expr], moving, ""):
            mapping[value] = self.builder.lift_if_varying(value, masked=True)
        lowered = substitute([expr], mapping)[0]
        left = set(leaves([expr])) & set(leaves([lowered])) - set(leaves(mapping.values()))
        rest: dict[Expr, Expr] = {
            leaf: self.builder.lift_if_varying(leaf, masked=True)
            for leaf in leaves([expr])
            if leaf in left and leaf.kind is not LeafKind.STATE
        }
        return substitute([lowered], rest)[0]

    def lift(self, expr: Expr, padding: float) -> Expr:
        """A coefficient at block level, without effect at tokens that are padding."""
        if not self._follows(expr):
            if self.masked:
                return self.builder.lift_if_varying(expr, masked=True)
            return self.builder.lift(expr, padding)
        real = build.apply("gt", _VALID, ZERO)
        return build.where(real, self._lower(expr, self.values), Const(padding))

    def _follows(self, expr: Expr) -> bool:
        """Whether a token-level expression follows from what is known at block level."""
        return any(leaf in self.values for leaf in leaves([expr]))

    def build(self) -> tuple[Stage, Adjoint, tuple[Expr, ...]]:
        recurrence, held = self.recurrence, self.held
        fresh = build.apply("gt", _FRESH, ZERO)
        starts: dict[Expr, Expr] = {s.leaf: self.start[s.name] for s in recurrence.states}
        last: dict[str, Expr] = {held.counter.name: self._count()}
        for name, value in held.copies.items():
            state = recurrence.state(name)
            last[name] = build.where(fresh, substitute([value], starts)[0], state.leaf)
            self.values[Held.leaf(state)] = last[name]
        outputs = self._solve(last)
        pairs = [
            (Leaf(LeafKind.READ, f"held.out{k}", axes), self._lower(expr, self.values))
            for k, (expr, axes) in enumerate(zip(outputs, recurrence.returns, strict=True))
        ]
        updates = [last[state.name] for state in recurrence.states]
        stage, adjoint = self.builder.finish(recurrence.states, updates, pairs)
        return stage, adjoint, tuple(leaf for leaf, _ in pairs)

    def _solve(self, last: dict[str, Expr]) -> tuple[Expr, ...]:
        """The outputs over known values only; the memories after the window go into `last`."""
        left, outputs = list(self.held.groups), self.held.outputs
        while left:
            group, reader, outputs = _next(left, outputs)
            left.remove(group)
            sequences = Sequences(group.affine, self.lift, self.slots, dict(self.builder.sizes), self.start)
            for target, products in group.sources.items():
                for key, value in products:
                    self.masked = self._follows(value)
                    sequences.write(target, key, value, group.keys)
            self.masked = False
            self.values.update(self._answers(reader, sequences))
            last.update({state.name: sequences.last(state.name) for state in group.states})
        return outputs

    def _answers(self, reader: Reader, sequences: Sequences) -> list[tuple[Leaf, Expr]]:
        return answers(
            reader.reads,
            lambda factor: self._lower(factor, self.values),
            lambda q, factors: sequences.read(q.state.name, q.after, factors, q.over),
        )

    def _count(self) -> Expr:
        """The number of slots used by the window's tokens, modulo the period."""
        ends = build.mul(_VALID, build.add(Index(TOKEN), Const(1)))
        return build.apply("mod", Reduce("max", (TOKEN,), ends), Const(self.held.period))


def _next(left: Sequence[Group], outputs: tuple[Expr, ...]) -> tuple[Group, Reader, tuple[Expr, ...]]:
    """The next group to solve, with what the outputs read of it; one that is read by contractions only, if possible."""
    found: list[tuple[Group, Reader, tuple[Expr, ...]]] = []
    for group in left:
        others = [state for g in left if g is not group for state in g.states]
        reader = Reader(group.states, f"held.{group.states[0].name}", others)
        found.append((group, reader, reader.replace(outputs)))
        if not reader.blocked and not any(q.whole for read in reader.reads for q in read.queries):
            return found[-1]
    return found[0]


def held_stage(
    recurrence: Recurrence, held: Held, slots: int | None = None
) -> tuple[Stage, Adjoint, tuple[Expr, ...]]:
    """The dual form of a recurrence with held states: one stage, and the outputs as its reads.

    A block has as many slots as a window has tokens, or more, which are always empty.
    """
    return _Window(recurrence, held, slots or held.period).build()
