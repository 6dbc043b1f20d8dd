"""Small rewrites of a finished list of nodes."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

REDUCTIONS = frozenset({"ReduceSum", "ReduceMax", "ReduceSumSquare"})
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Sqrt", "Exp", "Log", "Neg", "Abs", "Max", "Min", "Pow"})


def keep_dimensions(nodes: list[ir.Node], outputs: Iterable[ir.Value]) -> list[ir.Node]:
    """A reduction whose result only gets its dimensions back further down keeps them instead."""
    fixed = set(outputs)
    gone: set[ir.Node] = set()
    for node in nodes:
        if node.op_type != "Unsqueeze" or node.outputs[0] in fixed:
            continue
        source = node.inputs[0]
        reduction = None if source is None else _reduction_above(source, fixed)
        if source is None or reduction is None or _axes(node) != _axes(reduction):
            continue
        reduction.attributes["keepdims"] = ir.AttrInt64("keepdims", 1)
        for use in list(node.outputs[0].uses()):
            use.node.replace_input_with(use.idx, source)
        gone.add(node)
    return [node for node in nodes if node not in gone]


def _reduction_above(value: ir.Value, fixed: set[ir.Value]) -> ir.Node | None:
    """The reduction behind a value, with only nodes of one moving input, used once, in between."""
    while value not in fixed and len(list(value.uses())) == 1:
        node = value.producer()
        if node is None:
            return None
        if node.op_type in REDUCTIONS:
            return node if node.attributes["keepdims"].as_int() == 0 else None
        if node.op_type not in ELEMENTWISE:
            return None
        moving = [x for x in node.inputs if x is not None and not _is_number(x)]
        if len(moving) != 1:
            return None
        value = moving[0]
    return None


def _is_number(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.size == 1 and not value.is_graph_input()


def _axes(node: ir.Node) -> list[int] | None:
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is None or axes.const_value is None:
        return None
    return sorted(int(x) for x in axes.const_value.numpy())
