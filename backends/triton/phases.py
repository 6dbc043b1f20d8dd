"""Values that do not fit into registers together, computed one after another, what others need of them in memory.

A value is computed in one go if only sums of products, or scans, of what is read stand in it, and nothing is computed
from these but elementwise.  One axis is cut into tiles: a sum over it is whole after all of them, so what needs it at
every tile comes later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from seqc.ir.expr import Expr, Leaf, LeafKind, Reduce, Scan, Shift, Solve
from seqc.ir.traverse import children, leaves, substitute, walk

MEETING = (Reduce, Scan, Shift, Solve)  # where entries meet: what is costly, and kept once it is computed


@dataclass(frozen=True, slots=True)
class Phase:
    """A value that is computed in one go from what was read and from phases of a lesser depth.

    `place` says which of the results it is; what has none is read again, as `leaf`.
    """

    leaf: Leaf
    value: Expr
    depth: int
    place: int | None = None


def phases(roots: Sequence[Expr], targets: Sequence[Leaf], vector: str) -> list[Phase]:
    """What computes `roots`, the values of `targets`, in order; `vector` is the axis that is cut into tiles."""
    known, depths, found = dict[Expr, Expr](), dict[Leaf, int](), list[Phase]()

    def add(leaf: Leaf, value: Expr, place: int | None = None) -> None:
        depth = max((depths[x] + 1 for x in leaves([value]) if x in depths), default=0)
        found.append(Phase(leaf, value, depth, place))

    kept = _kept(roots, targets, vector)
    for node in walk(roots):
        if node in kept:
            leaf = Leaf(LeafKind.READ, f"%phase.{_word(node)}{len(known)}", node.axes)
            add(leaf, substitute([node], known)[0])
            known[node], depths[leaf] = leaf, found[-1].depth
    for place, (target, value) in enumerate(zip(targets, substitute(roots, known), strict=True)):
        add(target, value, place)
    return sorted(found, key=lambda phase: phase.depth)


def _kept(roots: Sequence[Expr], targets: Sequence[Leaf], vector: str) -> set[Expr]:
    """What is computed before the roots: what is costly and needed inside of such, several times, or for every tile."""
    meeting = [node for node in walk(roots) if isinstance(node, MEETING)]
    inside = [x for node in meeting for x in children(node)]
    kept = {node for node in walk(inside) if isinstance(node, MEETING)}
    uses = Counter[Expr]()
    for root, target in zip(roots, targets, strict=True):
        for node in walk([root], kept):
            if isinstance(node, MEETING):
                again = vector in target.axes and vector not in node.axes
                uses[node] += 2 if again else 1
    return kept | {node for node, count in uses.items() if count > 1}


def _word(node: Expr) -> str:
    return "total" if isinstance(node, Reduce) else "scanned" if isinstance(node, Scan) else "moved"
