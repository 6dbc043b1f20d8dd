"""Small rewrites of a finished list of nodes."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from .builder import Builder, needed_nodes

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


def join_reshapes(builder: Builder, outputs: Iterable[ir.Value]) -> None:
    """A `Reshape` whose result is only reshaped again, or gets dimensions of 1, does all of it at once."""
    fixed = set(outputs)
    for node in builder.nodes:
        if node.op_type not in ("Reshape", "Unsqueeze") or node.inputs[0] is None:
            continue
        before = node.inputs[0].producer()
        if before is None or before.op_type != "Reshape" or before.outputs[0] in fixed:
            continue
        target = _joined(_numbers(before.inputs[1]), _numbers(node.inputs[1]), node.op_type)
        if target is None or len(list(before.outputs[0].uses())) > 1:
            continue
        if node.op_type == "Unsqueeze" and node.outputs[0] not in fixed:
            node.outputs[0].name = builder.names.claim("reshape")
        node.op_type = "Reshape"
        node.replace_input_with(0, before.inputs[0])
        node.replace_input_with(1, builder.ints(*target))
    builder.nodes = needed_nodes(builder.nodes, list(fixed))


def _joined(first: list[int] | None, second: list[int] | None, op: str) -> list[int] | None:
    """The lengths that two changes of shape give together; 0 in them is the length at this place before."""
    if first is None or second is None:
        return None
    if op == "Reshape":
        return second if all(n or first[i : i + 1] == [0] for i, n in enumerate(second)) else None
    shape = list(first)
    for place in sorted(second):
        if place < 0 or 0 in shape[place:]:
            return None
        shape.insert(place, 1)
    return shape


def _numbers(value: ir.Value | None) -> list[int] | None:
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return [int(x) for x in value.const_value.numpy().ravel()]


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
    found = _numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if found is None else sorted(found)
