"""What the cotangents of several inputs have in common: computed once and kept in memory for the kernels of each.

Where states are read through triangular systems, every cotangent needs the same solutions.  Elsewhere memory is dearer:
products of matrices are computed again by whoever needs them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod

from seqc.ir.expr import Axes, DType, Expr, Leaf, LeafKind, Reduce, Scan, Solve
from seqc.ir.traverse import children, walk

from .layout import Layout

LEAST = 4096  # operations that are worth a value in memory: one product of the smallest blocks
RATIO = 16  # operations for each of its entries
MOST = 48  # matrices that are computed in one kernel: of more, the factors of products take all registers


def common(groups: Sequence[Sequence[Expr]], found: Layout, systems: int) -> dict[Expr, Leaf]:
    """The values that are computed once for several `groups` of expressions, operands first, and their names.

    Of a block with one of the `systems`, those that need its solutions; with several, which need each other's, or with
    scans of matrices, which leave no registers for anything else, all that take much.
    """
    if not systems:
        return {}
    roots = [root for group in groups for root in group]
    every = systems > 1 or any(isinstance(x, Scan) and len(found.inner(x.axes)) > 2 for x in walk(roots))
    several = _outermost(roots, _uses(groups), found, every)
    kept = dict[Expr, None]()
    for node in (node for node in walk(roots) if node in several):
        if _worth(node, kept, found, every):
            kept[node] = None
    return {node: _leaf(f"%common{k}", node.axes, found) for k, node in enumerate(kept)}


def _leaf(name: str, axes: Axes, found: Layout) -> Leaf:
    """In memory entries lie as they do in blocks."""
    rows = (axis for axis in axes if axis in found.rows)
    return Leaf(LeafKind.READ, name, (*rows, *found.inner(axes)))


def pieces(found: Mapping[Expr, Leaf]) -> list[Mapping[Expr, Leaf]]:
    """The values by the kernel that computes them, with those of earlier ones known."""
    cut: list[dict[Expr, Leaf]] = []
    known, here = set[Expr](), set[Expr]()
    for node, leaf in found.items():
        here |= {*walk([node], known | here)}
        if not cut or sum(map(_matrix, here)) > MOST:
            known = {x for piece in cut for x in piece}
            here = {*walk([node], known)}
            cut.append({})
        cut[-1][node] = leaf
    return [*cut]


def _matrix(node: Expr) -> bool:
    return len(node.axes) > 1 and isinstance(node, Reduce | Solve)


def partial(node: Expr, found: Layout) -> bool:
    """Whether a value is summed over rows, or over the axis that is cut into tiles: every program has a part of it."""
    apart = {*found.rows, found.vector} - {*node.axes}
    return any(not apart.isdisjoint(x.axes) for x in walk([node]))


def _uses(groups: Sequence[Sequence[Expr]]) -> dict[Expr, int]:
    """In how many groups each expression occurs."""
    uses = dict[Expr, int]()
    for group in groups:
        for node in walk(group):
            uses[node] = uses.get(node, 0) + 1
    return uses


def _outermost(roots: Sequence[Expr], uses: Mapping[Expr, int], found: Layout, every: bool) -> set[Expr]:
    """What several groups need, but nothing that only such needs."""
    kept, seen, pending = set[Expr](), set[Expr](), [*roots]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if uses[node] > 1 and _worth(node, (), found, every):
            kept.add(node)
        else:
            pending += children(node)
    return kept


def _worth(node: Expr, known: Collection[Expr], found: Layout, every: bool) -> bool:
    """Whether a value takes so much to compute, where some are known, that it is better read."""
    if isinstance(node, Leaf) or node.dtype is not DType.REAL:
        return False
    below = [x for x in walk([node], known) if x not in known]
    work = sum(_work(x, found) for x in below)
    dear = every or any(isinstance(x, Solve) for x in below)
    return dear and work >= max(LEAST, RATIO * _size(node.axes, found))


def _work(node: Expr, found: Layout) -> int:
    """Operations of an expression whose operands are known."""
    match node:
        case Reduce():
            return _size(node.arg.axes, found)
        case Solve():
            return _size({*node.rhs.axes, node.columns}, found)
        case Leaf():
            return 0
        case _:
            return _size(node.axes, found)


def _size(axes: Collection[str], found: Layout) -> int:
    return prod(found.size(axis) for axis in axes if axis not in found.rows)
