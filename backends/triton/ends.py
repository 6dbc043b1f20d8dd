"""One entry along an axis, without computing the others where that can be avoided.

The kernel of a gate at the last token of a block, for one, is a product from the other end: one scan over tokens
instead of one for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqc.ir import build
from seqc.ir.build import ONE, ZERO, apply, where
from seqc.ir.expr import Apply, At, Const, Expr, Index, Reduce, Rename, Scan, Shift
from seqc.ir.traverse import rewrite
from seqc.passes.forms.kernels import size_of

from .moves import picked


def ended(roots: Sequence[Expr], sizes: Mapping[str, int]) -> tuple[Expr, ...]:
    """The same values, entries along axes as `entry` writes them."""

    def found(node: Expr) -> Expr | None:
        if not isinstance(node, At):
            return None
        place = node.index if node.index >= 0 else sizes[node.axis] + node.index
        return entry(node.arg, node.axis, place, sizes)

    return rewrite(roots, found)


def entry(arg: Expr, axis: str, place: int, sizes: Mapping[str, int]) -> Expr:
    """`arg` at one place of `axis`, counted from 0."""
    if axis not in arg.axes:
        return arg
    match arg:
        case Index():
            return Const(place)
        case Apply():
            return build.apply(arg.op, *(entry(x, axis, place, sizes) for x in arg.args))
        case Reduce() if axis not in arg.over:
            return build.reduce(arg.op, arg.over, entry(arg.arg, axis, place, sizes))
        case Rename():
            before = {new: old for old, new in arg.pairs}.get(axis, axis)
            return build.rename(entry(arg.arg, before, place, sizes), dict(arg.pairs))
        case Scan() if arg.axis == axis and place == size_of(axis, sizes) - 1:
            return _end(arg, place)
        case _:
            return _picked(arg, axis, place)


def _picked(arg: Expr, axis: str, place: int) -> Expr:
    return picked(arg, axis, Const(place))


def _end(scan: Scan, place: int) -> Expr:
    """The last entry of a scan: a sum, or for a source that is 1 at one place a product of what follows it."""
    plain = not scan.reverse and scan.columns is None
    if plain and scan.decay is ONE:
        return build.sum_over([scan.axis], scan.source)
    other = place_of_one(scan.source, scan.axis)
    if plain and other and other not in scan.decay.axes:
        last = where(apply("eq", Index(scan.axis), Const(place)), ONE, ZERO)
        back = Scan(_later(scan.decay, scan.axis, place), last, scan.axis, reverse=True)
        return build.rename(back, {scan.axis: other})
    return _picked(scan, scan.axis, place)


def _later(decay: Expr, axis: str, place: int) -> Expr:
    """The value at the next place; what stands at the last one is not used."""
    if axis not in decay.axes:
        return decay
    if len(decay.axes) == 1:
        source = f"{axis}~source"
        return picked(build.rename(decay, {axis: source}), source, build.add(Index(axis), ONE))
    return Shift(axis, -1, decay)


def place_of_one(source: Expr, axis: str) -> str:
    """The axis `j` of `where(i = j, 1, 0)` where `i` is the position along `axis`; else nothing."""
    match source:
        case Apply(op="where", args=(Apply(op="eq", args=(Index() as x, Index() as y)), yes, no)):
            if yes is ONE and no is ZERO and axis in (x.axis, y.axis) and x.axis != y.axis:
                return y.axis if x.axis == axis else x.axis
        case _:
            pass
    return ""
