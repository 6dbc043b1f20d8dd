"""Changing a finished graph: new nodes before old ones, constants once, names that are free."""

from __future__ import annotations

import hashlib
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ..builder import Array, Names, used_by


class Editor:
    """Rewrites the main graph of a model."""

    def __init__(self, model: ir.Model) -> None:
        self.model, self.graph = model, model.graph
        self.names = Names()
        for node in self.graph.all_nodes():
            for value in (*node.outputs, *used_by(node)):
                self.names.claim(str(value.name))
            self.names.claim(str(node.name))
        self._constants: dict[tuple[Any, ...], ir.Value] = {}

    def constant(self, name: str, array: Any) -> ir.Value:
        """A stored tensor; equal ones are one."""
        data = np.asarray(array)
        key = (data.dtype.name, data.shape, hashlib.blake2b(data.tobytes()).digest())
        if key not in self._constants:
            claimed = self.names.claim(name)
            tensor = ir.tensor(np.asarray(data, order="C"), name=claimed)
            value = ir.Value(
                name=claimed, type=ir.TensorType(tensor.dtype), shape=ir.Shape(data.shape), const_value=tensor
            )
            self.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def op(
        self, before: ir.Node, op: str, *inputs: ir.Value | None, domain: str = "", **attributes: int
    ) -> ir.Value:
        """The result of a new node that stands before another one."""
        output = ir.Value(name=self.names.claim(op.lower()))
        given = ir.convenience.convert_attributes(attributes)
        node = ir.Node(
            domain, op, inputs, given, outputs=[output], name=self.names.claim(f"node.{output.name}")
        )
        self.graph.insert_before(before, node)
        self.graph.opset_imports.setdefault(domain, 1)
        return output

    def replace(self, node: ir.Node, value: ir.Value) -> None:
        """Put a value in the place of a node's only result, under its name."""
        (old,) = node.outputs
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        value.name, value.type, value.shape = old.name, old.type, old.shape
        self.graph.remove(node, safe=True)

    def finish(self) -> None:
        """Drop what nothing needs any more."""
        RemoveUnusedNodesPass()(self.model)


def narrowed(array: Array, dtype: str) -> Array | None:
    """An array in float16 or bfloat16; None where a number is too large for it."""
    with np.errstate(over="ignore"):
        small = array.astype(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    return small if np.isfinite(small.astype(np.float32)).all() else None
