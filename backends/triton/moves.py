"""Moves of entries as sums: registers have no addresses, so that an entry is found by comparing places.

`x[k]` is `Σ_i where(i = k, x[i], 0)`, which is exact whatever the other entries are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqc.ir import build
from seqc.ir.build import ZERO, apply, where
from seqc.ir.expr import At, Concat, Const, Expr, Index, Put, Shift, Size, Slice, Take
from seqc.ir.traverse import rewrite

from ..cpu.program import Target, Task


def without_moves(task: Task, sizes: Mapping[str, int]) -> Task:
    """The same task over elementwise functions, sums, maxima and renames."""
    values = rewrite([target.value for target in task.targets], lambda node: compared(node, sizes))
    kept = zip(task.targets, values, strict=True)
    return Task(task.name, tuple(Target(target.leaf, value, target.adds) for target, value in kept))


def compared(node: Expr, sizes: Mapping[str, int]) -> Expr | None:
    match node:
        case At():
            place = node.index if node.index >= 0 else sizes[node.axis] + node.index
            return picked(node.arg, node.axis, Const(place))
        case Slice():
            return picked(node.arg, node.axis, build.add(Index(node.new), Const(node.start)))
        case Shift():
            source = f"{node.axis}~source"
            arg = build.rename(node.arg, {node.axis: source})
            return picked(arg, source, build.sub(Index(node.axis), Const(node.by)))
        case Take():
            return _taken(node)
        case Put():
            here = apply("eq", Index(node.axis), node.index)
            return build.sum_over(node.over, where(here, node.arg, ZERO))
        case Concat():
            return _joined(node.axis, node.parts, node.starts, node.args)
        case _:
            return None


def picked(arg: Expr, axis: str, place: Expr) -> Expr:
    return build.sum_over([axis], where(apply("eq", Index(axis), place), arg, ZERO))


def _taken(node: Take) -> Expr:
    """Places may have the axis that is looked up, under the same name."""
    source = f"{node.axis}~source"
    return picked(build.rename(node.arg, {node.axis: source}), source, node.index)


def _joined(axis: str, parts: Sequence[str], starts: Sequence[int], args: Sequence[Expr]) -> Expr:
    found: list[Expr] = []
    for k, (part, start, arg) in enumerate(zip(parts, starts, args, strict=True)):
        source = f"{part}~source{k}" if part == axis else part
        renamed = build.rename(arg, {part: source})
        place = build.sub(Index(axis), Const(start))
        if source in renamed.axes:
            found.append(picked(renamed, source, place))
        else:  # the same along the whole part
            inside = apply("and", apply("ge", place, ZERO), apply("lt", place, Size(part)))
            found.append(where(inside, renamed, ZERO))
    return build.total(found)
