"""Faults put into ONNX graphs: one node at a time, of every kind of operation that computes with real
numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE}
OPPOSITE = {
    "Add": "Sub",
    "Sub": "Add",
    "Div": "Mul",
    "ReduceSum": "ReduceMean",
    "ReduceMax": "ReduceMin",
    "Max": "Min",
    "Less": "GreaterOrEqual",
    "Greater": "LessOrEqual",
    "LessOrEqual": "Greater",
    "GreaterOrEqual": "Less",
    "And": "Or",
}
FUNCTIONS = frozenset(
    {"Neg", "Exp", "Sigmoid", "Tanh", "Softplus", "Relu", "Sqrt", "Log", "Erf", "Sin", "Cos", "Softmax"}
)

Change = Callable[[NodeProto], None]


@dataclass(frozen=True)
class GraphMutant:
    """`kind` names the operation and the fault, `node` the output of the node that has it."""

    kind: str
    node: str
    model: ModelProto


def graph_mutants(model: ModelProto) -> Iterator[GraphMutant]:
    """Every mutant of a graph, subgraphs included; a node whose result nobody uses is left alone."""
    types = _types(onnx.shape_inference.infer_shapes(model))
    used = _used(model.graph)
    # An epsilon below single precision: its sign shows in nothing.
    tiny = {t.name for t in model.graph.initializer if t.data_type in FLOATS and _size(t) < 1e-5}
    for path in list(_paths(model.graph)):
        node = _at(model.graph, path)
        if types.get(node.output[0], TensorProto.FLOAT) not in FLOATS or node.output[0] not in used:
            continue
        if node.op_type in ("Add", "Sub") and tiny.intersection(node.input):
            continue
        for kind, change in _changes(node):
            mutated = copy.deepcopy(model)
            target = _at(mutated.graph, path)
            if kind != "Pad: other side" or _turn_pads(mutated.graph, target):
                change(target)
                yield GraphMutant(kind, node.output[0], mutated)


def _size(tensor: TensorProto) -> float:
    values = np.abs(numpy_helper.to_array(tensor))
    return float(values.max()) if values.any() else float("inf")


def _used(graph: GraphProto) -> set[str]:
    names = {info.name for info in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= _used(attribute.g)
    return names


def _types(model: ModelProto) -> dict[str, int]:
    found: dict[str, int] = {}
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        for info in (*graph.input, *graph.output, *graph.value_info):
            if info.type.tensor_type.elem_type:
                found[info.name] = info.type.tensor_type.elem_type
        pending.extend(
            attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")
        )
    return found


Path = tuple[tuple[int, str], ...]


def _paths(graph: GraphProto, prefix: Path = ()) -> Iterator[Path]:
    """Where every node is: positions, and the attributes that lead into subgraphs."""
    for i, node in enumerate(graph.node):
        yield (*prefix, (i, ""))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _paths(attribute.g, (*prefix, (i, attribute.name)))


def _at(graph: GraphProto, path: Path) -> NodeProto:
    for i, name in path[:-1]:
        graph = next(attribute.g for attribute in graph.node[i].attribute if attribute.name == name)
    node: NodeProto = graph.node[path[-1][0]]
    return node


def _changes(node: NodeProto) -> Iterator[tuple[str, Change]]:
    op = node.op_type
    if op in OPPOSITE:
        yield f"{op}: {OPPOSITE[op]} instead", lambda it: _become(it, OPPOSITE[op])
    elif op in FUNCTIONS:
        yield f"{op}: dropped", lambda it: _keep(it, 0)
    elif op == "Mul":
        yield "Mul: right factor dropped", lambda it: _keep(it, 0)
        yield "Mul: left factor dropped", lambda it: _keep(it, 1)
    elif op == "CumSum" and any(
        attribute.name == "exclusive" and attribute.i for attribute in node.attribute
    ):
        yield "CumSum: direction, of one without its own entry", lambda it: _flip(it, "reverse")
    elif op in STRUCTURAL and (op != "Concat" or len(node.input) > 1):
        yield STRUCTURAL[op]


def _become(node: NodeProto, op: str) -> None:
    node.op_type = op


def _keep(node: NodeProto, index: int) -> None:
    kept = node.input[index]
    del node.input[:]
    del node.attribute[:]
    node.input.append(kept)
    node.op_type = "Identity"


def _order(node: NodeProto, *indices: int) -> None:
    inputs = [node.input[i] for i in indices]
    del node.input[:]
    node.input.extend(inputs)


def _flip(node: NodeProto, name: str) -> None:
    for attribute in node.attribute:
        if attribute.name == name:
            attribute.i = 1 - attribute.i
            return
    node.attribute.append(helper.make_attribute(name, 1))


def _turn_scan(node: NodeProto) -> None:
    count = next(attribute.i for attribute in node.attribute if attribute.name == "num_scan_inputs")
    kept = [attribute for attribute in node.attribute if attribute.name != "scan_input_directions"]
    turned: list[AttributeProto] = [*kept, helper.make_attribute("scan_input_directions", [1] * count)]
    del node.attribute[:]
    node.attribute.extend(turned)


def _turn_pads(graph: GraphProto, node: NodeProto) -> bool:
    """Give a `Pad` whose lengths are known the zeros at its other side; False when they are not, or do not
    differ.
    """
    for tensor in graph.initializer:
        if tensor.name == node.input[1]:
            pads = numpy_helper.to_array(tensor)
            turned = np.concatenate(np.split(pads, 2)[::-1])
            if np.array_equal(pads, turned):
                return False
            name = f"{node.output[0]}_turned"
            graph.initializer.append(numpy_helper.from_array(turned, name))
            node.input[1] = name
            return True
    return False


STRUCTURAL: dict[str, tuple[str, Change]] = {
    "MatMul": ("MatMul: exchanged", lambda it: _order(it, 1, 0)),
    "Where": ("Where: exchanged", lambda it: _order(it, 0, 2, 1)),
    "Transpose": ("Transpose: dropped", lambda it: _keep(it, 0)),
    "CumSum": ("CumSum: direction", lambda it: _flip(it, "reverse")),
    "Concat": ("Concat: reversed", lambda it: _order(it, *reversed(range(len(it.input))))),
    "Pad": ("Pad: other side", lambda it: None),
    "Scan": ("Scan: direction", _turn_scan),
}
