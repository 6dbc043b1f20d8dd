"""From a recurrence to what a translation unit computes: one token, forwards and backwards, and what tokens share.

Everything is real here (`planes.py`).  A `Task` is straight-line work over named axes: it reads leaves and writes
targets.  Five tasks make a unit:

- `prepare`: from the parameters, once a call, the constants: values that no token changes, and the initial states;
- `token`: the states after a token and the outputs; `advance`: the states alone;
- `reverse`: from the cotangents of a token's outputs and of the states after it, those of its inputs, of the states
  before it and (added up over the tokens) of the constants;
- `prepare_reverse`: the cotangents of the parameters from those of the constants.

Where a block of tokens is products of matrices, there are a `block`, its advance and its reverse too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from seqc.ir.build import ZERO, add, match_axes
from seqc.ir.expr import DType, Expr, Leaf, LeafKind
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import leaves, substitute, walk
from seqc.passes.derive import NotDifferentiable, pullback
from seqc.passes.forms.kernels import size_of
from seqc.passes.forms.stage import hoist

from .blocks import blocked
from .diagnose import Unsupported
from .planes import split
from .rewrite import simplified

TOKEN_TASKS = ("token", "advance", "reverse")
LARGEST = 256  # expressions of a block; more take longer to bring into loops than they would save
BLOCK_TASKS = ("block", "advance_block", "reverse_block")


@dataclass(frozen=True, eq=False, slots=True)
class Target:
    """A tensor that a task writes over the axes of `leaf`; with `adds` it adds to what is there.

    A sum may be several targets: `more` of them follow.  One that is `alone` is a product of matrices and nothing else.
    """

    leaf: Leaf
    value: Expr
    adds: bool = False
    more: bool = False
    alone: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    name: str
    targets: tuple[Target, ...]

    @property
    def reads(self) -> tuple[Leaf, ...]:
        return tuple(leaves(target.value for target in self.targets))


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """A recurrence as tasks; `outputs` and the cotangents are leaves that name what is written and read."""

    recurrence: Recurrence
    inputs: tuple[Leaf, ...]
    states: tuple[State, ...]
    parameters: tuple[Leaf, ...]
    constants: tuple[Leaf, ...]
    initial: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    prepare: Task
    token: Task
    advance: Task
    reverse: Task
    prepare_reverse: Task
    sizes: Mapping[str, int]
    block: Program | None = None
    ahead: bool = True  # whether blocks are taken forwards, not only backwards


def program(recurrence: Recurrence) -> Program:
    """The tasks of a recurrence.  Raises `Unsupported`."""
    if recurrence.stores:
        raise Unsupported("a store grows: attention is matrix products over all pairs of tokens")
    real = split(recurrence)
    moving: list[Expr] = [*real.inputs, *(s.leaf for s in real.states), *(s.next for s in real.states)]
    hoisted = hoist([*real.updates, *real.outputs], moving, "%c")
    known = {expr: leaf for leaf, expr in hoisted}
    updates = tuple(substitute(real.updates, known))
    outputs = tuple(substitute(real.outputs, known))
    direct = [leaf for leaf in leaves([*updates, *outputs]) if leaf.kind is LeafKind.PARAM]
    shared = {**dict(hoisted), **{_copy(leaf): leaf for leaf in direct}}
    renamed: dict[Expr, Expr] = {leaf: _copy(leaf) for leaf in direct}
    updates, outputs = tuple(substitute(updates, renamed)), tuple(substitute(outputs, renamed))
    initial = {Leaf(LeafKind.READ, f"%{s.name}.initial", s.axes): s.initial for s in real.states}
    tokens = _assembled(real, updates, outputs, shared, initial)
    return replace(tokens, block=_block(replace(real, updates=updates, outputs=outputs), shared, initial))


def _block(tokens: Recurrence, shared: Mapping[Leaf, Expr], initial: Mapping[Leaf, Expr]) -> Program | None:
    """The same over blocks of tokens, or None where that is not products of matrices, or too many of them."""
    whole = blocked(tokens)
    if whole is None or sum(1 for _ in walk([*whole.updates, *whole.outputs])) > LARGEST:
        return None
    try:
        return _assembled(whole, whole.updates, whole.outputs, shared, initial, BLOCK_TASKS)
    except Unsupported:
        return None


def _copy(leaf: Leaf) -> Leaf:
    return Leaf(LeafKind.READ, leaf.name, leaf.axes)


def _assembled(
    real: Recurrence,
    updates: Sequence[Expr],
    outputs: Sequence[Expr],
    shared: Mapping[Leaf, Expr],
    initial: Mapping[Leaf, Expr],
    names: Sequence[str] = TOKEN_TASKS,
) -> Program:
    results = tuple(
        Leaf(LeafKind.READ, "%out" if len(outputs) == 1 else f"%out{k}", axes)
        for k, axes in enumerate(real.returns)
    )
    after = tuple(Target(state.next, update) for state, update in zip(real.states, updates, strict=True))
    out = tuple(Target(leaf, value) for leaf, value in zip(results, outputs, strict=True))
    constants = {**shared, **initial}
    found = [Target(leaf, expr) for leaf, expr in constants.items()]
    parameters = tuple(p.leaf for p in real.parameters if p.leaf in leaves(constants.values()))
    written: dict[Expr, Expr] = dict(zip((s.next for s in real.states), updates, strict=True))
    tasks = [
        Task("prepare", tuple(found)),
        Task(names[0], _inlined((*after, *out), written)),
        Task(names[1], _inlined(after, written)),
        Task(names[2], _reverse(real, updates, outputs, results, differentiable(shared))),
        Task("prepare_reverse", _cotangents(constants, parameters)),
    ]
    prepare, token, advance, reverse, prepare_reverse = (simplified_task(task) for task in tasks)
    axes = {a for task in (prepare, token, reverse, prepare_reverse) for t in task.targets for a in _axes(t)}
    sizes = {**real.sizes, **{axis: size_of(axis, real.sizes) for axis in sorted(axes)}}
    return Program(
        real, real.inputs, real.states, parameters, tuple(shared), tuple(initial), results,
        prepare, token, advance, reverse, prepare_reverse, sizes,
    )  # fmt: skip


def _axes(target: Target) -> set[str]:
    return {*target.leaf.axes, *(axis for node in walk([target.value]) for axis in node.axes)}


def simplified_task(task: Task) -> Task:
    values = simplified([target.value for target in task.targets])
    kept = zip(task.targets, values, strict=True)
    return Task(task.name, tuple(Target(target.leaf, value, target.adds) for target, value in kept))


def _inlined(targets: Sequence[Target], written: Mapping[Expr, Expr]) -> tuple[Target, ...]:
    """Targets in which the state after the token is written out."""
    values: tuple[Expr, ...] = tuple(target.value for target in targets)
    while any(leaf in written for leaf in leaves(values)):
        values = tuple(substitute(values, dict(written)))
    return tuple(Target(t.leaf, value) for t, value in zip(targets, values, strict=True))


# --- Backwards ----------------------------------------------------------------------------------------------


def cotangent(leaf: Leaf) -> Leaf:
    """The cotangent of a result or of a state after the token."""
    kind = "next" if leaf.kind is LeafKind.NEXT else "out"
    return Leaf(LeafKind.COTANGENT, f"{kind}.{leaf.name}", leaf.axes)


def gradient(leaf: Leaf) -> Leaf:
    """Where the cotangent of what a token reads is written."""
    kind = {LeafKind.STATE: "before", LeafKind.INPUT: "in", LeafKind.PARAM: "parameter"}.get(
        leaf.kind, "constant"
    )
    return Leaf(LeafKind.COTANGENT, f"{kind}.{leaf.name}", leaf.axes)


def differentiable(given: Iterable[Leaf]) -> tuple[Leaf, ...]:
    return tuple(leaf for leaf in given if leaf.dtype is DType.REAL)


def _reverse(
    real: Recurrence,
    updates: Sequence[Expr],
    outputs: Sequence[Expr],
    results: Sequence[Leaf],
    constants: Sequence[Leaf],
) -> tuple[Target, ...]:
    """States after the token are known here: a token's updates are taken from the last to the first."""
    inputs = differentiable(real.inputs)
    before = [state.leaf for state in real.states]
    after = [state.next for state in real.states]
    wanted: list[Expr] = [*before, *after, *inputs, *constants]
    flowing: dict[Expr, Expr] = dict.fromkeys(wanted, ZERO)
    given: dict[Expr, Expr] = {}
    for value, leaf in zip(outputs, results, strict=True):
        given[value] = add(given.get(value, ZERO), match_axes(cotangent(leaf), value.axes))
    _flow(given, flowing)
    for state, update in reversed(ordered(real.states, updates)):
        g = add(cotangent(state.next), flowing[state.next])
        _flow({update: match_axes(g, update.axes)}, flowing)
    targets = [Target(gradient(leaf), flowing[leaf]) for leaf in (*before, *inputs)]
    return (*targets, *(Target(gradient(leaf), flowing[leaf], adds=True) for leaf in constants))


