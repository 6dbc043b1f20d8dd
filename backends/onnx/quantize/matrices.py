"""What of a graph is quantised: the matrices and tables of weights, found by how they are used.

A matrix is a constant `[inputs, outputs]` that every token is multiplied by, once. What belongs to a recurrence stays
as it is: the body of a loop, and all that lies between a state and its successor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..builder import Array, used_by
from ..manifest import Manifest

SMALLEST = 4096  # entries; below, codes and scales save nothing worth an error
ELEMENTWISE = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Where",
        "Max",
        "Min",
        "Identity",
        "Cast",
        "Expand",
        "Tanh",
        "Sigmoid",
    }
)
SUMS = frozenset({"Add", "Sub", "Neg", "Where"})
SHAPING = frozenset({"Reshape", "Unsqueeze", "Squeeze", "Transpose", "Slice", "Split"})


@dataclass(frozen=True, slots=True)
class Matrix:
    """One product with a constant; `gate` where it decides how much of a state is kept."""

    node: ir.Node
    gate: bool

    @property
    def input(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def weight(self) -> ir.Value:
        value = self.node.inputs[1]
        assert value is not None
        return value

    def array(self) -> Array:
        return array_of(self.weight)


def array_of(value: ir.Value) -> Array:
    """A constant's numbers."""
    assert value.const_value is not None
    return value.const_value.numpy()


def digest(value: ir.Value) -> bytes:
    """Equal for constants that are equal, in whichever graph they are."""
    array = array_of(value)
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes()).digest()


def is_constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and not value.is_graph_input()


def find_matrices(graph: ir.Graph, manifest: Manifest) -> list[Matrix]:
    """The products with matrices of weights, in the order of the graph."""
    found = [node for node in graph if _is_product(node)]
    inside = _within_recurrences(graph, manifest)
    gates = _gate_products(graph, manifest)
    return [Matrix(node, node in gates) for node in found if node not in inside]


def find_tables(graph: ir.Graph) -> list[ir.Node]:
    """The lookups of rows in tables of weights: `Gather` of a constant `[entries, width]` along its first axis."""
    return [
        node
        for node in graph
        if node.op_type == "Gather"
        and ("axis" not in node.attributes or node.attributes["axis"].as_int() == 0)
        and not is_constant(node.inputs[1])
        and _is_weight(node.inputs[0])
    ]


def _is_product(node: ir.Node) -> bool:
    if node.op_type != "MatMul" or node.domain or is_constant(node.inputs[0]):
        return False
    return _is_weight(node.inputs[1]) and not _selects(node.inputs[1])


def _is_weight(value: ir.Value | None) -> bool:
    """A constant `[n, m]` of single precision that is worth it."""
    if value is None or not is_constant(value):
        return False
    tensor = value.const_value
    assert tensor is not None
    return tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) == 2 and tensor.size >= SMALLEST


def _selects(value: ir.Value | None) -> bool:
    """Zeros and ones are exact, and no weights."""
    return value is not None and bool(np.isin(array_of(value), (-1, 0, 1)).all())


# --- recurrences -----------------------------------------------------------------------------------------------------


def _within_recurrences(graph: ir.Graph, manifest: Manifest) -> set[ir.Node]:
    """The nodes on a way from a state to that state after the call."""
    before = _reached(graph, {info.input: 1 << place for place, info in enumerate(manifest.states)})
    after = _needed(graph, {info.output: 1 << place for place, info in enumerate(manifest.states)})
    return {node for node in graph if _union(before, used_by(node)) & _union(after, node.outputs)}


def _reached(graph: ir.Graph, marks: dict[str, int]) -> dict[ir.Value, int]:
    """For each value the states that it follows from, a bit each."""
    known = {value: marks.get(str(value.name), 0) for value in graph.inputs}
    for node in graph:
        mark = _union(known, used_by(node))
        known.update(dict.fromkeys(node.outputs, mark))
    return known


def _needed(graph: ir.Graph, marks: dict[str, int]) -> dict[ir.Value, int]:
    """For each value the states after the call that follow from it, a bit each."""
    known = {value: marks.get(str(value.name), 0) for value in graph.outputs}
    for node in reversed(graph):
        mark = _union(known, node.outputs)
        for value in used_by(node):
            known[value] = known.get(value, 0) | mark
    return known


def _union(marks: dict[ir.Value, int], values: Iterable[ir.Value]) -> int:
    total = 0
    for value in values:
        total |= marks.get(value, 0)
    return total


# --- gates -----------------------------------------------------------------------------------------------------------


def _gate_products(graph: ir.Graph, manifest: Manifest) -> set[ir.Node]:
    """The products that what multiplies a state follows from, without another product in between."""
    ends = {str(value.name): value for value in graph.outputs}
    factors: list[ir.Value] = []
    for info in manifest.states:
        if info.layout in ("tensor", "complex") and info.output in ends:
            factors += _factors(ends[info.output], info.input)
    return _products_behind(factors)


def _factors(end: ir.Value, state: str) -> list[ir.Value]:
    """What a state is multiplied by, number by number, on its way to its successor."""
    found: list[ir.Value] = []
    stack, seen = [end], {end}
    while stack:
        node = stack.pop().producer()
        if node is None or node.op_type not in ELEMENTWISE | SHAPING:
            continue
        inputs = [value for value in node.inputs if value is not None]
        if node.op_type == "Mul":
            carrying = [value for value in inputs if _carries(value, state)]
            found += [value for value in inputs if carrying and value not in carrying]
        stack += [value for value in inputs if value not in seen]
        seen.update(inputs)
    return found


def _carries(value: ir.Value, state: str) -> bool:
    """Whether a value is the state: begun anew, in another shape, or with something added."""
    stack, seen = [value], {value}
    while stack:
        current = stack.pop()
        if current.name == state:
            return True
        node = current.producer()
        if node is not None and node.op_type in SUMS | SHAPING:
            inputs = {x for x in node.inputs if x is not None} - seen
            stack += inputs
            seen |= inputs
    return False


def _products_behind(values: Sequence[ir.Value]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    stack, seen = list(values), set(values)
    while stack:
        node = stack.pop().producer()
        if node is None:
            continue
        if _is_product(node):
            found.add(node)
            continue
        inputs = [value for value in node.inputs if value is not None and value not in seen]
        seen.update(inputs)
        stack += inputs
    return found
