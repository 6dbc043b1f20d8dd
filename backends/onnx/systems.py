"""One triangular system a block, where a plan has one for what is written and one for what is read of the state.

A plan solves `x = v + M x` and `W = s + M W` apart, so that `x + W · S` needs one product once the state `S` is known.
A graph knows the state when it comes to a block, and solves `y = (v + s · S) + M y` alone: solving is linear, and acts
on tokens where the product with the state acts on keys.
"""

from __future__ import annotations

from dataclasses import replace

from seqc.ir import build
from seqc.ir.expr import Apply, Axes, Expr, Leaf, Reduce, Rename, Solve
from seqc.ir.plan import Plan, Stage
from seqc.ir.traverse import leaves, rewrite, substitute, walk


def join_systems(plan: Plan) -> Plan:
    """The plan with what its stages read of the states within the systems."""
    return replace(plan, stages=tuple(map(_joined, plan.stages)))


def _joined(stage: Stage) -> Stage:
    solved: dict[Expr, Expr] = {
        leaf: expr for leaf, expr in stage.pre if any(isinstance(x, Solve) for x in walk([expr]))
    }
    if not solved or stage.block == 0:
        return stage
    states = frozenset(state.leaf for state in stage.carried)
    roots = substitute([*stage.updates, *(read.value for read in stage.reads)], solved)
    roots = rewrite(rewrite(roots, lambda node: _moved(node, states)), _added)
    count = len(stage.updates)
    reads = tuple(replace(read, value=x) for read, x in zip(stage.reads, roots[count:], strict=True))
    pre = tuple((leaf, expr) for leaf, expr in stage.pre if leaf not in solved)
    return replace(stage, pre=pre, updates=roots[:count], reads=reads)


# --- products with the state move into systems ----------------------------------------------------------------


def _moved(node: Expr, states: frozenset[Leaf]) -> Expr | None:
    """A sum over keys of a solution times what depends on a state, with that product within the system."""
    match node:
        case Reduce(op="sum", over=keys, arg=Apply(op="mul", args=(x, y))):
            first, second = (bool(leaves([z]) & states) for z in (x, y))
            if first == second:
                return None
            weight, state = (y, x) if first else (x, y)
            return _applied(weight, state, keys)
        case _:
            return None


def _applied(weight: Expr, state: Expr, keys: Axes) -> Expr | None:
    """`Σ_keys weight · state`, with the product within the systems of the weight; None where it has none."""
    own = {*state.axes, *keys}
    match weight:
        case Solve(matrix=matrix, rows=rows, columns=columns):
            if own & {rows, columns} or set(keys) & set(matrix.axes):
                return None
            return replace(weight, rhs=_product(weight.rhs, state, keys))
        case Rename(pairs=pairs, arg=arg):
            inner = None if own & {axis for pair in pairs for axis in pair} else _applied(arg, state, keys)
            return None if inner is None else build.rename(inner, dict(pairs))
        case Apply(op="add", args=(x, y)) if set(keys) <= set(x.axes) & set(y.axes):
            if _applied(x, state, keys) is None and _applied(y, state, keys) is None:
                return None
            return build.add(_product(x, state, keys), _product(y, state, keys))
        case Reduce(op="sum", over=over, arg=Apply(op="mul", args=(x, y))) if not own & set(over):
            fixed, inner = (x, y) if set(keys) <= set(y.axes) else (y, x)
            product = None if set(keys) & set(fixed.axes) else _applied(inner, state, keys)
            return None if product is None else build.sum_over(over, build.mul(fixed, product))
        case _:
            return None


def _product(weight: Expr, state: Expr, keys: Axes) -> Expr:
    applied = _applied(weight, state, keys)
    return build.sum_over(keys, build.mul(weight, state)) if applied is None else applied


# --- sums of what the same matrix does to tokens --------------------------------------------------------------


def _added(node: Expr) -> Expr | None:
    """A sum in which no system, no product with one matrix and no renaming of these is there twice."""
    if not isinstance(node, Apply) or node.op != "add":
        return None
    terms: list[Expr] = []
    for term in _terms(node):
        for place, other in enumerate(terms):
            if (joined := _together(other, term)) is not None:
                terms[place] = joined
                break
        else:
            terms.append(term)
    return build.total(terms)


def _terms(node: Expr) -> list[Expr]:
    if isinstance(node, Apply) and node.op == "add":
        return [term for arg in node.args for term in _terms(arg)]
    return [node]


def _sum(x: Expr, y: Expr) -> Expr:
    node = build.add(x, y)
    return _added(node) or node


def _together(x: Expr, y: Expr) -> Expr | None:
    """`x + y` as one system, one product or one renaming, if both are one with a system in it."""
    match x, y:
        case Solve(), Solve() if replace(y, rhs=x.rhs) is x:
            return replace(x, rhs=_sum(x.rhs, y.rhs))
        case Rename(), Rename() if x.pairs == y.pairs and _together(x.arg, y.arg) is not None:
            return build.rename(_sum(x.arg, y.arg), dict(x.pairs))
        case (
            Reduce(op="sum", over=over, arg=Apply(op="mul", args=(a, b))),
            Reduce(op="sum", arg=Apply(op="mul", args=(c, d))),
        ) if over == y.over:
            for matrix, first, other, second in ((a, b, c, d), (a, b, d, c), (b, a, c, d), (b, a, d, c)):
                if matrix is other and (inner := _together(first, second)) is not None:
                    return build.sum_over(over, build.mul(matrix, inner))
            return None
        case _:
            return None
