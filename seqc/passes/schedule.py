"""From a recurrence to a plan: the parallel form that its structure allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import Apply, Axes, Const, Expr, Index, Leaf, LeafKind, Reduce, Rename, depends_on, leaves, substitute
from seqc.ir.plan import OTHER, TOKEN, Adjoint, Plan, Stage
from seqc.ir.recurrence import Recurrence, State
from seqc.passes.classify import classify
from seqc.passes.groups import components, inlined, merge_coupled, reads_of, with_resets
from seqc.passes.held import find_held, held_stage
from seqc.passes.kernels import Sequences, Written
from seqc.passes.linear import Affine, NotAffine, read_affine, separate_source
from seqc.passes.reads import Query, Read, Reader
from seqc.passes.stages import StageBuilder, hoist, varies

SCALAR_BLOCK = 64  # tokens a block where a gate is one number a head
VECTOR_BLOCK = 16  # where a gate differs along an axis of the state
SCAN_BLOCK = 32
LOWEST = Const(-3.0e38)


class Unschedulable(Exception):
    """No schedule of the asked kind; `why` completes the sentence "`mode` is not possible, because …"."""

    def __init__(self, why: str, node: Expr | None = None) -> None:
        super().__init__(why)
        self.why, self.node = why, node


@dataclass(slots=True)
class _Scheduler:
    mode: str | None
    sizes: Mapping[str, int]
    updates: dict[str, Expr]
    tail: tuple[Expr, ...]  # outputs, then the values of stores
    stages: list[Stage] = field(default_factory=list[Stage])
    adjoints: list[Adjoint] = field(default_factory=list[Adjoint])
    used: set[str] = field(default_factory=set[str])

    def run(self, groups: Sequence[list[State]]) -> None:
        left = list(groups)
        while left:
            group, reader, exprs = self._next(left)
            left.remove(group)
            later = [state for g in left for state in g]
            updates = inlined(group, self.updates)
            self.updates.update(zip((s.name for s in later), exprs, strict=False))
            self.tail = exprs[len(later) :]
            if any(leaf.kind in (LeafKind.STORE, LeafKind.STORED) for leaf in leaves(updates)):
                raise Unschedulable("a state depends on the entries of a growing store", updates[0])
            stage, adjoint, how = self._stage(reader.prefix, group, updates, reader.reads)
            self.used.add(how)
            self.stages.append(stage)
            self.adjoints.append(adjoint)

    def _next(self, left: list[list[State]]) -> tuple[list[State], Reader, tuple[Expr, ...]]:
        """A group that no unsolved one comes before, if possible one whose queries need no unsolved one either."""
        candidates: list[tuple[list[State], Reader, tuple[Expr, ...]]] = []
        for group in left:
            others = [state for g in left if g is not group for state in g]
            if any(reads_of(self.updates[state.name], others) for state in group):
                continue
            reader = Reader(group, "_".join(state.name for state in group), others)
            candidates.append((group, reader, reader.replace([*(self.updates[s.name] for s in others), *self.tail])))
            if not reader.blocked:
                break
        return next((c for c in candidates if not c[1].blocked), candidates[0])

    def _stage(
        self, name: str, group: list[State], updates: list[Expr], reads: list[Read]
    ) -> tuple[Stage, Adjoint, str]:
        if self.mode != "loop":
            try:
                affine = read_affine(group, updates)
                return self._affine(name, affine, reads)
            except NotAffine:
                pass
            if len(group) == 1 and (form := max_plus_form(group[0], updates[0])) is not None:
                return (*_max_plus_stage(name, group[0], form, reads, self.sizes), "scan")
            if self.mode in ("scan", "chunk"):
                raise Unschedulable(f"the update of `{group[0].name}` is not affine in the state", updates[0])
        return (*_loop_stage(name, group, updates, reads, self.sizes), "loop")

    def _affine(self, name: str, affine: Affine, reads: list[Read]) -> tuple[Stage, Adjoint, str]:
        if _delays(affine):
            return (*_delay_stage(name, affine, reads, self.sizes), "scan")
        shape = chunk_shape(affine, reads)
        if shape is not None and self.mode != "scan":
            return (*_chunk_stage(name, affine, reads, shape, self.sizes), "chunk")
        if affine.rank_ones:
            if shape is None or self.mode == "scan":
                raise NotAffine(affine.rank_ones[0].write, "has rank-one terms, and the whole state is needed, in")
        if self.mode == "chunk" and len(affine.states[0].axes) > 1:
            raise Unschedulable("no read contracts the state, so there is nothing to gain from matrix products")
        return (*_scan_stage(name, affine, reads, self.sizes), "scan")


def schedule(recurrence: Recurrence, mode: str | None = None) -> Plan:
    """The plan of a recurrence: the best one, or the one of a `mode` (`scan`, `chunk`, `loop`).

    Raises `Unschedulable` when its class does not allow the mode.
    """
    classes = classify(recurrence)
    held = find_held(recurrence)
    if held is not None and mode in (None, "chunk"):
        stage, adjoint, outputs = held_stage(recurrence, held)
        return Plan(recurrence, "chunk", ("chunk", "loop"), classes, (stage,), (adjoint,), outputs)
    plan = _schedule(recurrence, mode)
    modes = tuple(m for m in ("scan", "chunk", "loop") if _allowed(recurrence, m)) if mode is None else (mode,)
    if held is not None:
        modes = ("loop",)
    return Plan(recurrence, plan[0], modes, classes, *plan[1:])


def _allowed(recurrence: Recurrence, mode: str) -> bool:
    try:
        used = _schedule(recurrence, mode)[0]
    except Unschedulable:
        return False
    return used == mode


def _schedule(
    recurrence: Recurrence, mode: str | None
) -> tuple[str, tuple[Stage, ...], tuple[Adjoint, ...], tuple[Expr, ...]]:
    ready = with_resets(recurrence)
    updates = ready.updates_by_name
    tail = (*ready.outputs, *(store.value for store in ready.stores))
    scheduler = _Scheduler(mode, recurrence.sizes, dict(updates), tail)
    groups = merge_coupled(components(ready.states, updates), updates)
    if mode == "loop" and groups:
        groups = [[state for group in groups for state in group]]
    scheduler.run(groups)
    if recurrence.stores:
        used = "attention"
    else:
        used = next((m for m in ("loop", "chunk", "scan") if m in scheduler.used), "scan")
    return used, tuple(scheduler.stages), tuple(scheduler.adjoints), scheduler.tail


# --- affine groups ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChunkShape:
    """How a chunked form sees the axes of a group: contracted `keys`, and `columns` that ride along."""

    keys: Axes
    columns: Axes
    block: int
    sources: Mapping[str, list[tuple[Expr, Expr]]]


def chunk_shape(affine: Affine, reads: Sequence[Read]) -> ChunkShape | None:
    """The chunked form of an affine group, or None where it would write the states out anyway."""
    queries = [query for read in reads for query in read.queries]
    axes = affine.states[0].axes
    if any(query.whole for query in queries) or any(state.axes != axes for state in affine.states):
        return None
    keys = _keys(affine, queries)
    if keys is None:
        return None
    batch = _batch_axes(affine, keys)
    columns = tuple(a for a in axes if a not in keys and a not in batch)
    if not columns and not affine.rank_ones and set(keys) != set(axes):
        return None
    sources: dict[str, list[tuple[Expr, Expr]]] = {}
    for name, source in affine.sources.items():
        separated = separate_source(source, keys, columns)
        if separated is None:
            return None
        sources[name] = separated
    gates = {axis for decay in affine.diagonal.values() for axis in decay.axes}
    if not affine.rank_ones and gates >= set(axes):
        return None
    wide = bool(gates & {*keys, *columns}) or _uneven(affine, gates, keys)
    return ChunkShape(keys, columns, VECTOR_BLOCK if wide else SCALAR_BLOCK, sources)


def _keys(affine: Affine, queries: Sequence[Query]) -> Axes | None:
    if affine.rank_ones:
        found = {term.keys for term in affine.rank_ones}
        return next(iter(found)) if len(found) == 1 else None
    return next((query.over for query in queries), None)


def _batch_axes(affine: Affine, keys: Axes) -> set[str]:
    """Axes that the key side depends on besides the keys: every entry along them has kernels of its own."""
    from seqc.passes.canonical import poly

    exprs = [*affine.sources.values(), *affine.diagonal.values()]
    atoms = [atom for expr in exprs for monomial in poly(expr) for atom, _ in monomial]
    atoms += [side for term in affine.rank_ones for side in (term.write, term.read)]
    linked = {axis for atom in atoms if set(atom.axes) & set(keys) for axis in atom.axes}
    gates = {axis for decay in affine.diagonal.values() for axis in decay.axes}
    return (linked | gates) - set(keys)


def _uneven(affine: Affine, gates: set[str], keys: Axes) -> bool:
    """Whether some gate has an axis that the keys do not have, so that kernels are wider than scores."""
    if affine.rank_ones:
        sides = [set(term.read.axes) for term in affine.rank_ones]
    else:
        sides = [set(source.axes) for source in affine.sources.values()]
    shared = set.intersection(*sides) if sides else set[str]()
    return bool(gates - shared)


def _chunk_stage(
    name: str, affine: Affine, reads: list[Read], shape: ChunkShape, sizes: Mapping[str, int]
) -> tuple[Stage, Adjoint]:
    builder = StageBuilder(name, shape.block, sizes)
    sequences = Sequences(affine, builder.lift, shape.block, dict(builder.sizes))
    for target, pairs in shape.sources.items():
        for key, value in pairs:
            sequences.write(target, key, value, shape.keys)
    return _finish(builder, affine.states, sequences, reads)


def _scan_stage(name: str, affine: Affine, reads: list[Read], sizes: Mapping[str, int]) -> tuple[Stage, Adjoint]:
    builder = StageBuilder(name, SCAN_BLOCK, sizes)
    written = Written(affine, builder.lift, SCAN_BLOCK, dict(builder.sizes))
    return _finish(builder, affine.states, written, reads)


def _finish(
    builder: StageBuilder, states: Sequence[State], sequences: Sequences | Written, reads: Sequence[Read]
) -> tuple[Stage, Adjoint]:
    values: list[tuple[Leaf, Expr]] = []
    for read in reads:
        total = build.total(_answer(builder, sequences, query) for query in read.queries)
        values.append((read.leaf, total))
    return builder.finish(states, [sequences.last(state.name) for state in states], values)


def _answer(builder: StageBuilder, sequences: Sequences | Written, query: Query) -> Expr:
    factors = [builder.lift_if_varying(factor) for factor in query.factors]
    value = sequences.read(query.state.name, query.after, factors, query.over)
    return build.rename(value, dict(query.names))


def _delays(affine: Affine) -> bool:
    return not affine.diagonal and not affine.rank_ones


def _delay_stage(name: str, affine: Affine, reads: list[Read], sizes: Mapping[str, int]) -> tuple[Stage, Adjoint]:
    """States that only remember the last token: one block as long as the sequence, and a shift."""
    builder = StageBuilder(name, 0, sizes)
    written = Written(affine, builder.lift, 0, dict(builder.sizes))
    return _finish(builder, affine.states, written, reads)


# --- max-plus --------------------------------------------------------------------------------------------------------


def max_plus_form(state: State, update: Expr) -> tuple[Expr, Expr] | None:
    """`(f, i)` with `state' = max(f + state, i)`, or None."""
    shifts: list[Expr] = []
    floors: list[Expr] = []
    stack = [update]
    dependent = depends_on([update], [state.leaf])
    while stack:
        node = stack.pop()
        if node not in dependent:
            floors.append(node)
        elif isinstance(node, Apply) and node.op == "max":
            stack.extend(node.args)
        else:
            try:
                affine = read_affine([state], [node])
            except NotAffine:
                return None
            if affine.rank_ones or not _unit(affine.decay(state)):
                return None
            shift = affine.sources.get(state.name, ZERO)
            decay = affine.decay(state)
            if isinstance(decay, Apply):  # where a reset cuts the past off, the shifted initial value is a floor
                floors.append(build.where(decay.args[0], shift, LOWEST))
                shift = build.where(decay.args[0], LOWEST, shift)
            shifts.append(shift)
    if len(shifts) != 1 or not floors:
        return None
    floor = floors[0]
    for other in floors[1:]:
        floor = build.apply("max", floor, other)
    return shifts[0], floor


def _unit(decay: Expr) -> bool:
    """Whether a coefficient is 1, or 1 except where a reset cuts the past off."""
    if isinstance(decay, Const):
        return decay.value == 1.0
    return isinstance(decay, Apply) and decay.op == "where" and decay.args[1:] == (ZERO, Const(1.0))


def _max_plus_stage(
    name: str, state: State, form: tuple[Expr, Expr], reads: list[Read], sizes: Mapping[str, int]
) -> tuple[Stage, Adjoint]:
    """`m[i] = max(Σ_{l≤i} f_l + m_c, max_{j≤i} (Σ_{j<l≤i} f_l + floor_j))`, the sums masked and never subtracted."""
    from seqc.ir.expr import Scan

    block = VECTOR_BLOCK if state.axes else SCALAR_BLOCK
    builder = StageBuilder(name, block, sizes)
    one = Const(1.0)
    shift = builder.lift(form[0], 0.0) if form[0] is not ZERO else ZERO
    floor = builder.lift(form[1], LOWEST.value)
    later = build.apply("gt", Index(TOKEN), Index(OTHER))
    between = ZERO if shift is ZERO else Scan(one, build.where(later, shift, ZERO), TOKEN)
    known = build.apply("ge", Index(TOKEN), Index(OTHER))
    entries = build.where(known, build.add(between, build.rename(floor, {TOKEN: OTHER})), LOWEST)
    carried = build.add(state.leaf, ZERO if shift is ZERO else Scan(one, shift, TOKEN))
    value = build.apply("max", carried, Reduce("max", (OTHER,), entries))
    from seqc.passes.kernels import earlier

    before = earlier(value, state.leaf)
    pairs: list[tuple[Leaf, Expr]] = []
    for read in reads:
        answers: list[Expr] = []
        for query in read.queries:
            factors = [builder.lift_if_varying(f) for f in query.factors]
            whole = value if query.after else before
            answers.append(build.rename(build.sum_over(query.over, build.product([*factors, whole])), dict(query.names)))
        pairs.append((read.leaf, build.total(answers)))
    return builder.finish([state], [build.at(value, TOKEN, block - 1)], pairs)


# --- everything else: a loop -----------------------------------------------------------------------------------------


def _loop_stage(
    name: str, group: Sequence[State], updates: Sequence[Expr], reads: Sequence[Read], sizes: Mapping[str, int]
) -> tuple[Stage, Adjoint]:
    """One token a step, with all that does not depend on the states computed beforehand for all tokens."""
    builder = StageBuilder(name, 1, sizes)
    states: list[Expr] = [state.leaf for state in group]
    mapping: dict[Expr, Expr] = {value: builder.lift_if_varying(value) for _, value in hoist(updates, states, name)}
    lifted = set(mapping.values())
    for leaf in leaves(substitute(updates, mapping)):
        if leaf not in lifted and leaf not in states:
            mapping[leaf] = builder.lift_if_varying(leaf)
    advanced = substitute(updates, mapping)
    after = dict(zip((state.name for state in group), advanced, strict=True))
    pairs: list[tuple[Leaf, Expr]] = []
    for read in reads:
        answers: list[Expr] = []
        for query in read.queries:
            value = after[query.state.name] if query.after else query.state.leaf
            factors = [builder.lift_if_varying(f) for f in query.factors]
            answers.append(build.rename(build.sum_over(query.over, build.product([*factors, value])), dict(query.names)))
        pairs.append((read.leaf, build.total(answers)))
    return builder.finish(group, advanced, pairs)


__all__ = ["Plan", "Rename", "Unschedulable", "chunk_shape", "reads_of", "schedule"]
