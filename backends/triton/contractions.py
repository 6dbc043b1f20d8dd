"""Sums of products in another order, so that no value on the way is larger than it has to be.

`Σ_h x[i, h] · (w[h, m] + Σ_j k[j, h] · g[i, j, m])`, a layer that has changed from token to token, is
`Σ_h x[i, h] · w[h, m] + Σ_j (Σ_h x[i, h] · k[j, h]) · g[i, j, m]`: no token needs the layer written out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from seqc.ir import build
from seqc.ir.expr import Apply, Expr, Reduce
from seqc.ir.traverse import rewrite
from seqc.passes.forms.kernels import size_of

from ..cpu.rewrite import factors_of

LARGEST = 8192  # numbers of matrices at all tokens that are written out


def reordered(roots: Sequence[Expr], sizes: Mapping[str, int]) -> tuple[Expr, ...]:
    """The same values, over smaller sums."""

    def ordered(node: Expr) -> Expr | None:
        if not (isinstance(node, Reduce) and node.op == "sum"):
            return None
        terms = _terms(node.arg, node.over, sizes)
        mixed = len(node.over) > 1 and any({*node.over} - {*x.axes} for x in terms[0][0])
        if len(terms) == 1 and not mixed and not _large(node, node.axes, sizes):
            return None
        return build.total([_contracted(factors, over, sizes) for factors, over in terms])

    return rewrite(roots, ordered)


Term = tuple[list[Expr], tuple[str, ...]]  # factors, and the axes over which their product is summed


def _terms(arg: Expr, over: tuple[str, ...], sizes: Mapping[str, int]) -> list[Term]:
    """A sum as several, where a factor has matrices among its summands: their sums become part of it."""
    factors = factors_of(arg)
    for k, factor in enumerate(factors):
        summands = _summands(factor)
        if not any(_large(x, over, sizes) for own in summands for x in own):
            continue
        rest = [*factors[:k], *factors[k + 1 :]]
        return [term for own in summands for term in _terms(*_merged([*rest, *own], over, sizes), sizes)]
    return [(factors, over)]


def _summands(x: Expr) -> list[list[Expr]]:
    """The factors of each summand."""
    match x:
        case Apply(op="add", args=(a, b)):
            return [*_summands(a), *_summands(b)]
        case Apply(op="sub", args=(a, b)):
            return [*_summands(a), *([build.const(-1.0), *own] for own in _summands(b))]
        case _:
            return [factors_of(x)]


def _large(x: Expr, over: Iterable[str], sizes: Mapping[str, int]) -> bool:
    """Whether a factor is a sum that gives matrices at all tokens."""
    matrices = isinstance(x, Reduce) and x.op == "sum" and len(x.axes) > 2
    return matrices and not {*over}.isdisjoint(x.axes) and _size(x.axes, sizes) > LARGEST


def _merged(
    factors: Sequence[Expr], over: tuple[str, ...], sizes: Mapping[str, int]
) -> tuple[Expr, tuple[str, ...]]:
    """The large sums among factors as part of the sum of their product."""
    found: list[Expr] = []
    for factor in factors:
        if not _large(factor, over, sizes):
            found.append(factor)
            continue
        assert isinstance(factor, Reduce)
        taken = {*over, *(axis for x in factors if x is not factor for axis in x.axes)}
        fresh = {axis: f"{axis}~{len(over)}" if axis in taken else axis for axis in factor.over}
        found += [build.rename(x, fresh) for x in factors_of(factor.arg)]
        over = (*over, *fresh.values())
    return build.product(found), over


def _contracted(factors: Sequence[Expr], over: Iterable[str], sizes: Mapping[str, int]) -> Expr:
    """The sum of a product, axis by axis, that first which leaves least; what lacks an axis is outside of its sum."""
    rest, pending = [*factors], [*over]
    while pending:
        axis = min((_size(_left(rest, each), sizes), each) for each in pending)[1]
        pending.remove(axis)
        inside = [x for x in rest if axis in x.axes]
        outside = [x for x in rest if axis not in x.axes]
        rest = [*outside, build.sum_over([axis], build.product(inside))]
    return build.product(rest)


def _left(factors: Iterable[Expr], axis: str) -> set[str]:
    """The axes of a product of those factors that have an axis, summed over it."""
    return {each for x in factors if axis in x.axes for each in x.axes} - {axis}


def _size(axes: Iterable[str], sizes: Mapping[str, int]) -> int:
    return prod(size_of(axis, sizes) for axis in axes)
