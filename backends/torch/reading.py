"""Reading expressions before they are printed: factors of sums, uses, the order of axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping

from seqc.ir import build
from seqc.ir.expr import Apply, Axes, Expr, Leaf, Reduce
from seqc.ir.traverse import children, walk


def distribute(node: Reduce) -> Expr | None:
    """Σ(x ± y) as Σx ± Σy where a summand is a product that a contraction does better than a broadcast."""
    arg = node.arg
    if isinstance(arg, Apply) and arg.op == "neg":
        return build.neg(_resum(node.over, arg.args[0]))
    if (
        isinstance(arg, Apply)
        and arg.op in ("add", "sub")
        and any(_contractible(x, node.over) for x in arg.args)
    ):
        return build.apply(arg.op, *(_resum(node.over, x) for x in arg.args))
    return None


def _resum(over: Axes, arg: Expr) -> Expr:
    inner = build.sum_over(over, arg)
    return (distribute(inner) or inner) if isinstance(inner, Reduce) else inner


def _contractible(x: Expr, over: Axes) -> bool:
    if not isinstance(x, Apply):
        return False
    if x.op in ("add", "sub", "neg"):
        return any(_contractible(arg, over) for arg in x.args)
    return x.op == "mul" and any(set(arg.axes) != set(x.axes) for arg in x.args)


def operands(node: Expr, uses: Mapping[Expr, int]) -> tuple[Expr, ...]:
    """The sub-expressions that a node is printed from: the factors of a contraction, or its children."""
    if isinstance(node, Reduce) and node.op == "sum":
        return tuple(f for f in _factors(node.arg, uses, top=True) if not isinstance(f, bool))
    return children(node)


def sign(node: Expr, uses: Mapping[Expr, int]) -> bool:
    """Whether the product below a sum carries a minus."""
    assert isinstance(node, Reduce)
    return sum(1 for f in _factors(node.arg, uses, top=True) if isinstance(f, bool)) % 2 == 1


def _factors(node: Expr, uses: Mapping[Expr, int], top: bool) -> list[Expr | bool]:
    """The factors of a product, True for each minus; products used elsewhere too stay whole."""
    result: list[Expr | bool] = []
    stack: list[tuple[Expr, bool]] = [(node, top)]
    while stack:
        item, first = stack.pop()
        if isinstance(item, Apply) and item.op in ("mul", "neg") and (uses.get(item, 0) <= 1 or first):
            if item.op == "neg":
                result.append(True)
            stack.extend((arg, False) for arg in reversed(item.args))
        else:
            result.append(item)
    return result


def count_uses(roots: Iterable[Expr], known: Container[Expr]) -> Counter[Expr]:
    """How often each node is an argument of another or a root; what is known is not looked into."""
    uses: Counter[Expr] = Counter()
    seen: set[Expr] = set()
    stack = list(roots)
    uses.update(stack)
    while stack:
        node = stack.pop()
        if node in seen or node in known:
            continue
        seen.add(node)
        below = children(node)
        uses.update(below)
        stack.extend(below)
    return uses


def merged_order(sequences: Iterable[Axes]) -> dict[str, int]:
    """One order of axes that follows as many of the given ones as it can, earlier ones first."""
    order: list[str] = []
    for axes in sequences:
        place = 0
        for axis in axes:
            if axis in order:
                place = max(place, order.index(axis) + 1)
            else:
                order.insert(place, axis)
                place += 1
    return {axis: i for i, axis in enumerate(order)}


def all_axes(roots: Iterable[Expr]) -> Iterable[Axes]:
    """The axes of the leaves below `roots`, then those of all nodes."""
    nodes = list(walk(roots))
    yield from (node.axes for node in nodes if isinstance(node, Leaf))
    yield from (node.axes for node in nodes)
