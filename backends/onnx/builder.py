"""A graph under construction: nodes with equal inputs are one node, constants are shared, names are safe."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .shapes import has_shape, joined, numbers, unsqueezed

Array = npt.NDArray[Any]
Attribute = int | float | str | Sequence[int] | ir.Graph

DTYPES = {"float32": ir.DataType.FLOAT, "int64": ir.DataType.INT64, "bool": ir.DataType.BOOL}


def safe_name(name: str) -> str:
    """`name` with everything that is not a letter, a digit, a dot or an underscore replaced."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", name) or "_"


class Names:
    """Gives out each name once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def claim(self, wish: str) -> str:
        base = name = safe_name(wish)
        while name in self._taken:
            self._next[base] = self._next.get(base, 0) + 1
            name = f"{base}_{self._next[base]}"
        self._taken.add(name)
        return name


class Builder:
    """Builds one `ir.Graph`; a child builds the body of a control-flow node and may use its parent's values.

    `opsets` are the operators that may be used: versions by domain.  Unless `hoist` is off, what a child computes from
    its parent's values alone is computed in the parent, once.
    """

    def __init__(
        self,
        parent: Builder | None = None,
        hoist: bool = True,
        opsets: Mapping[str, int] | None = None,
    ) -> None:
        self.parent = parent
        self.hoist = hoist
        self.opsets: Mapping[str, int] = opsets or (parent.opsets if parent else {})
        self.home: dict[ir.Value, Builder] = parent.home if parent else {}
        self.root: Builder = parent.root if parent else self
        self.names: Names = parent.names if parent else Names()
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []
        self.initializers: dict[str, ir.Value] = {}
        self._made: dict[tuple[Any, ...], tuple[ir.Value, ...]] = {}
        self._constants: dict[tuple[Any, ...], ir.Value] = {}
        self._kept: dict[tuple[Any, ...], Any] = {}

    # --- Values that come from outside ----------------------------------------------------------------------

    def input(
        self, name: str, dtype: str, shape: Sequence[int | str], default: Array | None = None
    ) -> ir.Value:
        """A graph input; one with a default may be left out by whoever runs the graph."""
        value = ir.Value(
            name=self.names.claim(name), type=ir.TensorType(DTYPES[dtype]), shape=ir.Shape(list(shape))
        )
        self.inputs.append(value)
        self.home[value] = self
        if default is not None:
            value.const_value = ir.tensor(default, name=value.name)
            self.initializers[str(value.name)] = value
        return value

    def initializer(self, name: str, array: Array) -> ir.Value:
        """A stored tensor of the root graph."""
        root = self.root
        claimed = root.names.claim(name)
        tensor = ir.tensor(np.asarray(array, order="C"), name=claimed)
        value = ir.Value(
            name=claimed,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(array.shape),
            const_value=tensor,
        )
        root.initializers[claimed] = value
        root.home[value] = root
        return value

    def constant(self, array: Any, dtype: str | None = None) -> ir.Value:
        """A constant, stored once however often it is used."""
        data = np.asarray(array, dtype=dtype)
        key = (data.dtype.str, data.shape, data.tobytes())
        made = self.root._constants
        if key not in made:
            made[key] = self.initializer("const", data)
        return made[key]

    def ints(self, *values: int) -> ir.Value:
        return self.constant(values, "int64")

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for equal keys in this graph and the bodies inside it."""
        builder: Builder | None = self
        while builder is not None:
            if key in builder._kept:
                return builder._kept[key]
            builder = builder.parent
        self._kept[key] = make()
        return self._kept[key]

    # --- Nodes ----------------------------------------------------------------------------------------------

    def op(
        self, op: str, *inputs: ir.Value | None, domain: str = "", name: str = "", **attributes: Attribute
    ) -> ir.Value:
        """One node with one result; a change of shape skips those right before it."""
        if op == "Reshape" and inputs[0] is not None and (target := numbers(inputs[1])) is not None:
            source, lengths = joined(inputs[0], target)
            if has_shape(source, lengths):
                return source
            inputs = (source, self.ints(*lengths))
        if op == "Unsqueeze" and inputs[0] is not None and (places := numbers(inputs[1])) is not None:
            source, places = unsqueezed(inputs[0], places)
            inputs = (source, self.ints(*places))
        return self.ops(op, *inputs, count=1, domain=domain, name=name, **attributes)[0]

    def ops(
        self,
        op: str,
        *inputs: ir.Value | None,
        count: int,
        domain: str = "",
        name: str = "",
        **attributes: Attribute,
    ) -> tuple[ir.Value, ...]:
        """One node with `count` results; the same node is not made twice."""
        plain = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in attributes.items()}
        key = (op, domain, inputs, count, tuple(sorted(plain.items(), key=lambda item: item[0])))
        found = self._find(key)
        if found is None:
            home = self._home(inputs) if op != "Identity" else self
            found = home._made[key] = home._make(op, inputs, count, domain, name or op.lower(), plain)
        return found

    def _home(self, inputs: Sequence[ir.Value | None]) -> Builder:
        """The innermost graph that has all the inputs."""
        builder = self
        while builder.hoist and builder.parent and not any(v and self.home[v] is builder for v in inputs):
            builder = builder.parent
        return builder

    def result(self, value: ir.Value, taken: set[ir.Value]) -> ir.Value:
        """A value as an output of this graph: itself if it is made here and no output yet, else a copy."""
        if self.home[value] is self and value.producer() is not None and value not in taken:
            return value
        return self._make("Identity", (value,), 1, "", "same", {})[0]

    def _find(self, key: tuple[Any, ...]) -> tuple[ir.Value, ...] | None:
        builder: Builder | None = self
        while builder is not None:
            if key in builder._made:
                return builder._made[key]
            builder = builder.parent
        return None

    def _make(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        count: int,
        domain: str,
        name: str,
        attributes: dict[str, Any],
    ) -> tuple[ir.Value, ...]:
        outputs = [ir.Value(name=self.names.claim(name)) for _ in range(count)]
        node = ir.Node(
            domain,
            op,
            inputs,
            [_attribute(key, value) for key, value in attributes.items()],
            outputs=outputs,
            name=self.names.claim(f"node.{name}"),
        )
        self.nodes.append(node)
        self.home.update(dict.fromkeys(outputs, self))
        return tuple(outputs)

    def prune(self, outputs: Sequence[ir.Value]) -> None:
        """Drop the nodes that no output follows from, so that they use nothing any more."""
        kept = needed_nodes(self.nodes, outputs)
        for node in set(self.nodes).difference(kept):
            for place in range(len(node.inputs)):
                node.replace_input_with(place, None)
        self.nodes = kept

    def graph(self, name: str, outputs: Sequence[ir.Value], opsets: dict[str, int]) -> ir.Graph:
        """What was built, without what the outputs do not need."""
        self.prune(outputs)
        return ir.Graph(
            self.inputs,
            outputs,
            nodes=self.nodes,
            initializers=list(self.initializers.values()),
            opset_imports=opsets,
            name=safe_name(name),
        )


def needed_nodes(nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> list[ir.Node]:
    """The nodes that some output follows from, in their order."""
    wanted, found = set(outputs), list[ir.Node]()
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            found.append(node)
            wanted.update(used_by(node))
    return found[::-1]


def used_by(node: ir.Node) -> set[ir.Value]:
    """What a node takes, in the bodies of a control-flow node too."""
    used: set[ir.Value] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        used.update(value for value in current.inputs if value is not None)
        for attribute in current.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                stack.extend(attribute.as_graph())
                used.update(attribute.as_graph().outputs)
    return used


def _attribute(name: str, value: Any) -> ir.Attr:
    if isinstance(value, ir.Graph):
        return ir.AttrGraph(name, value)
    if isinstance(value, str):
        return ir.AttrString(name, value)
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, int):
        return ir.AttrInt64(name, value)
    return ir.AttrInt64s(name, [int(v) for v in value])
