"""Building the stages of a plan: inputs, hoisting, and the derived adjoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import Const, DType, Expr, Index, Leaf, LeafKind, Rename, Size
from seqc.ir.plan import BETWEEN, OTHER, TOKEN, Adjoint, Stage, StageInput, StageRead
from seqc.ir.recurrence import State
from seqc.ir.traverse import children, depends_on, leaves, substitute, walk
from seqc.passes.derive import pullback
from seqc.passes.forms.kernels import size_of

TOKENED = (LeafKind.INPUT, LeafKind.READ, LeafKind.STATE, LeafKind.NEXT)


def varies(expr: Expr) -> bool:
    """Whether a token-level expression can differ from token to token."""
    return any(leaf.kind in TOKENED for leaf in leaves([expr]))


@dataclass(slots=True)
class StageBuilder:
    """Collects what a stage consists of; `lift` is how token-level values enter it."""

    name: str
    block: int
    sizes: Mapping[str, int]
    inputs: dict[tuple[Expr, float, bool], StageInput] = field(
        default_factory=dict[tuple[Expr, float, bool], StageInput]
    )
    phase: str | None = None
    padded: set[Leaf] = field(default_factory=set[Leaf])  # inputs whose padding matters

    def __post_init__(self) -> None:
        self.sizes = {**self.sizes, TOKEN: self.block, OTHER: self.block, BETWEEN: self.block}

    def lift(self, value: Expr, padding: float) -> Expr:
        """The block-level leaf for a token-level value."""
        return self._input(value, padding, constant=False, masked=False)

    def lift_if_varying(self, value: Expr, padding: float = 0.0, masked: bool = False) -> Expr:
        """Like `lift`, but numbers stay numbers and parameters come in once; nothing follows from what a value that is
        `masked` is at padding.
        """
        if isinstance(value, Const | Size | Index):
            return value
        return self._input(value, padding, constant=not varies(value), masked=masked)

    def _input(self, value: Expr, padding: float, constant: bool, masked: bool) -> Leaf:
        key = (value, padding, constant)
        if key not in self.inputs:
            token = () if constant or self.block == 1 else (TOKEN,)
            name = f"{self.name}.in{len(self.inputs)}"
            leaf = Leaf(LeafKind.READ, name, (*token, *value.axes), value.dtype)
            self.inputs[key] = StageInput(leaf, value, padding, constant)
        leaf = self.inputs[key].leaf
        if not masked:
            self.padded.add(leaf)
        return leaf

    def finish(
        self, carried: Sequence[State], updates: Sequence[Expr], reads: Sequence[tuple[Leaf, Expr]]
    ) -> tuple[Stage, Adjoint]:
        """The stage, with everything that does not need the carried states taken out of the sequential part."""
        states: list[Expr] = [state.leaf for state in carried]
        pre = hoist(updates, states, f"{self.name}.pre")
        inputs = tuple(
            x if x.constant or x.leaf in self.padded else replace(x, masked=True)
            for x in self.inputs.values()
        )
        adjoint = _adjoint(self.name, carried, inputs, updates, reads, pre)
        mapping = {expr: leaf for leaf, expr in pre}
        stage = Stage(
            self.name,
            tuple(carried),
            self.block,
            inputs,
            pre,
            substitute(updates, mapping),
            tuple(
                StageRead(leaf, value)
                for (leaf, _), value in zip(reads, substitute((v for _, v in reads), mapping), strict=True)
            ),
            self._all_sizes([*updates, *(value for _, value in reads), *adjoint.inputs, *adjoint.direct]),
            self.phase,
        )
        return stage, adjoint

    def _all_sizes(self, roots: Iterable[Expr]) -> dict[str, int]:
        axes = {axis for node in walk(roots) for axis in node.axes}
        return {**self.sizes, **{axis: size_of(axis, self.sizes) for axis in sorted(axes)}}


def hoist(roots: Sequence[Expr], moving: Iterable[Expr], prefix: str) -> tuple[tuple[Leaf, Expr], ...]:
    """The largest sub-expressions that do not depend on `moving`, each with the leaf to replace it."""
    dependent = depends_on(roots, moving)
    found: list[Expr] = []
    for root in roots:
        if root not in dependent:
            _take(root, found)
    for node in walk(roots):
        if node in dependent:
            for child in children(node):
                if child not in dependent:
                    _take(child, found)
    return tuple(
        (Leaf(LeafKind.READ, f"{prefix}{k}", expr.axes, expr.dtype), expr) for k, expr in enumerate(found)
    )


def _take(expr: Expr, found: list[Expr]) -> None:
    plain = isinstance(expr, Rename) and isinstance(expr.arg, Leaf)
    if children(expr) and not plain and expr not in found and any(isinstance(n, Leaf) for n in walk([expr])):
        found.append(expr)


def cotangent(name: str, axes: tuple[str, ...], dtype: DType) -> Leaf:
    return Leaf(LeafKind.COTANGENT, name, axes, dtype)


def _adjoint(
    name: str,
    carried: Sequence[State],
    inputs: Sequence[StageInput],
    updates: Sequence[Expr],
    reads: Sequence[tuple[Leaf, Expr]],
    pre: Sequence[tuple[Leaf, Expr]],
) -> Adjoint:
    """The reverse recurrence: the pullback of a block, with what the cotangents do not change hoisted."""
    after = [cotangent(state.name, state.axes, state.dtype) for state in carried]
    states = [state.leaf for state in carried]
    from_states: dict[Expr, Expr] = {}
    for update, leaf in zip(updates, after, strict=True):
        _add(from_states, update, leaf)
    from_reads: dict[Expr, Expr] = {}
    for leaf, value in reads:
        token = (TOKEN,) if TOKEN in value.axes else ()
        _add(from_reads, value, cotangent(leaf.name, (*token, *leaf.axes), leaf.dtype))
    known = {expr: leaf for leaf, expr in pre}
    direct = substitute(pullback(from_reads, states), known)
    steps = substitute(pullback(from_states, states), known)
    both = dict(from_states)
    for value, g in from_reads.items():
        _add(both, value, g)
    into_inputs = substitute(pullback(both, [item.leaf for item in inputs]), known)
    hoisted = hoist(steps, after, f"{name}.back")
    steps = substitute(steps, {expr: leaf for leaf, expr in hoisted})
    return Adjoint(hoisted, direct, steps, into_inputs)


def _add(cotangents: dict[Expr, Expr], node: Expr, g: Expr) -> None:
    cotangents[node] = build.add(cotangents.get(node, ZERO), g)
