"""The two sides of a product of matrices: what only scales them is kept from those that are read as they are.

`Σ_n q[i, n] · (w[j] · k[j, n])` of inputs `q` and `k` of 16 bits is `w[j] · Σ_n q[i, n] · k[j, n]`, whose factors are
not rounded; and of `Σ_j p[i, j] · (w[j] · v[j, m])` only `p · w` is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from seqc.ir import build
from seqc.ir.expr import Expr, Rename

from ..cpu.rewrite import factors_of
from .printing import GIVEN, SIGN, Value


class Sides(NamedTuple):
    """The factors of two matrices, and of what their product is multiplied with."""

    left: list[Value]
    right: list[Value]
    outside: list[Value]


def apart(product: Expr, given: Callable[[Expr], bool]) -> Iterator[Expr]:
    """The factors of a product, and those of renamed ones of which one is `given` as it is."""
    for factor in factors_of(product):
        if isinstance(factor, Rename) and any(given(x) for x in factors_of(factor.arg)):
            yield from (build.rename(x, dict(factor.pairs)) for x in factors_of(factor.arg))
        else:
            yield factor


def unscaled(sides: Sides, bound: set[str], volume: Callable[[Iterable[str]], int]) -> Sides:
    """The same product, whose sides are inputs as they are where that is possible.

    What scales an input along the axes of the sum, `bound`, goes to the other side; where both are inputs, to the
    smaller one, which then is rounded.
    """
    pair, outside = [sides.left, sides.right], [*sides.outside]
    kept = [_input(side, bound) for side in pair]
    inner = [v for side in pair for v in side if v.bits > SIGN and v.axes and {*v.axes} <= bound]
    if all(kept) and inner:
        small = min((0, 1), key=lambda k: volume({axis for value in pair[k] for axis in value.axes}))
        kept[small] = None
    for k, value in enumerate(kept):
        if value is None:
            continue
        rest = [x for x in pair[k] if x is not value and x.bits > SIGN]
        pair[k] = [x for x in pair[k] if x not in rest]
        for x in rest:
            (pair[1 - k] if {*x.axes} <= bound and kept[1 - k] is None else outside).append(x)
    left, right = pair
    return Sides(left, right, outside)


def _input(side: Iterable[Value], bound: set[str]) -> Value | None:
    """The one value of a side that is a matrix, if it is an input as it is."""
    matrices = [x for x in side if x.bits > SIGN and {*x.axes} & bound and {*x.axes} - bound]
    return matrices[0] if len(matrices) == 1 and matrices[0].bits == GIVEN else None
