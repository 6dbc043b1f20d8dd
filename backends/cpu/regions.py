"""What stands between the matrix products of a block, as recurrences: elementwise operations, sums, convolutions.

A region is a part of a block's program that hangs together, be it by a value that it reads.  Every operation in it
works on a token by itself or, a causal convolution or a delay, on the last few; and makes no more numbers than one of
its operands has, so that products of matrices are no part of it.  As a recurrence its states are the values that
convolutions and delays look back on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from seqc.ir.build import ZERO, add, at, mul
from seqc.ir.expr import (
    Apply,
    At,
    Axes,
    Const,
    Conv,
    DType,
    Expr,
    Index,
    Invoke,
    Item,
    Leaf,
    LeafKind,
    Reduce,
    Rename,
    Size,
    Slice,
)
from seqc.ir.ops import RANDOM, is_const
from seqc.ir.program import Function, Repeat
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import children, leaves, substitute, walk

WIDEST = 16  # tokens that a convolution in a region looks at, at most
FEWEST = 2  # operations of a region
STILL = (Const, Size, Index, Reduce, Rename)


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """A state of the block, and the `states` of a recurrence that hold it.

    If `stacked` it is the last inputs of a convolution, oldest first, else the last value of a delay.
    """

    name: str
    states: tuple[str, ...]
    stacked: bool


@dataclass(frozen=True, eq=False, slots=True)
class Delay:
    """`value` a token later: what a rule gives whose state `name` is its input."""

    value: Expr
    name: str
    axes: Axes


@dataclass(frozen=True, eq=False, slots=True)
class Region:
    """A part of a block as a recurrence of the values `args` and of parameters of the block."""

    rule: Recurrence
    args: tuple[Expr, ...]
    outputs: tuple[Expr, ...]
    windows: tuple[Window, ...]

    @property
    def given(self) -> tuple[tuple[str, Expr], ...]:
        return tuple((parameter.name, parameter.leaf) for parameter in self.rule.parameters)


def regions(function: Function) -> list[Region]:
    """The regions of a block, each after those that it depends on."""
    return _Search(function).found()


def called(function: Function, chosen: Sequence[Region]) -> Function:
    """The same block with regions as calls."""
    known: dict[Expr, Expr] = {}
    for region in chosen:
        args = substitute(region.args, known)
        call = Invoke(region.rule.name, region.rule, args, region.given)
        for k, output in enumerate(region.outputs):
            known[output] = Item(call, k)
    names, values = [name for name, _ in function.bindings], [value for _, value in function.bindings]
    return Function(
        function.name,
        function.inputs,
        function.parameters,
        tuple(zip(names, substitute(values, known), strict=True)),
        substitute(function.outputs, known),
        function.returns,
        function.sizes,
        function.origins,
    )


@dataclass(slots=True)
class _Search:
    """Operations are put as late as whoever needs them allows: `level` counts what is no part of a region before."""

    function: Function
    nodes: list[Expr] = field(init=False)
    delays: dict[Expr, Delay] = field(init=False)
    still: set[Expr] = field(default_factory=set[Expr])  # made of parameters and numbers alone
    inside: set[Expr] = field(default_factory=set[Expr])  # what may be part of a region
    least: dict[Expr, int] = field(default_factory=dict[Expr, int])  # the same, as early as possible
    level: dict[Expr, int] = field(default_factory=dict[Expr, int])
    users: dict[Expr, list[Expr]] = field(default_factory=dict[Expr, list[Expr]])

    def __post_init__(self) -> None:
        found = {node: delayed(node) for node in walk(self.function.outputs)}
        self.delays = {node: delay for node, delay in found.items() if delay is not None}
        self.nodes = self._walked()
        for node in self.nodes:
            for child in self._operands(node):
                self.users.setdefault(child, []).append(node)
            if _is_still(node, self.still):
                self.still.add(node)
            elif self._joins(node):
                self.inside.add(node)

    def found(self) -> list[Region]:
        self._levels()
        members: dict[Expr, set[Expr]] = {}  # of each node's group
        homes: dict[tuple[int, Expr], Expr] = {}  # who reads a value first
        for node in self.nodes:
            if node in self.inside:
                members[node] = {node}
                for child in self._operands(node):
                    if child in self.inside and self.level[child] == self.level[node]:
                        _unite(members, node, child)
                    elif child not in self.still:
                        _unite(members, node, homes.setdefault((self.level[node], child), node))
        groups = {id(group): group for group in members.values()}.values()
        names = _Fresh(set())
        made = [
            self._region(group, names) for group in sorted(groups, key=lambda g: self.level[next(iter(g))])
        ]
        return [region for region in made if region is not None]

    def _operands(self, node: Expr) -> tuple[Expr, ...]:
        return (self.delays[node].value,) if node in self.delays else children(node)

    def _walked(self) -> list[Expr]:
        """All nodes, operands first; of delays what they delay alone."""
        done: dict[Expr, None] = {}
        stack = [(node, False) for node in reversed(self.function.outputs)]
        while stack:
            node, ready = stack.pop()
            if node in done:
                continue
            if ready:
                done[node] = None
                continue
            stack.append((node, True))
            stack += [(child, False) for child in reversed(self._operands(node)) if child not in done]
        return list(done)

    # --- what belongs together ------------------------------------------------------------------------------------

    def _joins(self, node: Expr) -> bool:
        """Whether an operation may be part of a region."""
        if node in self.delays:
            return self.delays[node].value not in self.still and self._sees(node)
        match node:
            case Apply():
                axes = set(node.axes)
                if node.dtype is DType.COMPLEX or node.op in RANDOM:
                    return False
                return any(c not in self.still and axes <= set(c.axes) for c in node.args) and self._sees(
                    node
                )
            case Reduce():
                arg = node.arg
                return (not isinstance(arg, Apply) or arg in self.inside) and self._sees(node)
            case Conv():
                width = self.function.sizes.get(node.taps, 0)
                filters = {c for c in (node.weight, node.bias) if c is not None}
                alike = set(node.axes) == set(node.arg.axes) and node.arg not in self.still
                return alike and filters <= self.still and 1 < width <= WIDEST and self._sees(node)
            case _:
                return False

    def _sees(self, node: Expr) -> bool:
        """Whether all that an operation takes can be handed to a region: no part of a tensor, which has gaps."""
        known = self.still | self.inside
        given = [child for child in self._operands(node) if child not in known]
        return node.dtype in (DType.REAL, DType.BOOL) and all(
            child.dtype is DType.REAL and not isinstance(_bare(child), Slice | At) for child in given
        )

    def _levels(self) -> None:
        least = self.least
        for node in self.nodes:
            apart = node not in self.still and node not in self.inside
            least[node] = max((least[c] for c in self._operands(node)), default=0) + apart
        outputs, last = set(self.function.outputs), max(least.values(), default=0) + 1
        for node in reversed(self.nodes):
            if node in self.inside:
                ends = [last] if node in outputs else []
                self.level[node] = min([*ends, *(self.level[user] for user in self.users.get(node, []))])
            else:
                self.level[node] = least[node] - 1

    # --- as recurrences -------------------------------------------------------------------------------------------

    def _region(self, group: set[Expr], names: _Fresh) -> Region | None:
        """A group as a recurrence; None if it is too small, or hands on what is no number."""
        ends = set(self.function.outputs)
        inner = [node for node in self.nodes if node in group]
        outputs = [
            node
            for node in inner
            if node in ends or any(user not in group for user in self.users.get(node, []))
        ]
        if any(out.dtype is not DType.REAL for out in outputs):
            return None
        outside = (child for node in inner for child in self._operands(node) if child not in group)
        # What takes longest to compute comes first, so that little waits for it.
        args = sorted(
            dict.fromkeys(child for child in outside if child not in self.still),
            key=lambda arg: -self.least[arg],
        )
        region = self._recurrence(inner, args, outputs)
        roots = [*region.rule.outputs, *region.rule.updates]
        if sum(isinstance(node, Apply | Reduce) for node in walk(roots)) < FEWEST:
            return None
        return replace(region, rule=replace(region.rule, name=names.like(region.rule.name)))

    def _recurrence(self, inner: Sequence[Expr], args: Sequence[Expr], outputs: Sequence[Expr]) -> Region:
        hints = {value: name for name, value in self.function.bindings}
        names = _Fresh(set())
        inputs = [Leaf(LeafKind.INPUT, names.like(hints.get(arg) or _word(arg)), arg.axes) for arg in args]
        known: dict[Expr, Expr] = dict(zip(args, inputs, strict=True))
        updates: dict[State, Expr] = {}
        windows: list[Window] = []
        for node in inner:
            if node in self.delays:
                delay = self.delays[node]
                (value,) = substitute([delay.value], known)
                state = State(delay.name, delay.axes, ZERO)
                updates[state], known[node] = value, state.leaf
                windows.append(Window(delay.name, (delay.name,), stacked=False))
            elif isinstance(node, Conv):
                source, weight = substitute([node.arg, node.weight], known)
                window, known[node] = _convolved(
                    node, source, weight, self.function.sizes[node.taps], updates
                )
                windows.append(window)
        values = substitute(outputs, known)
        parameters = leaves([*values, *updates.values()])
        named = [(name, value) for name, value in self.function.bindings if value in inner]
        rule = Recurrence(
            name=next((hints[out] for out in outputs if out in hints), "around"),
            inputs=tuple(inputs),
            parameters=tuple(p for p in self.function.parameters if p.leaf in parameters),
            states=tuple(updates),
            stores=(),
            updates=tuple(updates.values()),
            outputs=values,
            returns=tuple(out.axes for out in outputs),
            sizes=self._sizes(inner),
            names=tuple(
                zip((name for name, _ in named), substitute([v for _, v in named], known), strict=True)
            ),
        )
        return Region(rule, tuple(args), tuple(outputs), tuple(windows))

    def _sizes(self, group: Iterable[Expr]) -> Mapping[str, int]:
        axes = {axis for node in group for child in (node, *self._operands(node)) for axis in child.axes}
        known = dict(self.function.sizes)
        for node in self.nodes:
            if isinstance(node, Invoke):
                callee = node.callee.bodies[0] if isinstance(node.callee, Repeat) else node.callee
                known = {**callee.sizes, **known}
        return {axis: size for axis, size in known.items() if axis in axes}


def _is_still(node: Expr, still: set[Expr]) -> bool:
    match node:
        case Leaf():
            return node.kind is LeafKind.PARAM
        case Apply():
            return node.op not in RANDOM and all(arg in still for arg in node.args)
        case _:
            return isinstance(node, STILL) and all(child in still for child in children(node))


def delayed(node: Expr) -> Delay | None:
    """What a node delays by a token, if that is all that the rule does which it calls."""
    outwards = dict(node.pairs) if isinstance(node, Rename) else {}
    item = node.arg if isinstance(node, Rename) else node
    if not isinstance(item, Item) or not isinstance(item.call.callee, Recurrence):
        return None
    rule = item.call.callee
    if len(rule.states) != 1 or rule.stores or len(rule.inputs) != 1 or len(rule.outputs) != 1:
        return None
    (state,), (leaf,), (arg,) = rule.states, rule.inputs, item.call.args
    moves = rule.updates[0] is leaf and rule.outputs[0] is state.leaf and is_const(state.initial, 0.0)
    value, inwards = (arg.arg, dict(arg.pairs)) if isinstance(arg, Rename) else (arg, {})
    back = {axis: outwards.get(inwards.get(axis, axis), inwards.get(axis, axis)) for axis in value.axes}
    if not moves or any(old != new for old, new in back.items()):
        return None
    named = {inwards.get(axis, axis): axis for axis in value.axes}
    return Delay(value, f"{item.call.name}.{state.name}", tuple(named[axis] for axis in state.axes))


def _unite(members: dict[Expr, set[Expr]], one: Expr, other: Expr) -> None:
    """Make the groups of two nodes one."""
    small, large = sorted((members[one], members[other]), key=len)
    if small is not large:
        large |= small
        members.update(dict.fromkeys(small, large))


def _convolved(
    node: Conv, source: Expr, weight: Expr, width: int, updates: dict[State, Expr]
) -> tuple[Window, Expr]:
    """A convolution as a sum over `source` and the states before, which are put into `updates`."""
    total, newer, made = mul(at(weight, node.taps, width - 1), source), source, list[str]()
    for back in range(1, width):
        state = State(f"{node.name}.{back}", node.arg.axes, ZERO)
        updates[state] = newer
        total = add(total, mul(at(weight, node.taps, width - 1 - back), state.leaf))
        newer = state.leaf
        made.insert(0, state.name)
    value = total if node.bias is None else add(total, node.bias)
    return Window(f"{node.name}.window", tuple(made), stacked=True), value


def _word(node: Expr) -> str:
    """What to call a value that has no name."""
    match _bare(node):
        case Leaf(name=name) | Item(call=Invoke(name=name)):
            return name.split(".")[-1]
        case _:
            return "x"


def _bare(node: Expr) -> Expr:
    """What is renamed."""
    while isinstance(node, Rename):
        node = node.arg
    return node


@dataclass(slots=True)
class _Fresh:
    taken: set[str]

    def like(self, word: str) -> str:
        """`word`, or with a number where that is taken."""
        name, count = word, 1
        while name in self.taken:
            count += 1
            name = f"{word}_{count}"
        self.taken.add(name)
        return name
