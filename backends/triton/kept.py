"""Which inputs of a rule reach the stages of its plan as they are, so that they may stay of 16 bits, and which results
of stages are what the rule gives, so that they may have so many.

What PyTorch computes around the stages it computes in single precision: of the inputs that it needs for that, as many
are made single precision as it takes.
"""

from __future__ import annotations

from math import inf

from seqc.ir.expr import Apply, Const, DType, Expr, Leaf, LeafKind
from seqc.ir.plan import RESET, Plan
from seqc.ir.traverse import leaves, walk

from ..cpu.rewrite import factors_of


def as_given(value: Expr) -> Leaf | None:
    """The input of the rule that a value is, at most with another sign or 0 at some tokens; None if it is more."""
    found, stack = list[Leaf](), [value]
    while stack:
        node = stack.pop()
        if isinstance(node, Apply) and node.op in ("mul", "neg") and not _sign(node):
            stack.extend(node.args)
        elif isinstance(node, Leaf) and node.kind is LeafKind.INPUT and not found:
            found.append(node)
        elif not _sign(node):
            return None
    return found[0] if found else None


def kept(plan: Plan) -> frozenset[Leaf]:
    """The inputs that stages are handed in the type that they have."""
    values = [item.value for stage in plan.stages for item in stage.inputs]
    if not all(exact(value) for value in values):
        return frozenset()
    computed = [*plan.outputs, *(value for value in values if as_given(value) is None)]
    found = set[Leaf]()
    for leaf in plan.recurrence.inputs:
        if all(_widened(value, leaf, found) for value in computed):
            found.add(leaf)
    return frozenset(found)


def returned(plan: Plan) -> frozenset[Leaf]:
    """The results of stages that are outputs of the rule, and nothing else is computed from."""
    values = [item.value for stage in plan.stages for item in stage.inputs]
    used = leaves([*values, *(x for x in plan.outputs if not isinstance(x, Leaf))])
    reads = {read.leaf for stage in plan.stages for read in stage.reads}
    return frozenset(x for x in reads if x in plan.outputs and x not in used and x.dtype is DType.REAL)


def _widened(value: Expr, leaf: Leaf, kept: set[Leaf]) -> bool:
    """Whether a value lacks an input, or is its product with what is single precision where others are kept."""
    found = set(leaves([value]))
    if leaf not in found:
        return True
    others = [x for x in factors_of(value) if x is not leaf and not _sign(x)]
    inside = [set(leaves([x])) - {RESET} for x in others]
    alone = [all(each.kind is LeafKind.PARAM for each in leaves([x])) and not x.axes for x in others]
    return bool(inside) and not any(alone) and all(own and not own & {leaf, *kept} for own in inside)


def exact(value: Expr) -> bool:
    """Whether numbers that stand for themselves at a token are the same in every type."""
    choices = [node.args[1:] for node in walk([value]) if isinstance(node, Apply) and node.op == "where"]
    alone = [own for own in [(value,), *choices] if all(isinstance(x, Const) for x in own)]
    return all(isinstance(x, Const) and abs(x.value) in (0, 1, inf) for own in alone for x in own)


def _sign(value: Expr) -> bool:
    """Whether a factor is 0, 1 or -1 at every token."""
    match value:
        case Apply(op="where", args=(_, yes, no)):
            return _sign(yes) and _sign(no)
        case Const():
            return value.value in (0, 1, -1)
        case _:
            return False
