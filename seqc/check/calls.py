"""Calls of rules and blocks, in blocks and in rules."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.check.expressions import Elaborator
from seqc.check.matching import Caller
from seqc.check.session import Definition, Namespace, Session, Signature
from seqc.check.uses import is_pure
from seqc.diagnostics.blocks import (
    OutputCount,
    StatefulInRule,
)
from seqc.ir.expr import (
    Axes,
    DType,
    Expr,
    Invoke,
    Item,
)
from seqc.ir.program import Function
from seqc.ir.recurrence import Recurrence
from seqc.syntax import tree


def call_results(
    elaborator: Elaborator,
    session: Session,
    home: Namespace,
    node: tree.Call,
    expected: Axes | None,
    path: str,
) -> list[Expr]:
    """All results of a call of a rule or a block in a block; `path` names the instance if there is one."""
    caller = Caller(elaborator, session, home)
    definition = caller.find(node)
    matching = caller.match(node, definition, expected)
    use, outer = caller.signature(matching)
    callee: Recurrence | Function
    if isinstance(definition.node, tree.Rule):
        rule_use = Signature(
            use.settings, _own_sizes(use, outer), _own_inputs(use, definition), use.mapped, use.made_up
        )
        rec = session.rule(definition, rule_use, node.span)
        extra = {
            name: axes[: len(axes) - len(own)]
            for (name, own), (axes, _) in zip(definition.declared.items(), use.inputs, strict=True)
        }
        callee = session.map(rec, extra, outer)
    else:
        callee = session.function(definition, use, node.span)
        if is_pure(callee):
            return caller.inline(matching, callee)
    call = Invoke(elaborator.context.instance(path), callee, caller.arguments(matching))
    items = [Item(call, index) for index in range(len(callee.outputs))]
    return caller.results(matching, items, dict(callee.sizes))


def _own_sizes(use: Signature, outer: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((axis, size) for axis, size in use.sizes if axis not in outer)


def _own_inputs(use: Signature, definition: Definition) -> tuple[tuple[Axes, DType], ...]:
    pairs = zip(definition.declared.values(), use.inputs, strict=True)
    return tuple((own, dtype) for own, (_, dtype) in pairs)


def inline_call(
    elaborator: Elaborator, session: Session, home: Namespace, node: tree.Call, expected: Axes | None
) -> Expr:
    """A call in a rule: of a block that only computes."""
    caller = Caller(elaborator, session, home)
    definition = caller.find(node)
    if isinstance(definition.node, tree.Rule):
        elaborator.context.fail(StatefulInRule(node.callee.span, definition.name))
    matching = caller.match(node, definition, expected)
    use, _ = caller.signature(matching)
    function = session.function(definition, use, node.span)
    if not is_pure(function):
        elaborator.context.fail(StatefulInRule(node.callee.span, definition.name))
    return one(elaborator, node, caller.inline(matching, function))


def one(elaborator: Elaborator, node: tree.Call, values: Sequence[Expr]) -> Expr:
    if len(values) != 1:
        elaborator.context.fail(OutputCount(node.span, 1, len(values)))
    return values[0]
