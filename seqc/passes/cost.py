"""What a token costs: operations and bytes, counted on the expressions and never measured.

An addition, a multiplication and any other elementwise function of real numbers are one operation each, so that a
matrix product of n by m is 2·n·m; complex numbers count four times.  A cost grows linearly with the length of the
context where a growing store is read: it is `fixed + context · length`.

Bytes are those of a machine that keeps a token's values near the processor: parameters and states are read where
they are used, states are written back, and a looked-up table costs the rows that are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from seqc.ir.expr import (
    Apply,
    Axes,
    Conv,
    DType,
    Expr,
    Gather,
    Leaf,
    LeafKind,
    Put,
    Rank,
    Reduce,
    Scan,
    Softmax,
    Solve,
    Take,
)
from seqc.ir.paths import NamedState, instances, parameter_table, state_table
from seqc.ir.plan import TOKEN, Plan, Stage
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence, Store
from seqc.ir.traverse import children, walk

WIDTH = 4  # bytes of a number in fp32
SEQUENCE = 2048  # tokens of the sequence that costs are quoted for
TOGETHER = 64  # tokens of a sequence whose attention is computed at once
RANK = 16  # operations an entry: two sorts
SOFTMAX = 4  # operations an entry: maximum, exponential, sum, quotient

# A place in memory, not an operation.
_FREE_OPS = frozenset({"real", "imag", "conj", "complex"})

Whole = Recurrence | Function | Model


@dataclass(frozen=True, slots=True)
class Cost:
    """`once` is paid once a call whatever its length (gates made of parameters alone), the rest for every token."""

    fixed: float = 0.0
    context: float = 0.0
    once: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.fixed + other.fixed, self.context + other.context, self.once + other.once)

    def scaled(self, factor: float) -> Cost:
        return Cost(self.fixed * factor, self.context * factor, self.once * factor)

    def at(self, length: float) -> float:
        """The cost of a token that sees `length` tokens, `once` left out."""
        return self.fixed + self.context * length


@dataclass(frozen=True, slots=True)
class Sizes:
    """The lengths of axes; an axis in `growing` is as long as the context, or as its window."""

    fixed: Mapping[str, int]
    growing: frozenset[str] = frozenset()

    def length(self, axis: str) -> int:
        """`n~2` is an axis that the canonical form gave another name because `n` was taken."""
        return self.fixed[axis] if axis in self.fixed else self.fixed[axis.partition("~")[0]]

    def volume(self, axes: Iterable[str]) -> Cost:
        """How many numbers a value over `axes` has."""
        axes = tuple(axes)
        entries = float(prod(self.length(axis) for axis in axes if axis not in self.growing))
        return Cost(context=entries) if any(axis in self.growing for axis in axes) else Cost(fixed=entries)


def operations(roots: Iterable[Expr], sizes: Sizes) -> Cost:
    """The operations that compute `roots`, common parts once."""
    total = Cost()
    varies: dict[Expr, bool] = {}
    for node in walk(roots):
        varies[node] = _is_input(node) or any(varies[child] for child in children(node))
        cost = _own(node, sizes)
        total += cost if varies[node] else Cost(once=cost.fixed)
    return total


def _is_input(node: Expr) -> bool:
    return isinstance(node, Leaf) and node.kind is not LeafKind.PARAM


def _own(node: Expr, sizes: Sizes) -> Cost:
    """The operations of one node, its children left out."""
    weight = 4.0 if node.dtype is DType.COMPLEX else 1.0
    match node:
        case Apply():
            return Cost() if node.op in _FREE_OPS else sizes.volume(node.axes).scaled(weight)
        case Reduce():
            return sizes.volume(node.arg.axes).scaled(weight)
        case Softmax():
            return sizes.volume(node.axes).scaled(SOFTMAX)
        case Take() | Put():
            return sizes.volume({*node.arg.axes, *node.index.axes}).scaled(weight)
        case Rank():
            return sizes.volume(node.axes).scaled(RANK)
        case Scan():
            columns = node.columns or ("", "")
            return sizes.volume({*node.axes, columns[1]} - {""}).scaled(2 * weight)
        case Solve():
            return sizes.volume({*node.matrix.axes, *node.rhs.axes}).scaled(weight)
        case Conv():
            return sizes.volume((*node.arg.axes, node.taps)).scaled(2 * weight)
        case _:
            return Cost()


def _sizes(owner: Recurrence | Function) -> Sizes:
    if isinstance(owner, Function):
        return Sizes(owner.sizes)
    windows = {store.axis: visible(store) for store in owner.stores}
    bounded = {axis: length for axis, length in windows.items() if length is not None}
    return Sizes({**owner.sizes, **bounded}, frozenset(windows) - frozenset(bounded))


def visible(store: Store) -> int | None:
    """How many entries of a store a token can see at most; None: all of them."""
    return None if store.window is None else store.window + store.sinks


def decode(whole: Whole) -> Cost:
    """Operations of one token that is computed alone, from the definition of every recurrence."""
    return _total(whole, _decode_own)


def prefill(whole: Whole, plan_of: Callable[[Recurrence], Plan]) -> Cost:
    """Operations a token when the whole sequence is computed by the schedules' plans.

    A token of a sequence of length T sees T/2 tokens on average.
    """

    def own(owner: Recurrence | Function) -> Cost:
        return _decode_own(owner) if isinstance(owner, Function) else _planned(plan_of(owner))

    return _total(whole, own)


def _total(whole: Whole, own: Callable[[Recurrence | Function], Cost]) -> Cost:
    known: dict[int, Cost] = {}
    total = Cost()
    for instance in instances(whole):
        owner = instance.owner
        if id(owner) not in known:
            known[id(owner)] = own(owner)
        total += known[id(owner)]
    return total


def _decode_own(owner: Recurrence | Function) -> Cost:
    if isinstance(owner, Function):
        return operations(owner.outputs, _sizes(owner))
    roots = (*owner.updates, *owner.outputs, *(store.value for store in owner.stores))
    return operations(roots, _sizes(owner))


def _planned(plan: Plan) -> Cost:
    token = (*plan.outputs, *(given.value for stage in plan.stages for given in stage.inputs))
    stores = tuple(store.value for store in plan.recurrence.stores)
    cost = operations((*token, *stores), _sizes(plan.recurrence))
    for stage in plan.stages:
        cost += _staged(stage)
    return cost


def _staged(stage: Stage) -> Cost:
    roots = (*(value for _, value in stage.pre), *stage.updates, *(read.value for read in stage.reads))
    tokens = _block(stage)
    block = operations(roots, Sizes({**stage.sizes, TOKEN: tokens}))
    return Cost(block.fixed / tokens, block.context / tokens, block.once)


def _block(stage: Stage) -> int:
    """Tokens a block; a stage whose only block is the sequence is costed at `SEQUENCE` tokens."""
    return stage.block or SEQUENCE


# --- bytes ---------------------------------------------------------------------------------------------------------


def state_bytes(state: NamedState, width: int = WIDTH) -> Cost:
    """Bytes of one state, for one row of a batch; a growing store's are a number a token of context."""
    complex_too = 2 if _number(state) is DType.COMPLEX else 1
    if not isinstance(state.source, Store):
        return Cost(fixed=float(prod(state.shape) * width * complex_too))
    entry = float(prod(state.shape[1:]) * width * complex_too)
    seen = visible(state.source)
    return Cost(context=entry) if seen is None else Cost(fixed=entry * seen)


