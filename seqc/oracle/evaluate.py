"""Expressions as tensors, straight from the meaning of each node.

The value of an expression is a tensor `[*lead, *expression.axes]`: in a rule, `lead` is the batch; in a
block, batch and time.  A leading dimension has length 1 where the value does not vary along it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from seqc.ir.expr import (
    Apply,
    At,
    Axes,
    Concat,
    Const,
    Dropout,
    DType,
    Expr,
    Flip,
    Gather,
    Index,
    Leaf,
    LeafKind,
    Pool,
    Put,
    Rank,
    Reduce,
    Rename,
    Scan,
    Shift,
    Size,
    Slice,
    Softmax,
    Solve,
    Take,
)
from seqc.ir.traverse import children
from seqc.oracle import lookup
from seqc.oracle.primitives import COMPLEX, PRIMITIVES, REAL, number


@dataclass(slots=True)
class Growing:
    """The axis of a store: which entries each row sees, `[batch, entries]`, with and without the present
    token's.
    """

    now: Tensor
    before: Tensor


@dataclass(slots=True)
class Frame:
    """What an evaluation knows: the length of every axis and the value of every leaf, by leaf."""

    lead: tuple[int, ...]
    sizes: Mapping[str, int]
    leaves: Mapping[Expr, Tensor]
    growing: Mapping[str, Growing] = field(default_factory=dict[str, Growing])

    def size(self, axis: str) -> int:
        known = self.growing.get(axis)
        return self.sizes[axis] if known is None else known.now.shape[1]


@dataclass(frozen=True, slots=True)
class Order:
    """Nodes in an order in which each comes after what it needs.

    `definitions` says which expression stands behind a leaf (a state's next value).  `factors` are the
    operands of the sums of products, which are computed as one contraction: the product itself is never
    formed.  `past` holds the nodes whose entries along a growing axis do not include the present token.
    """

    nodes: tuple[Expr, ...]
    definitions: Mapping[Expr, Expr]
    factors: Mapping[Expr, tuple[Expr, ...]]
    past: frozenset[Expr]

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(node for node in self.nodes if isinstance(node, Leaf))


def order(
    roots: Iterable[Expr], definitions: Mapping[Expr, Expr] | None = None, growing: Iterable[str] = ()
) -> Order:
    """Put the nodes below `roots` in order.  A definition that needs itself is an error."""
    definitions, axes = dict(definitions or {}), frozenset(growing)
    factors: dict[Expr, tuple[Expr, ...]] = {}
    done: dict[Expr, None] = {}
    open_: set[Expr] = set()
    stack = [(root, False) for root in reversed(tuple(roots))]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready:
            done[node] = None
            continue
        assert node not in open_, f"{node!r} needs its own value"
        open_.add(node)
        needs = _needs(node, definitions, factors, axes)
        stack.append((node, True))
        stack.extend((need, False) for need in reversed(needs) if need not in done)
    return Order(tuple(done), definitions, factors, _past(done, factors, axes))


def _needs(
    node: Expr,
    definitions: Mapping[Expr, Expr],
    factors: dict[Expr, tuple[Expr, ...]],
    growing: frozenset[str],
) -> tuple[Expr, ...]:
    if node in definitions:
        return (definitions[node],)
    if isinstance(node, Reduce) and node.op == "sum" and not growing.intersection(node.over):
        operands = _product(node.arg)
        if len(operands) > 1:
            factors[node] = operands
            return operands
    return children(node)


def _product(node: Expr) -> tuple[Expr, ...]:
    """The factors of a product of products."""
    found: list[Expr] = []
    stack = [node]
    while stack:
        factor = stack.pop()
        if isinstance(factor, Apply) and factor.op == "mul":
            stack.extend(reversed(factor.args))
        else:
            found.append(factor)
    return tuple(found)


def _past(
    nodes: Iterable[Expr], factors: Mapping[Expr, tuple[Expr, ...]], growing: frozenset[str]
) -> frozenset[Expr]:
    past: set[Expr] = set()
    for node in nodes:
        if isinstance(node, Leaf):
            if node.kind is LeafKind.STORE:
                past.add(node)
        elif any(n in past and growing.intersection(n.axes) for n in factors.get(node, children(node))):
            past.add(node)
    return frozenset(past)


def evaluate(what: Order, frame: Frame) -> dict[Expr, Tensor]:
    """The value of every node of an order."""
    values: dict[Expr, Tensor] = dict(frame.leaves)
    for node in what.nodes:
        if node not in values:
            values[node] = value_of(node, what, values, frame)
    return values


def value_of(node: Expr, what: Order, values: Mapping[Expr, Tensor], frame: Frame) -> Tensor:
    """The value of one node, given those of the nodes it needs."""
    if node in what.definitions:
        source = what.definitions[node]
        return spread(values[source], source.axes, node.axes, frame)
    if node in what.factors:
        return _contract(what.factors[node], node, values, frame)
    return _value(node, what, values, frame)


def _value(node: Expr, what: Order, values: Mapping[Expr, Tensor], frame: Frame) -> Tensor:  # noqa: C901
    """One case a kind of node."""
    match node:
        case Const():
            return torch.tensor(node.value, dtype=REAL).reshape(_ones(frame))
        case Size():
            return _size(node, frame)
        case Index():
            return torch.arange(frame.size(node.axis), dtype=REAL).reshape(*_ones(frame), -1)
        case Apply():
            function = PRIMITIVES[node.op]
            return function(*(align(values[arg], arg.axes, node.axes, frame) for arg in node.args))
        case Reduce():
            return _reduce(node, values[node.arg], _mask(node.over, node.arg, what, frame), frame)
        case Softmax():
            return _softmax(node, values[node.arg], _mask(node.over, node.arg, what, frame), frame)
        case Rename() | Dropout():
            return values[node.arg]
        case Slice():
            return values[node.arg].narrow(_dim(node.arg, node.axis, frame), node.start, frame.size(node.new))
        case Concat():
            return _concat(node, values, frame)
        case At():
            return values[node.arg].select(_dim(node.arg, node.axis, frame), node.index)
        case Take() | Put() | Rank():
            return _looked_up(node, what, values, frame)
        case Shift():
            return _shift(values[node.arg], _dim(node.arg, node.axis, frame), node.by)
        case Scan():
            return _scan(node, values, frame)
        case Solve():
            return _solve(node, values, frame)
        case Gather():
            return _gather(node, values, frame)
        case Flip():
            return values[node.arg].flip(1)
        case Pool():
            return _pool(node, values[node.arg])
        case _:
            raise KeyError(node)


# --- Axes ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _permutation(axes: Axes, target: Axes, lead: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How to bring a value to the order of `target`: a permutation, and where to put axes of length 1."""
    kept = [axis for axis in target if axis in axes]
    order_ = (*range(lead), *(lead + axes.index(axis) for axis in kept))
    missing = tuple(lead + i for i, axis in enumerate(target) if axis not in axes)
    return order_, missing


def align(x: Tensor, axes: Axes, target: Axes, frame: Frame) -> Tensor:
    """`x`, with axes `axes`, as it broadcasts against values with axes `target`."""
    if axes == target:
        return x
    permutation, missing = _permutation(axes, target, len(frame.lead))
    x = x.permute(permutation)
    for dim in missing:
        x = x.unsqueeze(dim)
    return x


def spread(x: Tensor, axes: Axes, target: Axes, frame: Frame, lead: tuple[int, ...] | None = None) -> Tensor:
    """`x` with exactly the axes `target` at their full lengths; `lead` asks for full leading dimensions too."""
    x = align(x, axes, target, frame)
    before = x.shape[: len(frame.lead)] if lead is None else lead
    return x.expand((*before, *(frame.size(axis) for axis in target)))


def _ones(frame: Frame) -> tuple[int, ...]:
    return (1,) * len(frame.lead)


def _dim(node: Expr, axis: str, frame: Frame) -> int:
    return len(frame.lead) + node.axes.index(axis)


def _dims(node: Expr, axes: Axes, frame: Frame) -> tuple[int, ...]:
    return tuple(_dim(node, axis, frame) for axis in axes)


def _full(node: Expr, values: Mapping[Expr, Tensor], target: Axes, frame: Frame) -> Tensor:
    return spread(number(values[node]), node.axes, target, frame)


def _size(node: Size, frame: Frame) -> Tensor:
    if node.axis in frame.growing:
        return frame.growing[node.axis].now.sum(1).to(REAL)
    return torch.tensor(float(frame.sizes[node.axis]), dtype=REAL).reshape(_ones(frame))


# --- Reductions ---------------------------------------------------------------------------------------------


def _mask(over: Axes, arg: Expr, what: Order, frame: Frame) -> Tensor | None:
    """Which entries along growing axes count; None when every entry does."""
    mask: Tensor | None = None
    for axis in over:
        if axis in frame.growing:
            entries = frame.growing[axis]
            seen = entries.before if arg in what.past else entries.now
            here = align(seen, (axis,), arg.axes, frame)
            mask = here if mask is None else mask & here
    return mask


def _reduce(node: Reduce, x: Tensor, mask: Tensor | None, frame: Frame) -> Tensor:
    x = number(x)
    dims = _dims(node.arg, node.over, frame)
    if mask is not None:
        x = torch.where(mask, x, torch.zeros_like(x) if node.op == "sum" else torch.full_like(x, -torch.inf))
    return x.sum(dims) if node.op == "sum" else x.amax(dims)


def _contract(factors: tuple[Expr, ...], node: Expr, values: Mapping[Expr, Tensor], frame: Frame) -> Tensor:
    """A sum of products of values with named axes."""
    lead = len(frame.lead)
    numbers: dict[str, int] = {}
    operands: list[Tensor | list[int]] = []
    dtype = COMPLEX if node.dtype is DType.COMPLEX else REAL
    for factor in factors:
        labels = [numbers.setdefault(axis, lead + len(numbers)) for axis in factor.axes]
        operands += [values[factor].to(dtype), [*range(lead), *labels]]
    result: Tensor = torch.einsum(*operands, [*range(lead), *(numbers[axis] for axis in node.axes)])
    return result


def _softmax(node: Softmax, x: Tensor, mask: Tensor | None, frame: Frame) -> Tensor:
    """A row whose entries are all minus infinity (or not there) is 0."""
    dims = _dims(node.arg, node.over, frame)
    if mask is not None:
        x = torch.where(mask, x, torch.full_like(x, -torch.inf))
    top = x.detach().amax(dims, keepdim=True)
    powers = torch.exp(x - torch.where(top.isinf() & (top < 0), torch.zeros_like(top), top))
    total = powers.sum(dims, keepdim=True)
    return powers / torch.where(total == 0, torch.ones_like(total), total)


# --- Structure ----------------------------------------------------------------------------------------------


def _concat(node: Concat, values: Mapping[Expr, Tensor], frame: Frame) -> Tensor:
    length = frame.size(node.axis)
    pieces: list[Tensor] = []
    for part, start, arg in zip(node.parts, node.starts, node.args, strict=True):
        after = length - start - frame.size(part)
        target = tuple(part if axis == node.axis else axis for axis in node.axes)
        x = _full(arg, values, target, frame)
        dim = len(frame.lead) + node.axes.index(node.axis)
        pieces.append(torch.cat([_zeros(x, dim, start), x, _zeros(x, dim, after)], dim))
    result = pieces[0]
    for piece in pieces[1:]:
        result = result + piece
    return result


def _zeros(x: Tensor, dim: int, length: int) -> Tensor:
    shape = list(x.shape)
    shape[dim] = length
    return x.new_zeros(shape)


def _looked_up(node: Take | Put | Rank, what: Order, values: Mapping[Expr, Tensor], frame: Frame) -> Tensor:
    x, lead = values[node.arg], len(frame.lead)
    match node:
        case Take():
            kept = tuple(axis for axis in node.arg.axes if axis != node.axis)
            free = tuple(axis for axis in node.index.axes if axis not in kept)
            index = align(values[node.index], node.index.axes, (*kept, *free), frame)
            found = lookup.take(align(x, node.arg.axes, (*kept, node.axis), frame), index)
            return align(found, (*kept, *free), node.axes, frame)
        case Put():
            kept = tuple(axis for axis in node.axes if axis != node.axis)
            full = (*kept, *(axis for axis in node.over))
            index = _full(node.index, values, full, frame)
            placed = lookup.put(
                _full(node.arg, values, full, frame), index, frame.size(node.axis), lead + len(kept)
            )
            return align(placed, (*kept, node.axis), node.axes, frame)
        case Rank():
            mask = _mask((node.axis,), node.arg, what, frame)
            if mask is not None:
                x = torch.where(mask, x, torch.full_like(x, -torch.inf))
            return lookup.rank(x, _dim(node.arg, node.axis, frame)).to(REAL)


def _shift(x: Tensor, dim: int, by: int) -> Tensor:
    length = x.shape[dim]
    step = min(abs(by), length)
    empty = _zeros(x, dim, step)
    if by >= 0:
        return torch.cat([empty, x.narrow(dim, 0, length - step)], dim)
    return torch.cat([x.narrow(dim, step, length - step), empty], dim)


def _scan(node: Scan, values: Mapping[Expr, Tensor], frame: Frame) -> Tensor:
    """From zero, one entry after another."""
    read = None if node.columns is None else node.columns[1]
    decay_axes = node.axes if read is None else (*node.axes, read)
    decay = _full(node.decay, values, decay_axes, frame)
    source = _full(node.source, values, node.axes, frame)
    if read is None:
        decay, source = torch.broadcast_tensors(decay, source)
    dim = _dim(node, node.axis, frame)
    positions = range(frame.size(node.axis))
    entries: dict[int, Tensor] = {}
    h: Tensor | None = None
    for i in reversed(positions) if node.reverse else positions:
        a, b = decay.select(dim, i), source.select(dim, i)
        h = b if h is None else _advance(node, a, h, frame) + b
        entries[i] = h
    return torch.stack([entries[i] for i in positions], dim)


def _advance(node: Scan, a: Tensor, h: Tensor, frame: Frame) -> Tensor:
    if node.columns is None:
        return a * h
    left = tuple(axis for axis in node.axes if axis != node.axis)
    dim = len(frame.lead) + left.index(node.columns[0])
    # The written axis of `h` becomes the read axis, which is the last one of `a`.
    return (a * h.unsqueeze(-1).transpose(dim, -1)).sum(-1)


def _solve(node: Solve, values: Mapping[Expr, Tensor], frame: Frame) -> Tensor:
    """The solution of (1 - matrix) x = rhs."""
    others = tuple(axis for axis in node.axes if axis != node.rows)
    matrix = _full(node.matrix, values, (*others, node.rows, node.columns), frame)
    rhs = _full(node.rhs, values, (*others, node.rows), frame)
    unit = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    x = torch.linalg.solve(unit - matrix, rhs.to(matrix.dtype).unsqueeze(-1)).squeeze(-1)
    return align(x, (*others, node.rows), node.axes, frame)


def _gather(node: Gather, values: Mapping[Expr, Tensor], frame: Frame) -> Tensor:
    lead = len(frame.lead)
    table, index = values[node.table], values[node.index].long()
    assert all(length == 1 for length in table.shape[:lead]), "a table is the same for every token"
    rows = table.movedim(_dim(node.table, node.axis, frame), 0).reshape(
        table.shape[_dim(node.table, node.axis, frame)], *_rest(node, frame)
    )
    return rows[index]


def _rest(node: Gather, frame: Frame) -> tuple[int, ...]:
    return tuple(frame.size(axis) for axis in node.table.axes if axis != node.axis)


def _pool(node: Pool, x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True) if node.op == "mean" else x[:, -1:]
