"""Declared parameters, and initial values: expressions in which random draws are allowed."""

from __future__ import annotations

from seqc.check.expressions import Elaborator
from seqc.diagnostics.axes import AxesDiffer
from seqc.diagnostics.memories import InitialDependsOnToken
from seqc.ir.expr import Apply, Axes, Expr, LeafKind
from seqc.ir.ops import RANDOM
from seqc.ir.recurrence import Parameter
from seqc.ir.traverse import leaves
from seqc.syntax import tree


def declare_parameter(elaborator: Elaborator, node: tree.ParamDecl, decays: bool) -> None:
    """`param table[vocab, d] = normal(0, 0.02)`.

    Weight decay is for weights: what begins at a number, or at a function of a draw, is a gate, a scale or a bias.
    """
    context = elaborator.context
    axes = context.fixed_axes(node.axes)
    initial = draw(elaborator, node.initial, axes)
    leaf = context.parameter(
        Parameter(node.name.text, axes, initial, decays and _is_drawn(initial)), node.span
    )
    context.instances.add(node.name.text)
    context.define(node.name, leaf)


def _is_drawn(initial: Expr) -> bool:
    return isinstance(initial, Apply) and initial.op in RANDOM


def draw(elaborator: Elaborator, node: tree.Expr, axes: Axes) -> Expr:
    """The initial value of a parameter: numbers, random draws, positions and earlier parameters."""
    context = elaborator.context
    before, elaborator.drawing = elaborator.drawing, True
    try:
        initial = elaborator.value(node)
    finally:
        elaborator.drawing = before
    if any(leaf.kind is not LeafKind.PARAM for leaf in leaves([initial])):
        context.fail(InitialDependsOnToken(node.span))
    if not set(initial.axes) <= set(axes):
        context.fail(AxesDiffer(node.span, "the parameter", axes, initial.axes))
    return initial
