"""Functions that a choice names: mirror maps, proximal operators, what a learner does to a direction.

`softmax[n]`, `soft_threshold(mu)`, `newton_schulz(steps = 5)`: a built-in word or a block that only computes, whose
first argument is left out.  It is a tensor of the memory.  Where no bracket says which axes are meant, a function of as
many axes as the tensor has takes them all, the memory's outputs first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from seqc.diagnostics.learners import NotAMap
from seqc.diagnostics.words import axes
from seqc.ir.expr import DType, Expr
from seqc.ir.recurrence import State
from seqc.syntax import tree

if TYPE_CHECKING:
    from seqc.check.rule import RuleElaborator

_VALUE = "this tensor"  # no text can say it: names have no spaces


def apply_map(elaborator: RuleElaborator, node: tree.Expr, value: Expr, tensor: State) -> Expr:
    """What a function gives for `value`, which stands for `tensor`: the same axes, real where that is real."""
    context = elaborator.context
    call = _call(elaborator, node, tensor)
    context.values[_VALUE] = value
    try:
        result = elaborator.call(call, None)
    finally:
        del context.values[_VALUE]
    beyond = [axis for axis in result.axes if axis not in tensor.axes]
    if beyond or result.dtype not in {DType.REAL, tensor.dtype}:
        reason = f"`{tensor.name}` has {axes(tensor.axes)}, and what this gives has {axes(result.axes)}"
        context.fail(NotAMap(node.span, reason if beyond else "this does not give real numbers"))
    return result


def _call(elaborator: RuleElaborator, node: tree.Expr, tensor: State) -> tree.Call:
    """The call with its first argument, and with the axes that it works on."""
    value = tree.Name(_VALUE, span=node.span)
    match node:
        case tree.Name(primed=False):
            call = tree.Call(node, (), (value,), (), span=node.span)
        case tree.Bracket(value=tree.Name(primed=False) as callee, items=items) if all(
            item.renamed_to is None for item in items
        ):
            call = tree.Call(callee, tuple(item.axis for item in items), (value,), (), span=node.span)
        case tree.Call(result=None, as_name=None) if not node.callee.primed:
            call = replace(node, args=(value, *node.args))
        case _:
            elaborator.context.fail(NotAMap(node.span, "this is not a function of one tensor"))
    definition = elaborator.home.lookup(call.callee.name)
    if call.over or definition is None or not definition.node.values:
        return call
    declared = definition.node.values[0].axes
    if len(declared) > len(tensor.axes):
        reason = (
            f"`{call.callee.name}` is of {len(declared)} axes, and `{tensor.name}` has {axes(tensor.axes)}"
        )
        elaborator.context.fail(NotAMap(node.span, reason))
    if len(declared) < 2 or len(declared) < len(tensor.axes):
        return call
    over = tuple(tree.Ident(axis, span=node.span) for axis in tensor.axes)
    return replace(call, over=over)
