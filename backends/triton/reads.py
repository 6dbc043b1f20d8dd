"""Reads of growing stores as sums over their entries that are taken a block at a time.

What a token reads is a function of a few numbers of its own: the largest of its scores (`tops`) and sums over entries.
`exp(score - top)` is the only way in which a sum may depend on a top, so that what was summed before a larger score was
met is made smaller by a factor (online softmax, arXiv 1805.02867).  Results do not change with a top, which therefore
has no derivative; and those of the sums follow from their expressions (FlashAttention-2, arXiv 2307.08691, for one).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqc.ir import build
from seqc.ir.build import ONE, ZERO, apply, where
from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Leaf, LeafKind, Reduce, Softmax
from seqc.ir.plan import TOKEN
from seqc.ir.traverse import leaves, rewrite, substitute, walk
from seqc.passes.canonical import terms
from seqc.passes.derive import NotDifferentiable, pullback

from ..cpu.diagnose import Unsupported
from ..cpu.layout import mixed_axes

LOWEST = Const(float("-inf"))
LEAST = Const(-1e38)  # of a top; no entry has been seen where it is smaller


@dataclass(frozen=True, slots=True)
class Reads:
    """`parts` are the sums, in terms of queries, entries, masks and tops; `outputs` are in terms of queries, tops and
    sums.  `scales` has for each sum the top that it falls with, if there is one.  Nothing meets along `rows`.
    """

    axis: str
    queries: tuple[Leaf, ...]
    entries: tuple[Leaf, ...]
    visible: Leaf
    age: Leaf
    tops: tuple[Leaf, ...]
    scores: tuple[Expr, ...]
    sums: tuple[Leaf, ...]
    parts: tuple[Expr, ...]
    scales: tuple[Leaf | None, ...]
    outputs: tuple[Expr, ...]
    rows: Axes

    def after(self) -> dict[Expr, Expr]:
        """The tops once more entries have been seen."""
        return {
            top: apply("max", top, Reduce("max", (self.axis,), score))
            for top, score in zip(self.tops, self.scores, strict=True)
        }

    def weights(self) -> tuple[Expr, ...]:
        """Exponentials of scores less the largest of them: they are at most 1, and one of them is 1."""
        scores = dict(zip(self.tops, self.scores, strict=True))
        found = [node for node in walk(self.parts) if isinstance(node, Apply) and node.op == "exp"]
        return tuple(node for node in found if any(_weighs(node, *pair) for pair in scores.items()))

    def gathered(self) -> tuple[Expr, ...]:
        """The tops and sums once more entries have been seen."""
        after = self.after()
        parts = substitute(self.parts, after)
        found: list[Expr] = []
        for leaf, part, top in zip(self.sums, parts, self.scales, strict=True):
            kept = leaf if top is None else build.mul(leaf, apply("exp", build.sub(top, stable(after[top]))))
            found.append(build.add(kept, part))
        return (*after.values(), *found)

    def slopes(self, cotangents: Sequence[Leaf]) -> tuple[Expr, ...]:
        """The cotangents of the sums, then what those of queries are without them, from those of the outputs."""
        flowing: dict[Expr, Expr] = {}
        for output, leaf in zip(self.outputs, cotangents, strict=True):
            flow = build.match_axes(leaf, output.axes)
            flowing[output] = build.add(flowing[output], flow) if output in flowing else flow
        return _pulled(flowing, [*self.sums, *self.queries])

    def flows(self, cotangents: Sequence[Leaf]) -> tuple[Expr, ...]:
        """The cotangents of queries, then of entries, from those of the sums."""
        flowing: dict[Expr, Expr] = {
            part: build.match_axes(leaf, part.axes) for part, leaf in zip(self.parts, cotangents, strict=True)
        }
        return _pulled(flowing, [*self.queries, *self.entries])


def _pulled(flowing: Mapping[Expr, Expr], targets: Sequence[Expr]) -> tuple[Expr, ...]:
    try:
        return pullback(flowing, targets)
    except NotDifferentiable as error:
        raise Unsupported(str(error)) from error


def _weighs(node: Apply, top: Leaf, score: Expr) -> bool:
    """Whether a node is the exponential of what is visible of a score, less its top."""
    match node.args[0], score:
        case Apply(op="where", args=(_, arg, lowest)), Apply(op="where", args=(_, whole, _)):
            return lowest is LOWEST and Counter(terms(arg)) == Counter(
                [*terms(whole), build.neg(stable(top))]
            )
        case _:
            return False


def stable(top: Expr) -> Expr:
    """A top, or 0 where no entry has been seen."""
    return where(apply("gt", top, LEAST), top, ZERO)


def find_reads(
    outputs: Sequence[Expr],
    returns: Sequence[Axes],
    queries: Mapping[Expr, Leaf],
    entries: Mapping[Leaf, Leaf],
    axis: str,
) -> Reads:
    """The reads that some outputs are; `entries` has for the stores before a token those after it.

    Raises `Unsupported`.
    """
    finder = _Finder(axis)
    wide: dict[Expr, Expr] = dict(queries)
    wide |= {leaf: finder.age for leaf in leaves(outputs) if leaf.kind is LeafKind.AGE}
    exprs = rewrite(substitute(outputs, wide), finder.explicit)
    exprs = substitute(rewrite(exprs, finder.hidden), dict[Expr, Expr](entries.items()))
    finder.rows = _rows(exprs, returns, axis, list(entries.values()))
    found = rewrite(exprs, finder.lifted)
    for node in walk(found):
        if axis in node.axes or axis in getattr(node, "over", ()):
            raise Unsupported(f"a read of entries that is no sum over `{axis}`")
    for expr, axes in zip(found, returns, strict=True):
        if not {*expr.axes} <= {TOKEN, *axes}:
            raise Unsupported("a result with axes that it does not declare")
    sums = tuple(finder.sums.values())
    parts = tuple(finder.sums)
    return Reads(
        axis,
        tuple(queries.values()),
        tuple(entries.values()),
        finder.visible,
        finder.age,
        tuple(finder.tops.values()),
        tuple(finder.tops),
        sums,
        parts,
        tuple(finder.scale(part) for part in parts),
        found,
        finder.rows,
    )


def _rows(exprs: Sequence[Expr], returns: Sequence[Axes], axis: str, entries: Sequence[Leaf]) -> Axes:
    """Axes that all results, all that is read and all scores have, and along which nothing meets.

    Where that would be all axes that entries have, the last one of them is none.
    """
    mixed = mixed_axes(exprs)
    sums = [n for n in walk(exprs) if isinstance(n, Reduce)]
    every = [*returns, *(n.axes for n in sums if axis in n.over or {TOKEN, axis} <= {*n.axes})]
    rows = tuple(a for a in returns[0] if a not in mixed and all(a in axes for axes in every))
    return rows[:-1] if all({*leaf.axes} <= {*rows, axis} for leaf in entries) else rows


class _Finder:
    """`tops` and `sums` are found one by one, each by what it is the largest or the sum of."""

    def __init__(self, axis: str) -> None:
        self.axis, self.rows = axis, Axes()
        self.visible = Leaf(LeafKind.READ, "%visible", (TOKEN, axis), DType.BOOL)
        self.age = Leaf(LeafKind.AGE, "%age", (TOKEN, axis))
        self.tops: dict[Expr, Leaf] = {}
        self.sums: dict[Expr, Leaf] = {}

    def explicit(self, node: Expr) -> Expr | None:
        """A softmax as exponentials divided by their sum."""
        if not (isinstance(node, Softmax) and self.axis in node.over):
            return None
        if node.over != (self.axis,):
            raise Unsupported("a softmax over entries and something else")
        largest = apply("stop_gradient", Reduce("max", node.over, node.arg))
        weights = apply("exp", build.sub(node.arg, stable(largest)))
        return apply("div", weights, Reduce("sum", node.over, weights))

    def hidden(self, node: Expr) -> Expr | None:
        """What is not visible is left out: before an exponential is taken, so that it cannot overflow."""
        wide = {TOKEN, self.axis}
        match node:
            case Apply(op="exp", args=(arg,)) if wide <= {*node.axes}:
                return apply("exp", where(self._mask(arg), arg, LOWEST))
            case Reduce(op="max", over=over, arg=arg) if self.axis in over:
                return Reduce("max", over, where(self._mask(arg), arg, LOWEST))
            case Reduce(op="sum", over=over, arg=arg) if self.axis in over:
                return Reduce("sum", over, build.product(self._masked(arg)))
            case _:
                return None

    def _mask(self, node: Expr) -> Expr:
        """Which entries are visible; of those of a store as it was before the token, all but the token's own."""
        if all(leaf.kind is not LeafKind.STORE for leaf in leaves([node])):
            return self.visible
        return apply("and", self.visible, apply("gt", self.age, ZERO))

    def _masked(self, arg: Expr) -> list[Expr]:
        """Factors of a sum, one of which is 0 where an entry is not visible: an exponential is already."""
        factors = factors_of(arg)
        both = [f for f in factors if {TOKEN, self.axis} <= {*f.axes}]
        if any(isinstance(f, Apply) and f.op == "exp" for f in both):
            return factors
        wide = next(iter(both), ONE)
        rest = [f for f in factors if f is not wide]
        return [where(self._mask(arg), wide, ZERO), *rest]

    def lifted(self, node: Expr) -> Expr | None:
        """Sums over entries and largest scores as leaves."""
        match node:
            case Apply(op="stop_gradient", args=(Reduce(op="max", over=(over,), arg=arg),)) if (
                over == self.axis
            ):
                self._plain(arg)
                return self.tops.setdefault(arg, self._leaf(f"top.{len(self.tops)}", node.axes))
            case Reduce(op="sum", over=over, arg=arg) if self.axis in over:
                factors = factors_of(arg)
                inside = [f for f in factors if {*f.axes} & {*over}]
                part = Reduce("sum", over, build.product(inside))
                self._plain(part)
                leaf = self.sums.setdefault(part, self._leaf(f"sum.{len(self.sums)}", part.axes))
                return build.mul(leaf, build.product(f for f in factors if f not in inside))
            case _:
                return None

    def _plain(self, part: Expr) -> None:
        if any(leaf in self.sums.values() for leaf in leaves([part])):
            raise Unsupported("a read that depends on another one")

    def scale(self, part: Expr) -> Leaf | None:
        """The top that a sum falls with."""
        assert isinstance(part, Reduce)
        used = [top for top in self.tops.values() if top in leaves([part])]
        if not used:
            return None
        factors = [f for f in factors_of(part.arg) if any(top in leaves([f]) for top in used)]
        if len(used) == 1 and len(factors) == 1 and self._falls(factors[0], used[0]):
            return used[0]
        raise Unsupported("a sum of entries that does not fall with the exponential of a score")

    def _falls(self, factor: Expr, top: Leaf) -> bool:
        match factor:
            case Apply(op="exp", args=(Apply(op="where", args=(_, arg, lowest)),)) if lowest is LOWEST:
                return [t for t in terms(arg) if top in leaves([t])] == [build.neg(stable(top))]
            case _:
                return False

    def _leaf(self, name: str, axes: Axes) -> Leaf:
        """A number a query, with all rows: each program has its own."""
        own = (axis for axis in axes if axis not in (TOKEN, *self.rows))
        return Leaf(LeafKind.READ, name, (TOKEN, *self.rows, *own))


def factors_of(expr: Expr) -> list[Expr]:
    """What a product, a quotient, or either of them under a condition is made of."""
    found: list[Expr] = []
    stack = [expr]
    while stack:
        match stack.pop():
            case Apply(op="mul", args=args):
                stack += reversed(args)
            case Apply(op="div", args=(x, y)) if x is not ONE:
                stack += [apply("div", ONE, y), x]
            case Apply(op="neg", args=(x,)):
                stack += [x, Const(-1.0)]
            case Apply(op="where", args=(condition, x, no)) if no is ZERO and x is not ONE:
                stack += [x, where(condition, ONE, ZERO)]
            case factor:
                found.append(factor)
    return found
