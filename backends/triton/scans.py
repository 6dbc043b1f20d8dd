"""Fewer scans: without the factors that no token changes, and with the same gates as one.

A scan is linear in its source: one of `c·x` is `c` times one of `x`, where `c` is the same along the axis.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir import build
from seqc.ir.build import ZERO, where
from seqc.ir.expr import Apply, Const, Expr, Index, Scan
from seqc.ir.traverse import rewrite, walk

from ..cpu.rewrite import factors_of


def outside_scans(roots: Sequence[Expr]) -> tuple[Expr, ...]:
    """The same values, factors of a scan's source that do not have its axis taken out of it."""
    return rewrite(roots, _outside)


def _outside(node: Expr) -> Expr | None:
    if not isinstance(node, Scan) or node.columns is not None:
        return None
    factors = _shared(node.source, node.axis)
    rest = _without(node.source, factors)
    if not factors or node.axis not in rest.axes:
        return None
    return build.mul(build.product(factors), Scan(node.decay, rest, node.axis, node.reverse))


def _shared(value: Expr, axis: str) -> list[Expr]:
    """The factors of all summands that are the same along an axis."""
    match value:
        case Apply(op="add" | "sub", args=(x, y)):
            others = _shared(y, axis)
            return [factor for factor in _shared(x, axis) if factor in others]
        case Apply(op="where", args=(_, yes, no)) if no is ZERO:
            return _shared(yes, axis)
        case _:
            found = [x for x in factors_of(value) if axis not in x.axes and not isinstance(x, Const)]
            return list(dict.fromkeys(found))


def _without(value: Expr, factors: Sequence[Expr]) -> Expr:
    """What is left when all summands are divided by factors that they share."""
    match value:
        case Apply(op="add" | "sub", args=(x, y)):
            return build.apply(value.op, _without(x, factors), _without(y, factors))
        case Apply(op="where", args=(condition, yes, no)) if no is ZERO:
            return where(condition, _without(yes, factors), ZERO)
        case _:
            left = factors_of(value)
            for factor in factors:
                left.remove(factor)
            return build.product(left)


def joined(scans: Sequence[Scan]) -> dict[Expr, Expr]:
    """Scans that are the products of all gates so far, each with another one that has the same gates."""
    products = [node for node in scans if _is_product(node)]
    return {
        node: other
        for node in products
        for other in scans
        if other not in products
        and (other.decay, other.axis, other.reverse) == (node.decay, node.axis, node.reverse)
        and {*node.axes} == {*other.axes}
        and node not in set(walk([other]))
    }


def _is_product(node: Scan) -> bool:
    """Whether a scan from the first place on is `gate[0]`, `gate[0]·gate[1]`, …"""
    match node.source:
        case Apply(op="where", args=(Apply(op="eq", args=(Index() as place, first)), gate, no)):
            same = place.axis == node.axis and gate is node.decay and not node.reverse
            return same and first is ZERO and no is ZERO
        case Apply(op="complex", args=(x, y)):
            decay, axis = node.decay, node.axis
            return all(
                _is_product(Scan(build.apply(part, decay), source, axis, node.reverse))
                for part, source in (("real", x), ("imag", y))
            )
        case _:
            return False
