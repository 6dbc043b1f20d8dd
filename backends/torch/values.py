"""Printed values, and what to call them."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.ir.expr import (
    Apply,
    At,
    Axes,
    Concat,
    DType,
    Expr,
    Item,
    Leaf,
    Reduce,
    Rename,
    Scan,
    Shift,
    Slice,
    Softmax,
    Solve,
)

from .primitives import ATOM, Code


@dataclass(frozen=True, slots=True)
class Value:
    """Printed text with the named axes of its last dimensions, and whether leading dimensions stand before them."""

    code: Code
    axes: Axes = ()
    lead: bool = False
    dtype: DType = DType.REAL

    @property
    def atom(self) -> str:
        return self.code.at(ATOM)


HINTS = {
    "exp": "decay", "sigmoid": "gate", "where": "masked", "sub": "difference", "add": "total", "mul": "product",
    "div": "ratio", "neg": "negative", "tanh": "squashed", "log_sigmoid": "log_gate", "softplus": "rate",
    "silu": "activated", "gelu": "activated", "relu": "activated",
}  # fmt: skip


KINDS: dict[type[Expr], str] = {
    At: "last", Slice: "part", Concat: "joined", Scan: "scanned", Solve: "solved", Softmax: "weights",
}  # fmt: skip


def hint_for(node: Expr) -> str:
    """What to call an intermediate value."""
    while isinstance(node, Rename):
        node = node.arg
    match node:
        case Apply():
            return HINTS.get(node.op, node.op)
        case Leaf():
            return node.name.split(".")[-1]
        case Item():
            return node.call.name.split(".")[-1]
        case Shift():
            return "earlier" if node.by > 0 else "later"
        case Reduce():
            return "total" if node.op == "sum" else "top"
        case _:
            return KINDS.get(type(node), type(node).__name__.lower())


def shape_comment(value: Value) -> str:
    inner = ", ".join(axis_letter(a) for a in value.axes)
    return f"[…, {inner}]" if value.lead else f"[{inner}]"


def axis_letter(axis: str) -> str:
    return {"%i": "i", "%j": "j", "%k": "k"}.get(axis, axis.replace("~", "_"))
