"""Cotangents of what all tokens share as products of two values of each token, as those of recurrent weights are.

With dW = Σ_t a_t b_tᵀ, the loop writes the vectors a_t and b_t, and a product of matrices over all tokens follows: no
register holds dW beside W, and no token adds to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from string import ascii_lowercase
from typing import NamedTuple

from seqc.ir import build
from seqc.ir.expr import Apply, Axes, Expr, Leaf, LeafKind, Reduce, Rename
from seqc.ir.traverse import walk

from ..cpu.program import Target, Task, differentiable, gradient
from .layout import Layout
from .runtime.kernel import Port, Product

SAVING = 4  # how many times fewer numbers factors have together than what is made of them
BATCH, TIME = "yz"  # of the equations of products, beside which axes have letters in order

Term = tuple[Expr, Expr]


class Outer(NamedTuple):
    """A task without the cotangents of some constants, the values that it writes for them, and how they follow."""

    task: Task
    sides: tuple[Leaf, ...]
    products: list[Product]
    summed: tuple[Leaf, ...]  # the constants whose cotangents the task still has


def outer(task: Task, inputs: Sequence[Leaf], constants: Sequence[Leaf], layout: Layout) -> Outer:
    """The reverse of a token, with factors of the cotangents of constants where these are worth it."""
    values = {target.leaf: target.value for target in task.targets}
    apart, found = frozenset((*layout.rows, layout.vector)), dict[Leaf, list[Term]]()
    for leaf in differentiable(constants):
        terms = _terms(values[gradient(leaf)], leaf.axes)
        terms = _merged([_opened(term, leaf.axes, apart) for term in terms or ()])
        if terms and _worth(leaf, terms, layout, apart):
            found[leaf] = terms
    operands = dict.fromkeys(
        _source(factor)[0] for terms in found.values() for term in terms for factor in term
    )
    made = [expr for expr in operands if expr not in inputs]
    sides = tuple(Leaf(LeafKind.READ, f"%side{k}", expr.axes) for k, expr in enumerate(made))
    places = {expr: k for k, expr in enumerate([*inputs, *made])}
    kept = [Target(leaf, expr) for leaf, expr in zip(sides, made, strict=True)]
    kept += [target for target in task.targets if target.leaf not in map(gradient, found)]
    products = [
        _product(constants.index(leaf), leaf, term, places) for leaf, terms in found.items() for term in terms
    ]
    summed = tuple(leaf for leaf in differentiable(constants) if leaf not in found)
    return Outer(Task(task.name, tuple(kept)), sides, products, summed)


def ports(sides: Sequence[Leaf], layout: Layout) -> list[Port]:
    """How the tensors of sides are called: no program has a part of its own."""
    return [Port(leaf.name, tuple(layout.size(axis) for axis in leaf.axes)) for leaf in sides]


def _terms(value: Expr, axes: Axes) -> list[Term] | None:
    """Pairs of factors whose products, summed over all but `axes`, add up to a value; None where it is no such sum."""
    match value:
        case Apply(op="add" | "sub"):
            left, right = (_terms(arg, axes) if {*arg.axes} == {*value.axes} else None for arg in value.args)
            if left is None or right is None:
                return None
            return left + (right if value.op == "add" else _negated(right))
        case Apply(op="neg"):
            terms = _terms(value.args[0], axes)
            return terms and _negated(terms)
        case Apply(op="mul"):
            one, other = value.args
            wide = next((arg for arg in value.args if {*arg.axes} == {*value.axes}), None)
            if wide is None:
                return [(one, other)]
            return _multiplied(_terms(wide, axes), one if wide is other else other)
        case Rename():
            return _renamed(value, axes)
        case Reduce(op="sum") if not {*value.over} & {*axes}:
            return _terms(value.arg, axes)
        case _:
            return None


def _renamed(value: Rename, axes: Axes) -> list[Term] | None:
    """As `_terms`, of the same value under the names of its axes before."""
    old, new = ({pair[k]: pair[1 - k] for pair in value.pairs} for k in (1, 0))
    terms = _terms(value.arg, tuple(old.get(axis, axis) for axis in axes)) or []
    summed = {axis for term in terms for factor in term for axis in factor.axes} - {*value.arg.axes}
    if summed & {*old, *new}:
        return None
    return [(build.rename(one, new), build.rename(other, new)) for one, other in terms] or None


def _negated(terms: Sequence[Term]) -> list[Term]:
    return [(build.neg(one), other) for one, other in terms]


def _multiplied(terms: Sequence[Term] | None, by: Expr) -> list[Term] | None:
    """The terms times what has the axes of one of their factors."""
    found = list[Term]()
    for one, other in terms or ():
        if set(by.axes) <= set(one.axes):
            found.append((build.mul(one, by), other))
        elif set(by.axes) <= set(other.axes):
            found.append((one, build.mul(other, by)))
        else:
            return None
    return found or None


def _merged(terms: Sequence[Term]) -> list[Term]:
    """The same with one term for all that share a factor."""
    found = list(terms)
    for side in (0, 1):
        by = dict[tuple[Expr, frozenset[str]], Expr]()
        for term in found:
            key = term[side], frozenset(term[1 - side].axes)
            by[key] = build.add(by.get(key, build.ZERO), term[1 - side])
        found = [(own, rest) if side == 0 else (rest, own) for (own, _), rest in by.items()]
    return found


def _opened(term: Term, axes: Axes, apart: Set[str]) -> Term:
    """The term with what each program has, in place of a factor that is the sum of that over programs."""

    def summed(factor: Expr) -> bool:
        over = {*factor.over} if isinstance(factor, Reduce) and factor.op == "sum" else set[str]()
        return bool(over & apart) and not over & {*axes}

    one, other = (factor.arg if isinstance(factor, Reduce) and summed(factor) else factor for factor in term)
    both = {*one.axes} & {*other.axes}
    return (one, other) if both <= {*term[0].axes} and both <= {*term[1].axes} else term


def _worth(leaf: Leaf, terms: Sequence[Term], layout: Layout, apart: Set[str]) -> bool:
    """Whether factors are few numbers, and each program has its own of them, or the same as all that share it."""
    factors = [_source(factor)[0] for term in terms for factor in term]
    if any(isinstance(node, Reduce) and apart & {*node.over} for node in walk(factors)):
        return False
    whole = all(set(leaf.axes) <= {*one.axes, *other.axes} for one, other in terms)
    numbers = sum(layout.volume(factor.axes) for factor in dict.fromkeys(factors))
    return whole and SAVING * numbers <= layout.volume(leaf.axes)


def _source(factor: Expr) -> tuple[Expr, Mapping[str, str]]:
    """What a factor is but for the names of its axes, and what these are called."""
    if isinstance(factor, Rename):
        return factor.arg, dict(factor.pairs)
    return factor, {}


def _product(number: int, leaf: Leaf, term: Term, places: Mapping[Expr, int]) -> Product:
    letters = dict[str, str]()

    def named(axes: Sequence[str]) -> str:
        return "".join(letters.setdefault(axis, ascii_lowercase[len(letters)]) for axis in axes)

    sources = [_source(factor) for factor in term]
    left, right = (
        BATCH + TIME + named([names.get(axis, axis) for axis in expr.axes]) for expr, names in sources
    )
    return Product(number, f"{left},{right}->{named(leaf.axes)}", *(places[expr] for expr, _ in sources))
