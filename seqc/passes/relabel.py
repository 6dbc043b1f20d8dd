"""Give the axes of expressions other names, everywhere inside them: leaves, sums, renames and all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from seqc.ir import build
from seqc.ir.expr import (
    At,
    Concat,
    Conv,
    Expr,
    Gather,
    Index,
    Leaf,
    LeafKind,
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
from seqc.ir.traverse import children, walk, with_children


def relabel(roots: Iterable[Expr], mapping: Mapping[str, str]) -> tuple[Expr, ...]:
    """The expressions with every axis called as `mapping` says; the mapping must not make two axes one."""
    roots = tuple(roots)
    done: dict[Expr, Expr] = {}
    for node in walk(roots):
        done[node] = _relabel(node, tuple(done[child] for child in children(node)), mapping)
    return tuple(done[root] for root in roots)


def _relabel(  # noqa: C901  # one case a kind of node
    node: Expr, new: tuple[Expr, ...], names: Mapping[str, str]
) -> Expr:
    def axis(name: str) -> str:
        return names.get(name, name)

    match node:
        case Leaf(kind, name, over, number):
            return Leaf(kind, axis(name) if kind is LeafKind.AGE else name, tuple(map(axis, over)), number)
        case Size():
            return Size(axis(node.axis))
        case Index():
            return Index(axis(node.axis))
        case Reduce():
            return build.reduce(node.op, map(axis, node.over), new[0])
        case Softmax():
            return Softmax(tuple(map(axis, node.over)), new[0])
        case Rename():
            return build.rename(new[0], {axis(old): axis(fresh) for old, fresh in node.pairs})
        case Slice():
            return build.narrow(new[0], axis(node.axis), axis(node.new), node.start)
        case Concat():
            return build.concat(axis(node.axis), tuple(map(axis, node.parts)), node.starts, new)
        case At():
            return build.at(new[0], axis(node.axis), node.index)
        case Take():
            return build.take(new[0], new[1], axis(node.axis))
        case Put():
            return Put(new[0], new[1], axis(node.axis), tuple(map(axis, node.over)))
        case Rank():
            return build.rank(new[0], axis(node.axis))
        case Shift():
            return Shift(axis(node.axis), node.by, new[0])
        case Scan():
            columns = None if node.columns is None else (axis(node.columns[0]), axis(node.columns[1]))
            return Scan(new[0], new[1], axis(node.axis), node.reverse, columns)
        case Solve():
            return Solve(new[0], new[1], axis(node.rows), axis(node.columns), node.upper)
        case Conv():
            return Conv(node.name, new[0], new[1], new[2] if len(new) == 3 else None, axis(node.taps))
        case Gather():
            return Gather(new[0], new[1], axis(node.axis))
        case _:
            return with_children(node, new)
