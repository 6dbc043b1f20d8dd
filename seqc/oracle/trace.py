"""What happened at a token: every name and state, and where the first value that is not a number came from.

`seqc trace` prints it.  Values are those of the oracle, in double precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from seqc.ir.expr import Axes, Expr, Leaf, LeafKind
from seqc.ir.paths import Instance, join
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import children
from seqc.oracle.evaluate import Order
from seqc.oracle.model import Run, run_instance

if TYPE_CHECKING:
    from seqc.source import Span

Kind = Literal["input", "let", "state", "output"]


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """One named value at one token: `value` is `[batch, *axes]`, `name` carries the path of its instance."""

    token: int
    kind: Kind
    name: str
    axes: Axes
    value: Tensor
    span: Span | None


@dataclass(frozen=True, eq=False, slots=True)
class NotANumber:
    """The first value that is not finite, in the order of tokens and then of evaluation.

    `needs` are the finite values that it was made of, with the axes of each.  `span` is the nearest place in
    the text: the expression's own, or that of the smallest expression around it that has one.
    """

    token: int
    path: str
    expression: Expr
    value: Tensor
    needs: tuple[tuple[Expr, Tensor], ...]
    span: Span | None


@dataclass(frozen=True, eq=False, slots=True)
class Trace:
    """`entries` of the tokens asked for, in order; `fault` is None when every value is finite."""

    entries: tuple[Entry, ...]
    fault: NotANumber | None


@dataclass(slots=True)
class _Recorder:
    """Looks at every value of a run.  A block is seen after what it calls; `tokens` None keeps none."""

    tokens: frozenset[int]
    time: int
    entries: list[Entry] = field(default_factory=list[Entry])
    faults: list[NotANumber] = field(default_factory=list[NotANumber])

    def watch(
        self, instance: Instance, token: int | None, what: Order, values: Mapping[Expr, Tensor]
    ) -> None:
        tokens = range(self.time) if token is None else (token,)
        if not self.faults:
            self._find_fault(instance, token, what, values)
        for t in tokens:
            if t in self.tokens:
                self.entries.extend(_entries(instance, t, token is None, what, values))

    def _find_fault(
        self, instance: Instance, token: int | None, what: Order, values: Mapping[Expr, Tensor]
    ) -> None:
        called = bool(instance.path)
        for node in what.nodes:
            if node not in values or _finite(values[node]):
                continue
            if (
                called
                and isinstance(node, Leaf)
                and not (node in what.definitions or node.kind is LeafKind.PARAM)
            ):
                return  # it came from the caller, who will be asked
            needs = what.factors.get(node, children(node))
            known = tuple((need, values[need]) for need in needs if need in values)
            where = token if token is not None else _first_token(values[node])
            span = place_of(node, what, instance.owner)
            self.faults.append(NotANumber(where, instance.path, node, values[node], known, span))
            return


def _finite(value: Tensor) -> bool:
    return (not value.is_floating_point() and not value.is_complex()) or not bool(value.isnan().any())


def _first_token(value: Tensor) -> int:
    bad = value.isnan().flatten(2).any(-1).any(0) if value.ndim > 2 else value.isnan().any(0)
    return int(bad.nonzero()[0])


def place_of(node: Expr, what: Order, owner: Recurrence | Function) -> Span | None:
    """The place of an expression in the text, or of the first one around it that has a place."""
    parents: dict[Expr, list[Expr]] = {}
    for other in what.nodes:
        for child in (*what.factors.get(other, ()), *children(other)):
            parents.setdefault(child, []).append(other)
    ring, seen = [node], {node}
    while ring:
        for here in ring:
            if here in owner.origins:
                return owner.origins[here]
        ring = [parent for here in ring for parent in parents.get(here, ()) if parent not in seen]
        seen.update(ring)
    return None


def _entries(
    instance: Instance, token: int, over_time: bool, what: Order, values: Mapping[Expr, Tensor]
) -> list[Entry]:
    owner = instance.owner
    named: list[tuple[Kind, str, Axes, Expr]] = []
    for leaf in owner.inputs:
        named.append(("input", leaf.name, leaf.axes, leaf))
    for name, expr in owner.names if isinstance(owner, Recurrence) else owner.bindings:
        named.append(("let", name, expr.axes, expr))
    for state in owner.states if isinstance(owner, Recurrence) else ():
        named.append(("state", state.name, state.axes, state.next))
    for i, expr in enumerate(owner.outputs):
        named.append(("output", "return" if len(owner.outputs) == 1 else f"return.{i}", expr.axes, expr))
    found: list[Entry] = []
    for kind, name, axes, expr in named:
        if expr in values:
            value = values[expr]
            if over_time:
                value = value[:, min(token, value.shape[1] - 1)]
            span = place_of(what.definitions.get(expr, expr), what, owner)
            found.append(Entry(token, kind, join(instance.path, name), axes, value, span))
    return found


def trace(
    whole: Recurrence | Function | Model,
    inputs: Tensor | Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    tokens: int | slice | None = None,
    *,
    state: Mapping[str, Tensor] | None = None,
    reset: Tensor | None = None,
) -> Trace:
    """Run a recurrence, a block or a model, and record the tokens asked for (None: all; -1: the last).

    The entries of one token come in the order of evaluation: what a block calls before the block itself.
    """
    owner = whole.body if isinstance(whole, Model) else whole
    named = {owner.inputs[0].name: inputs} if isinstance(inputs, Tensor) else inputs
    first = next(iter(named.values()))
    batch, time = first.shape[0], first.shape[1]
    wanted = slice(None) if tokens is None else tokens
    kept = range(time)[wanted]
    recorder = _Recorder(frozenset(kept if isinstance(kept, range) else (kept,)), time)
    with torch.no_grad():
        program = Run(parameters, state or {}, reset, (batch, time), recorder.watch, lets=True)
        run_instance(program, Instance(owner, "", ""), named, {})
    entries = sorted(recorder.entries, key=lambda entry: entry.token)
    return Trace(tuple(entries), recorder.faults[0] if recorder.faults else None)
