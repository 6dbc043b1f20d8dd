"""How a matrix is held in each format, and the nodes that multiply by it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from .editor import Editor, narrowed
from .matrices import Matrix, array_of
from .rounding import BYTE_LIMIT, Blocks, Channels

CONTRIB = "com.microsoft"
INTEGER_PRODUCTS = 4  # the `accuracy_level` at which MatMulNBits multiplies integers
SMALLEST_SCALE = 1e-30
BYTE_ZERO = 128
FLOAT = ir.DataType.FLOAT.value


@dataclass(slots=True)
class Rewriting:
    """Rewrites one graph, product by product; `bytes` are rounded inputs, with the scales of their rows."""

    editor: Editor
    bytes: dict[ir.Value, tuple[ir.Value, ir.Value]] = field(
        default_factory=dict[ir.Value, tuple[ir.Value, ir.Value]]
    )

    def product(self, matrix: Matrix, weights: Channels | Blocks) -> str:
        """Multiply by rounded weights instead; how they are held."""
        if isinstance(weights, Channels):
            self._integers(matrix, weights)
            return "int8"
        self._blocks(matrix, weights)
        return f"{weights.bits}bit"

    def narrow(self, node: ir.Node, place: int, dtype: str) -> bool:
        """Hold a node's constant in float16 or bfloat16, if it fits; the node still gives single precision."""
        weight, op = node.inputs[place], self.editor.op
        assert weight is not None
        small = narrowed(array_of(weight), dtype)
        if small is None:
            return False
        stored = self.editor.constant(f"{weight.name}.{dtype}", small)
        if node.op_type == "Gather":
            self.editor.replace(node, op(node, "Cast", op(node, "Gather", stored, node.inputs[1]), to=FLOAT))
        else:
            node.replace_input_with(place, op(node, "Cast", stored, to=FLOAT))
        return True

    def finish(self) -> None:
        """Drop what nothing needs any more, and say which operators there are now."""
        self.editor.finish()

    def _integers(self, matrix: Matrix, weights: Channels) -> None:
        """Bytes times bytes; inputs are rounded row by row, so that no token changes another one's answer."""
        at, name, op, constant = matrix.node, matrix.weight.name, self.editor.op, self.editor.constant
        codes, rows = self._bytes(matrix)
        zero = constant("zero", np.uint8(BYTE_ZERO))
        product = op(at, "MatMulInteger", codes, constant(f"{name}.codes", weights.codes), zero)
        scales = constant(f"{name}.scales", weights.scales)
        scaled = op(at, "Mul", op(at, "Cast", product, to=FLOAT), scales)
        self.editor.replace(at, op(at, "Mul", scaled, rows))

    def _bytes(self, matrix: Matrix) -> tuple[ir.Value, ir.Value]:
        """The input of a product as unsigned bytes around 128, and the scale of every row `[…, 1]`; made once."""
        if matrix.input not in self.bytes:
            at, op, constant = matrix.node, self.editor.op, self.editor.constant
            last = constant("last", np.array([-1], np.int64))
            largest = op(at, "ReduceMax", op(at, "Abs", matrix.input), last, keepdims=1)
            share = op(at, "Mul", largest, constant("share", np.float32(1 / BYTE_LIMIT)))
            rows = op(at, "Max", share, constant("least", np.float32(SMALLEST_SCALE)))
            one, zero = constant("one", np.float32(1)), constant("zero", np.uint8(BYTE_ZERO))
            codes = op(at, "QuantizeLinear", op(at, "Div", matrix.input, rows), one, zero)
            self.bytes[matrix.input] = codes, rows
        return self.bytes[matrix.input]

    def _blocks(self, matrix: Matrix, weights: Blocks) -> None:
        """Codes of few bits; ONNX Runtime rounds the inputs to bytes itself, block by block."""
        outputs, _, block = weights.codes.shape
        name = str(matrix.weight.name)
        value = self.editor.op(
            matrix.node,
            "MatMulNBits",
            matrix.input,
            self.editor.constant(f"{name}.codes", weights.packed()),
            self.editor.constant(f"{name}.scales", weights.scales),
            domain=CONTRIB,
            K=weights.inputs,
            N=outputs,
            bits=weights.bits,
            block_size=block,
            accuracy_level=INTEGER_PRODUCTS,
        )
        self.editor.replace(matrix.node, value)
