"""Gates whose logarithm the caller can write: a rule that is given `a = exp(x)` may use `x`.

Inside a rule an input is a number of either sign, which has no logarithm to add up.  What the caller gives is often a
positive expression (`exp(-dt * a)`, `sigmoid(x)`), so its logarithm travels along as a further input.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from seqc.ir import build
from seqc.ir.expr import Apply, Const, DType, Expr, Index, Leaf, LeafKind, Rename, Scan
from seqc.ir.plan import OTHER, TOKEN, Plan
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import leaves, substitute
from seqc.passes.schedule import Unschedulable, problems, schedule


def log_leaf(leaf: Leaf) -> Leaf:
    """What stands for the logarithm of an input."""
    return Leaf(LeafKind.INPUT, f"log {leaf.name}", leaf.axes)


def known_log(value: Expr, known: Mapping[Leaf, Leaf]) -> Expr | None:
    """The logarithm of a value where it can be written; `known` are leaves with those that stand for theirs.

    Nothing is rewritten below it: what has a state of its own must not appear twice.
    """
    match value:
        case Leaf():
            return known.get(value)
        case Const(number):
            return build.apply("log", value) if number > 0 else None
        case Rename(pairs, arg):
            log = known_log(arg, known)
            return None if log is None else build.rename(log, dict(pairs))
        case Apply(op="exp", args=(x,)) if x.dtype is DType.REAL:
            return x
        case Apply(op="sigmoid", args=(x,)):
            return build.apply("log_sigmoid", x)
        case Apply(op="sub", args=(Const(1.0), Apply(op="sigmoid", args=(x,)))):
            return build.apply("log_sigmoid", build.neg(x))
        case Apply(op="mul" | "where", args=args):
            logs = [known_log(arg, known) for arg in args[-2:]]
            plain = [log for log in logs if log is not None]
            if len(plain) < len(logs):
                return None
            return build.add(*plain) if value.op == "mul" else build.where(args[0], *plain)
        case Apply(op="pow", args=(x, power)):
            log = known_log(x, known)
            return None if log is None else build.mul(power, log)
        case _:
            return None


def with_logs(plan: Plan, logged: frozenset[str]) -> Plan:
    """The plan for a rule some of whose inputs come with their logarithms; the same where that is of no use."""
    owner = plan.recurrence
    gates = _gates(owner) if logged and not owner.stores else set[Leaf]()
    given = [leaf for leaf in owner.inputs if leaf.name in logged and leaf in gates]
    if not given:
        return plan
    swaps: dict[Expr, Expr] = {leaf: build.apply("exp", log_leaf(leaf)) for leaf in given}
    updates = substitute(owner.updates, swaps)
    inputs = (*owner.inputs, *map(log_leaf, given))
    try:
        return schedule(replace(owner, inputs=inputs, updates=updates), plan.mode)
    except Unschedulable:
        return plan


def _gates(owner: Recurrence) -> Set[Leaf]:
    """What the entries of some state are multiplied by, token by token."""
    affine = [problem.affine for problem in problems(owner).problems]
    return leaves(each.decay(state) for each in affine if each is not None for state in each.states)


def product_between(expr: Expr) -> Expr | None:
    """The gate of which an expression is the product over `OTHER < l <= TOKEN`, if it is that of one.

    The gate is an exponential where the expression is made of its logarithm.
    """
    one, here, there = build.ONE, Index(TOKEN), Index(OTHER)
    match expr:
        case Scan(decay=decay, axis=axis, reverse=False, columns=None) if (
            axis == TOKEN and OTHER not in decay.axes
        ):
            identity = build.where(build.apply("eq", here, there), one, build.ZERO)
            return decay if expr.source is identity and TOKEN in decay.axes else None
        case Apply(
            op="where",
            args=(
                _,
                Apply(
                    op="exp",
                    args=(
                        Scan(
                            source=Apply(op="where", args=(_, log, _)),
                        ),
                    ),
                ),
                _,
            ),
        ):
            later = build.where(build.apply("gt", here, there), log, build.ZERO)
            total = build.apply("exp", Scan(one, later, TOKEN))
            whole = build.where(build.apply("ge", here, there), total, build.ZERO)
            return build.apply("exp", log) if expr is whole else None
        case _:
            return None