def _flow(given: Mapping[Expr, Expr], flowing: dict[Expr, Expr]) -> None:
    wanted = list(flowing)
    try:
        found = pullback(given, wanted)
    except NotDifferentiable as error:
        raise Unsupported(f"there is no derivative of `{type(error.node).__name__.lower()}`") from error
    for node, g in zip(wanted, found, strict=True):
        flowing[node] = add(flowing[node], g)


def ordered(states: Sequence[State], updates: Sequence[Expr]) -> list[tuple[State, Expr]]:
    """States and updates, each after those whose values after the token it refers to."""
    left, done = list(zip(states, updates, strict=True)), list[tuple[State, Expr]]()
    nexts = [s.next for s in states]
    while left:
        known = {state.next for state, _ in done}
        pair = next(p for p in left if all(leaf in known for leaf in leaves([p[1]]) if leaf in nexts))
        left.remove(pair)
        done.append(pair)
    return done


def _cotangents(constants: Mapping[Leaf, Expr], parameters: Sequence[Leaf]) -> tuple[Target, ...]:
    given: dict[Expr, Expr] = {}
    for leaf in differentiable(constants):
        value = constants[leaf]
        g = match_axes(gradient(leaf), value.axes)
        given[value] = add(given.get(value, ZERO), g)
    flowing: dict[Expr, Expr] = dict.fromkeys(parameters, ZERO)
    if flowing:
        _flow(given, flowing)
    return tuple(Target(gradient(leaf), flowing[leaf]) for leaf in parameters)
