"""Shifts of smaller blocks: what meets in a product, a sum or a scan is moved before it meets.

A block of all pairs of tokens times a key's entries is moved through shared memory; the gates, keys and pairs that it
is made of are a fraction of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

from seqc.ir import build
from seqc.ir.build import ONE, ZERO, apply, where
from seqc.ir.expr import Apply, Const, Expr, Index, Scan, Shift
from seqc.ir.traverse import rewrite
from seqc.passes.forms.kernels import size_of

from .ends import place_of_one


class Moved(NamedTuple):
    """A value that was moved, and how many entries the moves in it move."""

    value: Expr
    entries: int


def inward(roots: Sequence[Expr], sizes: Mapping[str, int]) -> tuple[Expr, ...]:
    """The same values, fewer entries of which are moved."""

    def found(node: Expr) -> Expr | None:
        if not isinstance(node, Shift):
            return None
        made = _moved(node.arg, node.axis, node.by, sizes)
        return made.value if made.entries < _volume(node, sizes) else None

    return rewrite(roots, found)


def _moved(x: Expr, axis: str, by: int, sizes: Mapping[str, int]) -> Moved:
    """`Shift(axis, by, x)`, whose zeros come from the factors, the summands or the source."""

    def inside(y: Expr) -> Moved:
        return _moved(y, axis, by, sizes) if axis in y.axes else Moved(y, 0)

    match x:
        case Apply(op="mul" | "add" | "sub", args=(a, b)) if x.op == "mul" or (
            axis in a.axes and axis in b.axes
        ):
            first, second = inside(a), inside(b)
            return Moved(build.apply(x.op, first.value, second.value), first.entries + second.entries)
        case Scan(columns=None) if x.axis == axis in x.source.axes and (by < 0) == x.reverse:
            decay = Moved(x.decay, 0)
            if axis in x.decay.axes:
                decay = _kept(x.decay, axis, by, sizes)
            if not (other := place_of_one(x.source, axis)):
                source = inside(x.source)
            elif not x.reverse:
                start = apply("eq", build.sub(Index(axis), Const(by)), Index(other))
                source = Moved(where(start, ONE, ZERO), 0)
            else:
                return _kept(x, axis, by, sizes)
            found = Scan(decay.value, source.value, axis, x.reverse)
            return Moved(found, decay.entries + source.entries)
        case _:
            return _kept(x, axis, by, sizes)


def _kept(x: Expr, axis: str, by: int, sizes: Mapping[str, int]) -> Moved:
    found = Shift(axis, by, x)
    return Moved(found, _volume(found, sizes))


def place_after_one(source: Expr, axis: str) -> tuple[str, int]:
    """The axis `j` and `by` of `where(i - by = j, 1, 0)` where `i` is the position along `axis`; else nothing."""
    match source:
        case Apply(
            op="where", args=(Apply(op="eq", args=(Apply(op="sub", args=(x, Const() as by)), y)), yes, no)
        ):
            if isinstance(x, Index) and isinstance(y, Index) and x.axis == axis != y.axis:
                return (y.axis, int(by.value)) if yes is ONE and no is ZERO else ("", 0)
        case _:
            pass
    return place_of_one(source, axis), 0


def _volume(x: Expr, sizes: Mapping[str, int]) -> int:
    return prod(size_of(axis, sizes) for axis in x.axes)
