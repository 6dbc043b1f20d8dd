"""Computing once what several functions of a stage need: such values move to `pre`, or to the reverse's `pre`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from seqc.ir.expr import Apply, Expr, Leaf, LeafKind, Reduce, Scan, Softmax, Solve
from seqc.ir.plan import Adjoint, Stage
from seqc.ir.traverse import children, depends_on, substitute, walk

Pairs = tuple[tuple[Leaf, Expr], ...]
CHEAP = frozenset(
    {"add", "sub", "mul", "div", "neg", "where", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"}
)


def share(stage: Stage, adjoint: Adjoint | None) -> tuple[Stage, Adjoint | None]:
    """The same stage, with what would be computed twice among the results of `pre`."""
    reads = [read.value for read in stage.reads]
    moving = [state.leaf for state in stage.carried]
    back = [] if adjoint is None else [*adjoint.direct, *adjoint.inputs, *(e for _, e in adjoint.pre)]
    known = [e for _, e in stage.pre]
    found = _common([known, [*reads, *back]], moving, _states(back), first=True)
    pre, mapping = _extended(stage.pre, found, f"{stage.name}.shared")
    stage = replace(stage, pre=pre, reads=tuple(
        replace(read, value=value) for read, value in zip(stage.reads, substitute(reads, mapping), strict=True)
    ))  # fmt: skip
    if adjoint is None:
        return stage, None
    adjoint = replace(
        adjoint,
        direct=substitute(adjoint.direct, mapping),
        inputs=substitute(adjoint.inputs, mapping),
        pre=_mapped(adjoint.pre, mapping),
    )
    after = {leaf for leaf in _states(back) if any(leaf.name == state.name for state in stage.carried)}
    groups = [list(adjoint.direct), list(adjoint.inputs), [e for _, e in adjoint.pre]]
    found = _common(groups, [], after, first=False)
    pre, mapping = _extended(adjoint.pre, found, f"{stage.name}.back_shared")
    return stage, replace(
        adjoint,
        direct=substitute(adjoint.direct, mapping),
        inputs=substitute(adjoint.inputs, mapping),
        pre=pre,
    )


def _states(roots: Iterable[Expr]) -> set[Leaf]:
    return {node for node in walk(roots) if isinstance(node, Leaf) and node.kind is LeafKind.COTANGENT}


def _extended(pre: Pairs, found: Sequence[Expr], prefix: str) -> tuple[Pairs, dict[Expr, Expr]]:
    """`pre` with more results, and what they replace elsewhere (not in `pre`, where they are computed)."""
    known = {expr: leaf for leaf, expr in pre}
    more: list[tuple[Leaf, Expr]] = []
    mapping: dict[Expr, Expr] = {}
    for expr in found:
        if expr in known:
            mapping[expr] = known[expr]
            continue
        leaf = Leaf(LeafKind.READ, f"{prefix}{len(more)}", expr.axes, expr.dtype)
        more.append((leaf, expr))
        mapping[expr] = leaf
    return (*pre, *more), mapping


def _mapped(pre: Pairs, mapping: dict[Expr, Expr]) -> Pairs:
    exprs = substitute([e for _, e in pre], mapping)
    return tuple((leaf, expr) for (leaf, _), expr in zip(pre, exprs, strict=True))


def _common(
    groups: Sequence[Sequence[Expr]], moving: Iterable[Expr], after: Iterable[Expr], first: bool
) -> list[Expr]:
    """The largest costly values that two groups have (one the first, if `first`) and that may be computed early."""
    sets = [set(walk(group)) for group in groups]
    every = [expr for group in groups for expr in group]
    late = depends_on(every, [*moving, *after])
    costly = _costly(every)

    def wanted(node: Expr) -> bool:
        if node in late or node not in costly or not _candidate(node):
            return False
        if first:
            return node in sets[0] and any(node in s for s in sets[1:])
        return sum(node in s for s in sets) > 1

    found: list[Expr] = []
    seen: set[Expr] = set()
    for group in groups[1:] if first else groups:
        stack = list(reversed(group))
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if wanted(node):
                found.append(node)
            else:
                stack.extend(reversed(children(node)))
    return found


def _candidate(node: Expr) -> bool:
    """What is worth keeping: not what a pass over memory makes again, nor a factor of a contraction."""
    if isinstance(node, Apply):
        return node.op not in CHEAP
    return isinstance(node, Reduce | Scan | Solve | Softmax)


def _costly(roots: Sequence[Expr]) -> set[Expr]:
    """Nodes that take more than a pass over memory, or contain one that does, and that depend on something."""
    costly: set[Expr] = set()
    leafy: set[Expr] = set()
    for node in walk(roots):
        below = children(node)
        if isinstance(node, Leaf) or any(child in leafy for child in below):
            leafy.add(node)
        heavy = isinstance(node, Reduce | Scan | Solve | Softmax) or (
            isinstance(node, Apply) and node.op not in CHEAP
        )
        if node in leafy and (heavy or any(child in costly for child in below)):
            costly.add(node)
    return costly
