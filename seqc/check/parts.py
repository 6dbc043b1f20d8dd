"""Parts of an axis: `split` and `concat`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqc.check.builtins import KINDS
from seqc.diagnostics.axes import ConcatAxes, SplitAxes
from seqc.diagnostics.blocks import ArgumentCount, UnknownArgument
from seqc.diagnostics.rules import WrongKind
from seqc.diagnostics.settings import PartsDoNotAddUp
from seqc.ir import build
from seqc.ir.expr import Axes, Expr, Slice
from seqc.syntax import tree

if TYPE_CHECKING:
    from seqc.check.expressions import Elaborator


def concat(elaborator: Elaborator, node: tree.Call, expected: Axes | None) -> Expr:
    for keyword in node.keywords:
        elaborator.context.fail(UnknownArgument(keyword.name.span, keyword.name.text, "concat", ()))
    if len(node.args) < 2:
        elaborator.context.fail(ArgumentCount(node.span, "concat", "two values or more", len(node.args)))
    args = elaborator.all(node.args)
    for arg, written in zip(args, node.args, strict=True):
        if arg.dtype is not args[0].dtype:
            elaborator.context.fail(WrongKind(written.span, KINDS[args[0].dtype], KINDS[arg.dtype]))
    wanted = elaborator.context.axes(node.result) if node.result is not None else expected
    axis, parts = _concat_axes(elaborator, node, args, wanted)
    starts: list[int] = []
    length = 0
    for part in parts:
        starts.append(length)
        length += elaborator.context.sizes[part]
    if length != elaborator.context.sizes[axis] and not elaborator.context.made_up & {axis, *parts}:
        elaborator.context.fail(PartsDoNotAddUp(node.span, axis, elaborator.context.sizes[axis], length))
    return elaborator.checked_result(node, build.concat(axis, tuple(parts), tuple(starts), args))


def _concat_axes(
    elaborator: Elaborator, node: tree.Call, args: list[Expr], wanted: Axes | None
) -> tuple[str, list[str]]:
    named = elaborator.context.axes(node.over)
    parts: list[str] = []
    joined = named[0] if len(named) == 1 else None
    for arg, written in zip(args, node.args, strict=True):
        own = elaborator.declared(arg.axes)
        missing = [] if wanted is None else [a for a in wanted if a not in own]
        left = [a for a in own if wanted is None or a not in wanted]
        if joined is None and len(missing) == 1:
            joined = missing[0]
        if len(left) != 1 or joined is None or (wanted is not None and missing != [joined]):
            elaborator.context.fail(ConcatAxes(written.span, own, wanted))
        parts.append(left[0])
    if joined is None or any(axis not in elaborator.context.sizes for axis in (joined, *parts)):
        elaborator.context.fail(ConcatAxes(node.span, (), wanted))
    return joined, parts


def split(elaborator: Elaborator, node: tree.Call, targets: Sequence[tree.Target]) -> list[Expr]:
    """The stretches of an axis, one a target; each target names its own part."""
    elaborator.arguments(node, 1)
    arg = elaborator.value(node.args[0])
    own = elaborator.declared(arg.axes)
    over = elaborator.over(node, arg)
    parts: list[str] = []
    axis: str | None = over[0] if len(over) == 1 else None
    for target in targets:
        axes = elaborator.context.fixed_axes(target.axes or ())
        new = [a for a in axes if a not in own]
        gone = [a for a in own if a not in axes]
        if target.axes is None or len(new) != 1 or len(gone) != 1 or axis not in (None, gone[0]):
            elaborator.context.fail(SplitAxes(target.span, own, axes))
        axis = gone[0]
        parts.append(new[0])
    if axis is None:
        elaborator.context.fail(SplitAxes(node.span, own, ()))
    return _stretches(elaborator, node, arg, axis, parts)


def _stretches(elaborator: Elaborator, node: tree.Call, arg: Expr, axis: str, parts: list[str]) -> list[Expr]:
    results: list[Expr] = []
    start = 0
    for part in parts:
        results.append(Slice(axis, part, start, arg))
        start += elaborator.context.sizes[part]
    if start != elaborator.context.sizes.get(axis, start) and not elaborator.context.made_up & {axis, *parts}:
        elaborator.context.fail(PartsDoNotAddUp(node.span, axis, elaborator.context.sizes[axis], start))
    return results