def _number(state: NamedState) -> DType:
    source = state.source
    match source:
        case Store():
            return source.value.dtype
        case Conv():
            return source.arg.dtype
        case _:
            return source.dtype


def decode_bytes(whole: Whole) -> Cost:
    """Bytes that one token reads and writes: parameters, states before, states after (of a store, one entry)."""
    total = Cost(fixed=_parameter_bytes(whole))
    for state in state_table(whole).values():
        size = state_bytes(state)
        is_store = isinstance(state.source, Store)
        written = Cost(fixed=float(prod(state.shape[1:]) * WIDTH)) if is_store else size
        total += size + written
    return total


def prefill_bytes(whole: Whole, plan_of: Callable[[Recurrence], Plan]) -> Cost:
    """Bytes a token of a long sequence: what passes between operations, and the states once a block.

    Parameters are read once a call (`once`).
    """

    def own(owner: Recurrence | Function) -> Cost:
        return _passed_on(owner) if isinstance(owner, Function) else _plan_bytes(plan_of(owner))

    return _total(whole, own) + Cost(once=_parameter_bytes(whole))


def _passed_on(function: Function) -> Cost:
    """The results of contractions, convolutions and look-ups: written once and read once."""
    sizes = _sizes(function)
    total = Cost()
    for node in walk(function.outputs):
        if isinstance(node, Reduce | Conv | Gather | Softmax):
            total += sizes.volume(node.axes).scaled(2 * WIDTH)
    return total


def _plan_bytes(plan: Plan) -> Cost:
    sizes = _sizes(plan.recurrence)
    passed: list[Axes] = [leaf.axes for leaf in plan.recurrence.inputs]
    passed += [output.axes for output in plan.outputs]
    total = Cost()
    for axes in passed:
        total += sizes.volume(axes).scaled(WIDTH)
    for stage in plan.stages:
        total += _stage_bytes(stage)
    for store in plan.recurrence.stores:
        # Tokens that are computed together read the set together.
        total += sizes.volume((store.axis, *store.axes)).scaled(WIDTH / TOGETHER)
    return total


def _stage_bytes(stage: Stage) -> Cost:
    carried = sum(prod(stage.sizes[axis] for axis in state.axes) for state in stage.carried)
    return Cost(fixed=2.0 * carried * WIDTH / _block(stage))


def _parameter_bytes(whole: Whole) -> float:
    """Bytes of the parameters that a token reads: all of each, or one row of a table that is only looked up."""
    skipped = {
        (id(instance.owner), name): axis
        for instance in instances(whole)
        for name, axis in _looked_up(instance.owner)
    }
    total = 0
    for named in parameter_table(whole).values():
        axis = skipped.get((id(named.owner), named.parameter.name))
        lengths = zip(named.parameter.axes, named.shape, strict=True)
        total += prod(length for own, length in lengths if own != axis) * WIDTH
    return float(total)


def _looked_up(owner: Recurrence | Function) -> Iterator[tuple[str, str]]:
    """The parameters that serve as tables and for nothing else, with the axis that is looked up."""
    if isinstance(owner, Recurrence):
        return
    nodes = list(walk(owner.outputs))
    others = {child for node in nodes for child in children(node) if not isinstance(node, Gather)}
    for node in nodes:
        if isinstance(node, Gather) and isinstance(node.table, Leaf) and node.table not in others:
            yield node.table.name, node.axis
