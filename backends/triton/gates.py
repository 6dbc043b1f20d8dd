"""What the kernels of a stage read in place of inputs that are computed elementwise: what these are computed from.

Kernels compute such an input, a gate for one, as they read a block, and its cotangent flows on to what it is computed
from before it is written.  What parameters alone give is computed before, once for all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Index, Leaf, LeafKind, Size
from seqc.ir.plan import TOKEN, Stage, StageInput
from seqc.ir.traverse import children, depends_on, leaves, substitute, walk

from .primitives import SPELLINGS

OPERATIONS = 56  # that take as long as to move the four bytes of a number: on an H200, 14 a byte
FUNCTION = 16  # operations of a function such as `exp`
SIMPLE = frozenset({
    "add", "sub", "mul", "div", "neg", "abs", "sign", "floor", "relu", "max", "min", "where", "lt", "le", "gt", "ge",
    "eq", "ne", "and", "or", "not", "stop_gradient",
})  # fmt: skip
MOST = 2  # numbers that are read for one that is computed


@dataclass(frozen=True, slots=True)
class Sources:
    """`items` are what is read; `values` are the inputs of a stage, over the leaves of `items`."""

    items: tuple[StageInput, ...]
    values: tuple[Expr, ...]


def as_they_are(stage: Stage) -> Sources:
    """All inputs are read."""
    return Sources(stage.inputs, tuple(item.leaf for item in stage.inputs))


def sources(stage: Stage) -> Sources:
    """An input is computed where it is elementwise and takes at most as long as to read it.

    For that, what nothing else reads may be twice as many numbers as the input itself, or as many as the largest input.
    """
    parts = {
        item.leaf: _parts(item.value)
        for item in stage.inputs
        if not item.constant and elementwise(item.value)
    }
    sizes = {item.leaf: _numbers(item.leaf.axes, stage) for item in stage.inputs}
    read = {item.value for item in stage.inputs if item.leaf not in parts or isinstance(item.value, Leaf)}
    for item in stage.inputs:
        more = [x for x in parts.get(item.leaf, ()) if x not in read and _varies(x)]
        if sum(_numbers(x.axes, stage) for x in more) > max(MOST * sizes[item.leaf], *sizes.values()):
            del parts[item.leaf]
            more = [item.value]
        read.update(more)
    found, values = _Found(stage.name), list[Expr]()
    for item in stage.inputs:
        if item.leaf in parts:
            known = {x: found.leaf(x, x.axes, not _varies(x)) for x in parts[item.leaf]}
            values += substitute([item.value], known)
        else:
            own = tuple(axis for axis in item.leaf.axes if axis != TOKEN)
            values.append(found.leaf(item.value, own, item.constant))
    return Sources(tuple(found.items.values()), tuple(values))


class _Found:
    """The sources of a stage, each once."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.items: dict[tuple[Expr, Axes], StageInput] = {}

    def leaf(self, value: Expr, axes: Axes, constant: bool) -> Leaf:
        if (value, axes) not in self.items:
            name, own = f"{self.stage}.from{len(self.items)}", axes if constant else (TOKEN, *axes)
            leaf = Leaf(LeafKind.READ, name, own, value.dtype)
            self.items[value, axes] = StageInput(leaf, value, constant=constant)
        return self.items[value, axes].leaf


def elementwise(value: Expr) -> bool:
    """Whether few elementwise operations give a value from what varies and from parameters."""
    parts = {x: Leaf(LeafKind.READ, f"%{k}", x.axes, x.dtype) for k, x in enumerate(_parts(value))}
    nodes = list(walk(substitute([value], parts)))
    if any(node.dtype not in (DType.REAL, DType.BOOL) for node in nodes):
        return False
    operations = [node.op for node in nodes if isinstance(node, Apply)]
    known = all(isinstance(node, Apply | Const | Index | Size | Leaf) for node in nodes)
    cost = sum(1 if op in SIMPLE else FUNCTION for op in operations)
    return known and cost <= OPERATIONS and all(op in SPELLINGS for op in operations)


def _parts(value: Expr) -> tuple[Expr, ...]:
    """The leaves that vary, and the largest parts that parameters alone give."""
    known = leaves([value])
    given, varying = depends_on([value], known), depends_on([value], filter(_varies, known))
    found, seen, stack = dict[Expr, None](), set[Expr](), [value]
    while stack:
        node = stack.pop()
        if node in seen or node not in given:
            continue
        seen.add(node)
        if isinstance(node, Leaf) or (node not in varying and node.dtype is not DType.BOOL):
            found[node] = None
        else:
            stack.extend(reversed(children(node)))
    return tuple(found)


def _varies(value: Expr) -> bool:
    """Whether a value depends on more than parameters."""
    return any(leaf.kind is not LeafKind.PARAM for leaf in leaves([value]))


def _numbers(axes: Axes, stage: Stage) -> int:
    return prod(stage.sizes[axis] for axis in axes if axis != TOKEN)
