"""Softmax attention as PyTorch has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from seqc.ir import build
from seqc.ir.expr import Const, Expr, Leaf, LeafKind, Reduce, Softmax
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import leaves
from seqc.passes.canonical import arguments

GROWING = (LeafKind.STORE, LeafKind.STORED, LeafKind.AGE)


@dataclass(frozen=True, slots=True)
class SoftmaxRead:
    """`sum[s](softmax[s](scale * sum[n](query * key)) * value)`, over the entries up to the token's own."""

    query: Expr
    key: Leaf
    value: Leaf
    scale: float
    entries: str  # the axis s
    keys: str  # the axis n

    @property
    def expr(self) -> Expr:
        product = build.sum_over([self.keys], build.mul(self.query, self.key))
        weights = build.softmax([self.entries], build.mul(Const(self.scale), product))
        return build.sum_over([self.entries], build.mul(weights, self.value))


def find_softmax(rec: Recurrence, outputs: Sequence[Expr]) -> SoftmaxRead | None:
    """The read that a rule with growing stores is, if it is nothing else."""
    if len(outputs) != 1 or len(rec.stores) != 2 or len({store.axis for store in rec.stores}) != 1:
        return None
    axis = rec.stores[0].axis
    match outputs[0]:
        case Reduce(op="sum", over=over, arg=arg) if over == (axis,):
            factors = arguments("mul", arg)
        case _:
            return None
    weights = [factor for factor in factors if isinstance(factor, Softmax) and factor.over == (axis,)]
    values = [factor for factor in factors if isinstance(factor, Leaf) and factor.kind is LeafKind.STORED]
    if len(factors) != 2 or len(weights) != 1 or len(values) != 1:
        return None
    found = _score(weights[0].arg, values[0], axis)
    return found if found is not None and _fits(rec, found, axis) else None


def _score(score: Expr, value: Leaf, axis: str) -> SoftmaxRead | None:
    """Factors of a query alone, inside the sum of products and before it, are part of the query."""
    factors = arguments("mul", score)
    sums = [factor for factor in factors if _reads(factor)]
    if len(sums) != 1:
        return None
    match sums[0]:
        case Reduce(op="sum", over=(over,), arg=arg):
            inner = arguments("mul", arg)
        case _:
            return None
    rest = [factor for factor in (*factors, *inner) if not _reads(factor)]
    keys = [factor for factor in inner if _reads(factor)]
    if len(keys) != 1 or not isinstance(keys[0], Leaf) or keys[0].kind is not LeafKind.STORED:
        return None
    scale = prod(factor.value for factor in rest if isinstance(factor, Const))
    query = build.product(factor for factor in rest if not isinstance(factor, Const))
    return SoftmaxRead(query, keys[0], value, scale, axis, over) if keys[0] is not value else None


def _reads(expr: Expr) -> bool:
    return any(leaf.kind in GROWING for leaf in leaves([expr]))


def _fits(rec: Recurrence, read: SoftmaxRead, axis: str) -> bool:
    """Whether the axes are heads, perhaps groups of queries in each, and one axis of keys and one of values."""
    if axis in read.query.axes:
        return False
    heads = [a for a in read.key.axes if a in read.value.axes and a != axis]
    keys = [a for a in read.key.axes if a not in (*heads, axis)]
    values = [a for a in read.value.axes if a not in (*heads, axis)]
    asked = set(read.query.axes)
    return (
        keys == [read.keys]
        and len(values) == 1
        and {*heads, *keys} <= asked
        and values[0] not in asked
        and set(rec.returns[0]) == (asked - set(keys)) | set(values)
    )


__all__ = ["SoftmaxRead", "find_softmax"]
