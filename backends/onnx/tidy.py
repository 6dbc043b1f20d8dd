"""Small rewrites of a finished list of nodes."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from .builder import Builder
from .shapes import joined, numbers

REDUCTIONS = frozenset({"ReduceSum", "ReduceMax", "ReduceSumSquare"})
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Sqrt", "Exp", "Log", "Neg", "Abs", "Max", "Min", "Pow"})
ONE_BY_ONE = frozenset(
    {"QuickGelu", "Gelu", "Sigmoid", "Tanh", "Relu", "Softplus", "Exp", "Log", "Neg", "Sqrt", "Abs"}
)
MOST = 512  # channels for which the operator's own activation is faster than a node after it


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
    """A `Reshape` whose result only gets dimensions of 1 makes these too."""
    fixed = set(outputs)
    for node in builder.nodes:
        if node.op_type != "Unsqueeze" or node.inputs[0] is None:
            continue
        before = node.inputs[0].producer()
        if before is None or before.op_type != "Reshape" or before.outputs[0] in fixed:
            continue
        target = _unsqueezed(numbers(before.inputs[1]), numbers(node.inputs[1]))
        if target is None or len(list(before.outputs[0].uses())) > 1:
            continue
        if node.outputs[0] not in fixed:
            node.outputs[0].name = builder.names.claim("reshape")
        node.op_type = "Reshape"
        node.replace_input_with(0, before.inputs[0])
        node.replace_input_with(1, builder.ints(*target))
    builder.prune(list(fixed))


def shape_at_once(builder: Builder, outputs: Iterable[ir.Value]) -> None:
    """Changes of shape one after another are one, also where a function of single numbers stands in between."""
    fixed = set(outputs)
    for node in builder.nodes:
        if node.op_type == "Reshape" and node.inputs[0] is not None:
            target = numbers(node.inputs[1])
            if target is not None:
                source, lengths = joined(node.inputs[0], target)
                node.replace_input_with(0, source)
                node.replace_input_with(1, builder.ints(*lengths))
        elif node.op_type == "Unsqueeze" and node.outputs[0] not in fixed:
            whole = _not_squeezed(node) or _widened(builder, node, fixed)
            for use in [] if whole is None else list(node.outputs[0].uses()):
                use.node.replace_input_with(use.idx, whole)
    builder.prune(list(fixed))


def _not_squeezed(node: ir.Node) -> ir.Value | None:
    """What had the dimensions of 1 that a node gives before they were taken from it."""
    before = None if node.inputs[0] is None else node.inputs[0].producer()
    places = numbers(node.inputs[1])
    if before is None or before.op_type != "Squeeze" or places is None or len(before.inputs) < 2:
        return None
    return before.inputs[0] if numbers(before.inputs[1]) == places else None


def _widened(builder: Builder, node: ir.Node, fixed: set[ir.Value]) -> ir.Value | None:
    """The input of a node after the `Reshape` further up makes the dimensions that the node gives."""
    before = _reshape_above(node, fixed)
    target = None if before is None else _unsqueezed(numbers(before.inputs[1]), numbers(node.inputs[1]))
    if before is None or target is None:
        return None
    before.replace_input_with(1, builder.ints(*target))
    return node.inputs[0]


def _reshape_above(node: ir.Node, fixed: set[ir.Value]) -> ir.Node | None:
    """The `Reshape` behind a node, with only functions of single numbers, each used once, in between."""
    value = node.inputs[0]
    while value is not None and value not in fixed and len(list(value.uses())) == 1:
        before = value.producer()
        if before is None or before.op_type == "Reshape":
            return before
        if before.op_type not in ONE_BY_ONE:
            return None
        value = before.inputs[0]
    return None


def fold_signs(builder: Builder) -> None:
    """The negative of a product with a constant is the product with the negative constant."""
    for node in builder.nodes:
        product = None if node.op_type != "Neg" or node.inputs[0] is None else node.inputs[0].producer()
        if product is None or product.op_type != "Mul" or len(list(product.outputs[0].uses())) > 1:
            continue
        constants = [x for x in product.inputs if x is not None and x.const_value is not None]
        constants = [x for x in constants if not x.is_graph_input()]
        if product.outputs[0].is_graph_output() or not constants:
            continue
        constant = constants[0]
        assert constant.const_value is not None
        negative = builder.constant(-constant.const_value.numpy())
        others = [x for x in product.inputs if x is not constant] or [constant]
        node.op_type = "Mul"
        node.resize_inputs(2)
        node.replace_input_with(0, others[0])
        node.replace_input_with(1, negative)


def fuse_activations(builder: Builder, outputs: Iterable[ir.Value]) -> None:
    """`x · sigmoid(x)` of what the operator for few convolutions gives, and nobody else uses, is done by it."""
    fixed = list(outputs)
    for node in builder.nodes:
        conv = _convolution_above(node, fixed) if node.op_type == "QuickGelu" else None
        if conv is None or node.inputs[0] is None or node.outputs[0] in fixed or _channels(conv) > MOST:
            continue
        conv.attributes["activation"] = ir.AttrString("activation", "silu")
        for use in list(node.outputs[0].uses()):
            use.node.replace_input_with(use.idx, node.inputs[0])
    builder.prune(fixed)


def _convolution_above(node: ir.Node, fixed: list[ir.Value]) -> ir.Node | None:
    """The convolution that a node's only input is, but for its shape."""
    value = node.inputs[0]
    while value is not None and value not in fixed and len(list(value.uses())) == 1:
        before = value.producer()
        if before is None:
            return None
        if before.op_type == "CausalConvWithState":
            return before if value is before.outputs[0] else None
        if before.op_type not in ("Reshape", "Squeeze", "Unsqueeze"):
            return None
        value = before.inputs[0]
    return None


def _channels(conv: ir.Node) -> int:
    kernel = conv.inputs[1]
    length = None if kernel is None or kernel.shape is None else kernel.shape[0]
    return length if isinstance(length, int) else 0


def _unsqueezed(lengths: list[int] | None, places: list[int] | None) -> list[int] | None:
    """The lengths of a `Reshape` with dimensions of 1 added at places; 0 in them is the length there before."""
    if lengths is None or places is None:
        return None
    shape = list(lengths)
    for place in sorted(places):
        if place < 0 or 0 in shape[place:]:
            return None
        shape.insert(place, 1)
    return shape


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
    found = numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if found is None else sorted(found)
