"""Walking, rebuilding and searching expressions, without recursion."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Set
from operator import attrgetter
from typing import Any, cast

from seqc.ir import build
from seqc.ir.expr import (
    Apply,
    At,
    Concat,
    Conv,
    Dropout,
    Expr,
    Flip,
    Gather,
    Invoke,
    Item,
    Leaf,
    Pool,
    Put,
    Rank,
    Reduce,
    Rename,
    Scan,
    Shift,
    Slice,
    Softmax,
    Solve,
    Take,
)
from seqc.ir.work import spend

# The direct sub-expressions of a node, in order, by its kind; other kinds have none.
OPERANDS: dict[type[Expr], Callable[[Any], tuple[Expr, ...]]] = {
    **dict.fromkeys((Apply, Concat), attrgetter("args")),
    **dict.fromkeys(
        (Reduce, Softmax, Rename, Slice, At, Rank, Shift, Flip, Dropout, Pool), lambda node: (node.arg,)
    ),
    **dict.fromkeys((Take, Put), lambda node: (node.arg, node.index)),
    Scan: lambda node: (node.decay, node.source),
    Solve: lambda node: (node.matrix, node.rhs),
    Conv: lambda node: (node.arg, node.weight, *(() if node.bias is None else (node.bias,))),
    Gather: lambda node: (node.table, node.index),
    Invoke: lambda node: (*node.args, *(value for _, value in node.given)),
    Item: lambda node: (node.call,),
}


def children(node: Expr) -> tuple[Expr, ...]:
    """The direct sub-expressions of a node, in order."""
    found = OPERANDS.get(type(node))
    return () if found is None else found(node)


def with_children(node: Expr, new: tuple[Expr, ...]) -> Expr:  # noqa: C901  # one case a node kind
    """The node with its direct sub-expressions replaced, simplified as `build` does."""
    if children(node) == new:
        return node
    match node:
        case Apply():
            return build.apply(node.op, *new)
        case Concat():
            return build.concat(node.axis, node.parts, node.starts, new)
        case Reduce():
            return build.reduce(node.op, node.over, new[0])
        case Softmax():
            return build.softmax(node.over, new[0])
        case Rename():
            return build.rename(new[0], dict(node.pairs))
        case Slice():
            return build.narrow(new[0], node.axis, node.new, node.start)
        case At():
            return build.at(new[0], node.axis, node.index)
        case Take():
            return build.take(new[0], new[1], node.axis)
        case Put():
            return Put(new[0], new[1], node.axis, node.over)
        case Rank():
            return build.rank(new[0], node.axis)
        case Shift():
            return build.shift(new[0], node.axis, node.by)
        case Flip():
            return Flip(new[0])
        case Dropout():
            return Dropout(node.name, node.rate, new[0])
        case Pool():
            return Pool(node.op, new[0])
        case Scan():
            return Scan(new[0], new[1], node.axis, node.reverse, node.columns)
        case Solve():
            return Solve(new[0], new[1], node.rows, node.columns, node.upper)
        case Conv():
            return Conv(node.name, new[0], new[1], new[2] if len(new) == 3 else None, node.taps)
        case Gather():
            return Gather(new[0], new[1], node.axis)
        case Invoke():
            count = len(node.args)
            given = tuple((key, value) for (key, _), value in zip(node.given, new[count:], strict=True))
            return Invoke(node.name, node.callee, new[:count], given)
        case Item():
            return Item(cast(Invoke, new[0]), node.index)
        case _:
            return node


def walk(roots: Iterable[Expr], known: Container[Expr] = ()) -> Iterator[Expr]:
    """Every node below `roots` once, children before parents, without recursion; `known` nodes are left out."""
    seen: set[Expr] = set()
    for root in roots:
        stack: list[tuple[Expr, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in seen or node in known:
                continue
            if ready:
                seen.add(node)
                yield node
                continue
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(children(node)) if child not in seen)
    spend(len(seen))


def rewrite(roots: Iterable[Expr], rule: Callable[[Expr], Expr | None]) -> tuple[Expr, ...]:
    """Rebuild `roots` bottom-up; `rule` may replace a node (whose children are already rebuilt), None keeps
    it.
    """
    roots = tuple(roots)
    done: dict[Expr, Expr] = {}
    for node in walk(roots):
        new = with_children(node, tuple(done[child] for child in children(node)))
        done[node] = new if (replaced := rule(new)) is None else replaced
    return tuple(done[root] for root in roots)


def substitute(roots: Iterable[Expr], mapping: Mapping[Expr, Expr]) -> tuple[Expr, ...]:
    """Replace nodes from the top: a node in `mapping` is replaced and not looked into."""
    roots = tuple(roots)
    done: dict[Expr, Expr] = dict(mapping)
    for root in roots:
        stack: list[tuple[Expr, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in done:
                continue
            if ready:
                done[node] = with_children(node, tuple(done[child] for child in children(node)))
                continue
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(children(node)) if child not in done)
    spend(len(done))
    return tuple(done[root] for root in roots)


def leaves(roots: Iterable[Expr]) -> Set[Leaf]:
    """All leaves below `roots`, in the order in which a walk meets them."""
    return {node: None for node in walk(roots) if isinstance(node, Leaf)}.keys()


def depends_on(roots: Iterable[Expr], targets: Iterable[Expr]) -> set[Expr]:
    """The nodes below `roots` (inclusive) that contain one of `targets`."""
    found = set(targets)
    for node in walk(roots):
        if any(child in found for child in children(node)):
            found.add(node)
    return found
