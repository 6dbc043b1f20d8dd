"""Which inputs a recurrence's outputs are linear in, through all tokens and states, and along which axes.

An expression is read as a function of the whole past of one input. States begin at what their initial value says and
take in what their updates say, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntFlag

from seqc.ir.build import ZERO
from seqc.ir.expr import (
    Apply,
    At,
    Concat,
    Const,
    DType,
    Expr,
    Leaf,
    LeafKind,
    Reduce,
    Rename,
    Scan,
    Shift,
    Slice,
    Solve,
)
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import children, walk
from seqc.passes.canonical import canonical


class Degree(IntFlag):
    """Of what terms an expression is a sum; 0 is what is always 0."""

    CONSTANT = 1
    LINEAR = 2
    CURVED = 4


NONE = Degree(0)
DEPENDENT = Degree.LINEAR | Degree.CURVED


@dataclass(frozen=True, slots=True)
class Form:
    """How an expression depends on an input.

    `kept` has the axes of the input along which every entry depends on the input's entry at the same place only, each
    with its name in the expression. `varies` are those of them along which the factor differs from entry to entry.
    """

    degree: Degree
    kept: frozenset[tuple[str, str]] = frozenset()
    varies: frozenset[str] = frozenset()

    def without(self, axes: Iterable[str]) -> Form:
        """Where entries along `axes` are mixed."""
        return self._with(frozenset(pair for pair in self.kept if pair[1] not in set(axes)))

    def renamed(self, names: Mapping[str, str]) -> Form:
        return self._with(frozenset((own, names.get(now, now)) for own, now in self.kept))

    def scaled(self, factor: Expr) -> Form:
        """Times something that does not depend on the input."""
        more = {own for own, now in self.kept if now in factor.axes}
        return Form(self.degree, self.kept, self.varies | more)

    def _with(self, kept: frozenset[tuple[str, str]]) -> Form:
        return Form(self.degree, kept, self.varies & {own for own, _ in kept})


CURVED = Form(Degree.CURVED)
FIXED = Form(Degree.CONSTANT)


def join(forms: Iterable[Form]) -> Form:
    """A sum, or one of several."""
    forms = list(forms)
    degree = NONE
    for form in forms:
        degree |= form.degree
    if degree & Degree.CURVED:
        return CURVED
    linear = [form for form in forms if form.degree & Degree.LINEAR]
    if not linear:
        return Form(degree)
    kept = frozenset[tuple[str, str]].intersection(*(form.kept for form in linear))
    varies = frozenset[str]().union(*(form.varies for form in linear))
    return Form(degree, kept, varies & {own for own, _ in kept})


@dataclass(frozen=True, slots=True)
class Linear:
    """The input `leaf`, in which the outputs are linear as their `forms` say."""

    leaf: Leaf
    outputs: tuple[Form, ...]


def linear_inputs(rule: Recurrence) -> list[Linear]:
    """The real inputs that a memory keeps and that some output is linear in, those with the simplest matrix first.

    What an input adds besides a linear part (a memory that begins with something) is allowed.
    """
    found: list[Linear] = []
    for leaf in rule.inputs:
        if leaf.dtype is DType.REAL:
            known = _settled(rule, leaf)
            forms = _read(rule.outputs, leaf, known)
            linear = Linear(leaf, tuple(forms[output] for output in rule.outputs))
            if any(form.degree & Degree.LINEAR for form in known.values()) and any(
                map(is_linear, linear.outputs)
            ):
                found.append(linear)
    return sorted(
        found, key=lambda linear: min(_effort(linear.leaf, f) for f in linear.outputs if is_linear(f))
    )


def is_linear(form: Form) -> bool:
    return form.degree & DEPENDENT == Degree.LINEAR


def _effort(leaf: Leaf, form: Form) -> tuple[int, int, int]:
    """How large the matrix is: by axes that are mixed, by axes along which it varies; and whether there is more."""
    return len(leaf.axes) - len(form.kept), len(form.varies), int(form.degree)


def _settled(rule: Recurrence, leaf: Leaf) -> dict[Leaf, Form]:
    """The forms of states and stores, before and after a token."""
    known: dict[Leaf, Form] = {}
    for state in rule.states:
        begins = Form(NONE if canonical(state.initial) is ZERO else Degree.CONSTANT)
        known[state.leaf] = known[state.next] = begins
    for store in rule.stores:
        known[store.leaf] = known[store.next] = Form(NONE)
    while True:
        forms = _read([*rule.updates, *(store.value for store in rule.stores)], leaf, known)
        after = dict(known)
        for state, update in zip(rule.states, rule.updates, strict=True):
            after[state.leaf] = after[state.next] = join([known[state.leaf], forms[update]])
        for store in rule.stores:
            after[store.leaf] = after[store.next] = join([known[store.leaf], forms[store.value]])
        if after == known:
            return known
        known = after


def _read(roots: Iterable[Expr], leaf: Leaf, known: Mapping[Leaf, Form]) -> dict[Expr, Form]:
    forms: dict[Expr, Form] = {}
    for node in walk(roots):
        forms[node] = _leaf(node, leaf, known) if isinstance(node, Leaf) else _form(node, forms)
    return forms


def _leaf(node: Leaf, leaf: Leaf, known: Mapping[Leaf, Form]) -> Form:
    if node is leaf:
        return Form(Degree.LINEAR, frozenset((axis, axis) for axis in leaf.axes))
    held = (LeafKind.STATE, LeafKind.NEXT, LeafKind.STORE, LeafKind.STORED)
    return known[node] if node.kind in held else FIXED


def _form(node: Expr, forms: Mapping[Expr, Form]) -> Form:  # noqa: C901  # one case a node kind
    below = [forms[child] for child in children(node)]
    match node:
        case Const():
            return Form(NONE) if node is ZERO else FIXED
        case Apply(op="add" | "sub" | "neg" | "real" | "imag" | "conj" | "complex"):
            return join(below)
        case Apply(op="mul"):
            return _product(node.args, below)
        case Apply(op="div") if not below[1].degree & DEPENDENT:
            return below[0].scaled(node.args[1])
        case Apply(op="where") if not below[0].degree & DEPENDENT:
            return join(below[1:]).scaled(node.args[0])
        case Reduce(op="sum"):
            return below[0].without(node.over)
        case Rename():
            return below[0].renamed(dict(node.pairs))
        case Slice() | At() | Shift():
            return below[0].without([node.axis])
        case Concat():
            return join(form.without([part]) for form, part in zip(below, node.parts, strict=True))
        case Scan() if not below[0].degree & DEPENDENT:
            return below[1].scaled(node.decay).without([node.axis, *(node.columns or ())])
        case Solve() if not below[0].degree & DEPENDENT:
            return below[1].scaled(node.matrix).without([node.rows])
        case _:
            return CURVED if any(form.degree & DEPENDENT for form in below) else FIXED


def _product(args: tuple[Expr, ...], forms: list[Form]) -> Form:
    if any(form.degree == NONE for form in forms):
        return Form(NONE)
    (left, right), (one, other) = args, forms
    if not one.degree & DEPENDENT:
        return other.scaled(left)
    return CURVED if other.degree & DEPENDENT else one.scaled(right)
