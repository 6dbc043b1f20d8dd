"""Recurrences that are a GRU or an LSTM, found by the structure of their update.

Libraries have these as one operator for a whole sequence.  Gates are read off the update, the operator's equations are
built of them again, and both have to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

from seqc.ir import build
from seqc.ir.build import ONE
from seqc.ir.expr import Apply, DType, Expr, LeafKind, Reduce
from seqc.ir.plan import RESET, Plan, Stage
from seqc.ir.recurrence import State
from seqc.ir.traverse import leaves, substitute, walk
from seqc.passes.canonical import arguments, same
from seqc.passes.forms.problem import Problem
from seqc.passes.schedule import problems

# The operators take one input and its weights.  A rule that is given gates hands them through an identity, which beyond
# this width costs what the operator saves.
WIDEST = 128


@dataclass(frozen=True, slots=True)
class Gate:
    """`given + Σ weight · state`, before its activation; `weight` has the axes (state's, `inner`)."""

    given: Expr
    weight: Expr
    inner: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A `GRU` or an `LSTM`: its gates, and the states it carries, the one that is read first.

    The gates are update, reset and proposal; of an LSTM input, output, forget and proposal.  `recalled` is the bias
    under the reset gate of a GRU that resets after the matrix product; None if it resets before.
    """

    op: str
    states: tuple[State, ...]
    gates: tuple[Gate, ...]
    recalled: Expr | None = None


def find_cells(plan: Plan, widest: int | None = None) -> dict[str, Cell]:
    """What the stages that take a token at a time are, by name; `widest` is the largest width."""
    loops = [stage for stage in plan.stages if stage.block == 1 and stage.newton is None]
    if not loops or plan.recurrence.stores:
        return {}
    found = {problem.name: _match(problem) for problem in problems(plan.recurrence).problems}
    cells = ((stage, found.get(stage.name)) for stage in loops)
    return {stage.name: cell for stage, cell in cells if cell is not None and _fits(stage, cell, widest)}


def _fits(stage: Stage, cell: Cell, widest: int | None) -> bool:
    if widest is not None and stage.sizes[cell.states[0].axes[0]] > widest:
        return False
    return set(stage.carried) == set(cell.states) and len(stage.reads) == 1


def _match(problem: Problem) -> Cell | None:
    queries = [query for read in problem.reads for query in read.queries]
    if len(problem.reads) != 1 or len(queries) != 1 or len(problem.states) > 2:
        return None
    (query,) = queries
    if not query.after or not query.whole or query.factors or query.names:
        return None
    if any(
        s.dtype is not DType.REAL or s.axes != query.state.axes or len(s.axes) != 1 for s in problem.states
    ):
        return None
    before: dict[Expr, Expr] = {build.where(RESET, s.initial, s.leaf): s.leaf for s in problem.states}
    updates = dict(zip((s.name for s in problem.states), substitute(problem.updates, before), strict=True))
    others = [s for s in problem.states if s is not query.state]
    if not others:
        return _gru(query.state, updates[query.state.name])
    return _lstm(query.state, others[0], updates)


def _gru(h: State, update: Expr) -> Cell | None:
    """`h' = z h + (1 - z) tanh(n + …)`, the reset gate before or after the matrix product."""
    gates, news = _activated("sigmoid", update, h), _activated("tanh", update, h)
    if len(gates) != 2 or len(news) != 1:
        return None
    new = news[0]
    for keep, reset in permutations(gates):
        whole = build.add(build.mul(keep, h.leaf), build.mul(build.sub(ONE, keep), new))
        if not same(update, whole):
            continue
        z, r = _gate(keep.args[0], h, h.leaf), _gate(reset.args[0], h, h.leaf)
        proposed = _proposal(new.args[0], h, reset)
        if z is not None and r is not None and proposed is not None:
            return Cell("GRU", (h,), (z, r, proposed[0]), proposed[1])
    return None


def _proposal(expr: Expr, h: State, reset: Expr) -> tuple[Gate, Expr | None] | None:
    """The third gate of a GRU, and the bias that its reset gate acts on."""
    before = _gate(expr, h, build.mul(reset, h.leaf))
    if before is not None:
        return before, None
    given, moving = _parted(expr, h)
    if len(moving) != 1:
        return None
    recalled = build.product(f for f in arguments("mul", moving[0]) if f is not reset)
    inner = _gate(recalled, h, h.leaf)
    if inner is None or not is_constant(inner.given) or not same(moving[0], build.mul(reset, recalled)):
        return None
    return Gate(given, inner.weight, inner.inner), inner.given


def _lstm(h: State, c: State, updates: Mapping[str, Expr]) -> Cell | None:
    """`c' = f c + i tanh(…)`, `h' = o tanh(c')`."""
    inside, news = _activated("sigmoid", updates[c.name], h), _activated("tanh", updates[c.name], h)
    outer = [node for node in _activated("sigmoid", updates[h.name], h) if node not in inside]
    if len(inside) != 2 or len(news) != 1 or len(outer) != 1:
        return None
    if not same(updates[h.name], build.mul(outer[0], build.apply("tanh", updates[c.name]))):
        return None
    for forget, enter in permutations(inside):
        whole = build.add(build.mul(forget, c.leaf), build.mul(enter, news[0]))
        if same(updates[c.name], whole):
            gates = [_gate(node.args[0], h, h.leaf) for node in (enter, outer[0], forget, news[0])]
            plain = [gate for gate in gates if gate is not None and c.leaf not in leaves([gate.given])]
            return Cell("LSTM", (h, c), tuple(plain)) if len(plain) == 4 else None
    return None


def _activated(op: str, root: Expr, h: State) -> list[Apply]:
    """The applications of an activation to something made of the state."""
    found = [node for node in walk([root]) if isinstance(node, Apply) and node.op == op]
    return [node for node in found if h.leaf in leaves([node])]


def _gate(expr: Expr, h: State, read: Expr) -> Gate | None:
    """A sum of something given and a matrix times `read`, which is made of the state."""
    given, moving = _parted(expr, h)
    if len(moving) != 1:
        return None
    match moving[0]:
        case Reduce(op="sum", over=(inner,), arg=arg):
            parts = arguments("mul", arg)
        case _:
            return None
    weight = build.product(f for f in parts if h.leaf not in leaves([f]))
    state = build.product(f for f in parts if h.leaf in leaves([f]))
    if not is_constant(weight) or set(weight.axes) != {*h.axes, inner}:
        return None
    return Gate(given, weight, inner) if same(state, build.rename(read, {h.axes[0]: inner})) else None


def _parted(expr: Expr, h: State) -> tuple[Expr, list[Expr]]:
    """The sum of the terms without the state, and the terms with it."""
    parts = arguments("add", expr)
    moving = [part for part in parts if h.leaf in leaves([part])]
    return build.total(part for part in parts if part not in moving), moving


def is_constant(expr: Expr) -> bool:
    """Whether a value is made of parameters and numbers only."""
    return all(leaf.kind is LeafKind.PARAM for leaf in leaves([expr]))
