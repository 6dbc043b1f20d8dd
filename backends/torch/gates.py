"""Gates: what leads elementwise to the inputs of rules is computed in single precision at least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from seqc.ir.expr import (
    Apply,
    Concat,
    DType,
    Expr,
    Index,
    Invoke,
    Leaf,
    LeafKind,
    Reduce,
    Rename,
    Slice,
    Softmax,
)
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import children, walk

from .expressions import Scope
from .primitives import Code
from .reading import operands
from .values import Value


@dataclass(slots=True)
class Gates:
    """The gates of a function; `value` prints one, with its operands widened."""

    nodes: set[Expr] = field(default_factory=set[Expr])

    def value(self, scope: Scope, node: Expr) -> Value | None:
        """What leads to the inputs of a rule is computed in single precision at least."""
        if node not in self.nodes or not isinstance(node, Apply | Softmax | Concat):
            return None
        kept: dict[Expr, Value] = {}
        for child in operands(node, scope.counts):
            value = scope.known[child]
            plain = value.code.number or isinstance(child, Index) or child.dtype is not DType.REAL
            if child not in self.nodes and not plain:
                kept[child] = value
                scope.known[child] = replace(value, code=Code(f"wide({value.code.text})"))
        self.nodes.discard(node)
        result = scope.compute(node)
        self.nodes.add(node)
        scope.known.update(kept)
        return result


def find_gates(roots: Sequence[Expr]) -> set[Expr]:
    """Elementwise values that only lead to inputs of rules."""
    nodes = list(walk(roots))
    parents: dict[Expr, list[Expr]] = {}
    for node in nodes:
        for child in children(node):
            parents.setdefault(child, []).append(node)
    gates: set[Expr] = set()
    kept = (Apply, Rename, Reduce, Concat, Slice, Softmax)
    for node in reversed(nodes):
        if not isinstance(node, kept) or node in roots or node.dtype is not DType.REAL:
            continue
        if isinstance(node, Reduce) and any(
            isinstance(leaf, Leaf) and leaf.kind is LeafKind.PARAM for leaf in operands(node, {})
        ):
            continue
        above = parents.get(node, [])
        if above and all(_is_rule(p) or p in gates for p in above):
            gates.add(node)
    return gates


def _is_rule(node: Expr) -> bool:
    return isinstance(node, Invoke) and isinstance(node.callee, Recurrence)
