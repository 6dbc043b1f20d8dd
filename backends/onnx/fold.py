"""Constant folding: what follows from weights and constants alone is computed once, when the graph is written."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from .builder import Array, Builder


def fold(
    builder: Builder, outputs: list[ir.Value], ir_version: int, opsets: dict[str, int]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Replace constant nodes by initializers.

    Returns, by name, the initializers that are another one but for its shape: which, and the order of its axes.
    """
    fixed = {v for v in builder.initializers.values() if v not in set(builder.inputs)}
    constant: set[ir.Value] = set(fixed)
    nodes: list[ir.Node] = []
    for node in builder.nodes:
        plain = not any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values())
        if plain and node.inputs and all(v is None or v in constant for v in node.inputs):
            nodes.append(node)
            constant.update(node.outputs)
    if not nodes:
        return {}
    folded = set(nodes)
    wanted = [v for n in nodes for v in n.outputs if _needed(v, folded, outputs)]
    arrays = _evaluate(nodes, wanted, ir_version, opsets)
    moved: dict[str, tuple[str, tuple[int, ...]]] = {}
    replacements: dict[ir.Value, ir.Value] = {}
    for value, array in zip(wanted, arrays, strict=True):
        new = builder.initializer(str(value.name), array)
        replacements[value] = new
        origin = _transposed(value)
        if origin is not None:
            moved[str(new.name)] = (str(origin[0].name), origin[1])
    for value, new in replacements.items():
        _replace(value, new, folded)
    builder.nodes = [n for n in builder.nodes if n not in folded]
    return moved


def _needed(value: ir.Value, folded: set[ir.Node], outputs: Iterable[ir.Value]) -> bool:
    return value in set(outputs) or any(use.node not in folded for use in value.uses())


def _replace(old: ir.Value, new: ir.Value, folded: set[ir.Node]) -> None:
    for use in list(old.uses()):
        if use.node not in folded:
            use.node.replace_input_with(use.idx, new)


def _transposed(value: ir.Value) -> tuple[ir.Value, tuple[int, ...]] | None:
    """The initializer that a value is, with its axes in another order or joined, and that order."""
    node = value.producer()
    if node is not None and node.op_type == "Reshape" and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    if node is None:
        return None if value.shape is None else (value, tuple(range(len(value.shape))))
    source = node.inputs[0]
    if node.op_type != "Transpose" or source is None or source.producer() is not None:
        return None
    return source, tuple(node.attributes["perm"].as_ints())


def _evaluate(
    nodes: list[ir.Node], wanted: list[ir.Value], ir_version: int, opsets: dict[str, int]
) -> list[Array]:
    """The values of constant nodes, by ONNX Runtime."""
    if not wanted:
        return []
    copies: dict[ir.Value, ir.Value] = {}
    initializers: list[ir.Value] = []
    made: list[ir.Node] = []
    for node in nodes:
        for value in node.inputs:
            if value is not None and value not in copies:
                copy = ir.Value(
                    name=value.name, type=value.type, shape=value.shape, const_value=value.const_value
                )
                copies[value] = copy
                initializers.append(copy)
        outputs = [ir.Value(name=v.name) for v in node.outputs]
        copies.update(zip(node.outputs, outputs, strict=True))
        inputs = [None if v is None else copies[v] for v in node.inputs]
        made.append(
            ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=outputs)
        )
    outs = [copies[v] for v in wanted]
    graph = ir.Graph([], outs, nodes=made, initializers=initializers, opset_imports=opsets, name="fold")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    proto = ir.to_proto(ir.Model(graph, ir_version=ir_version))
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(x) for x in session.run(None, {})]
