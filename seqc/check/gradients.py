"""The objective of a rule and its gradients: at which memory they are taken, and over which tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqc.check.limits import MAX_WINDOW
from seqc.check.memory import Memory
from seqc.diagnostics.learners import DoesNotCombine, NotDifferentiableHere, ObjectiveNotScalar
from seqc.diagnostics.settings import TooLarge
from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Expr, Leaf, LeafKind
from seqc.ir.recurrence import State
from seqc.ir.traverse import leaves, substitute, walk
from seqc.passes.derive import NotDifferentiable, gradient
from seqc.source import Span
from seqc.syntax import tree

if TYPE_CHECKING:
    from seqc.check.learner import Update
    from seqc.check.rule import RuleElaborator


class Objective:
    """What one objective says of all the memories of a rule."""

    def __init__(
        self, elaborator: RuleElaborator, node: tree.Objective | None, memories: Sequence[Memory]
    ) -> None:
        self.elaborator = elaborator
        self.context = elaborator.context
        self.node = node
        self.tensors = tuple(tensor for memory in memories for tensor in memory.before)
        elaborator.judging = True
        try:
            self.loss = ZERO if node is None else elaborator.value(node.expr)
        finally:
            elaborator.judging = False

    def span(self, otherwise: Span) -> Span:
        return otherwise if self.node is None else self.node.expr.span

    def scalar(self, memory: Memory, over: str | None = None) -> Expr:
        """The objective as one number, or one for each entry of the axis `over`."""
        beyond = [axis for axis in self.loss.axes if axis != over]
        if beyond:
            self.context.fail(ObjectiveNotScalar(self.span(memory.span), self.loss.axes))
        return self.loss

    def slopes(self, loss: Expr, memory: Memory) -> list[Expr]:
        """∇ℓ with respect to every tensor of a memory, at the memory before the token."""
        try:
            found = gradient(loss, memory.before)
        except NotDifferentiable as error:
            place = self.context.origins.get(error.node, self.span(memory.span))
        else:
            return list(found)
        self.context.fail(NotDifferentiableHere(place))

    def move(self, slopes: Sequence[Expr], memory: Memory, point: Sequence[Expr]) -> list[Expr]:
        """The gradients at another point than the memory before the token; `point` is what the states hold."""
        self.context.budget.spend(self.context.bag, memory.span, sum(1 for _ in walk(slopes)))
        seen = memory.seen(point)
        mapping = {a: b for a, b in zip(memory.before, seen, strict=True) if a is not b}
        return list(substitute(slopes, mapping)) if mapping else list(slopes)

    def hold(self, period: int, memory: Memory, update: Update) -> list[Expr]:
        """The memory as it was at the last token whose count is divisible by `period`."""
        count = State(f"{memory.name}.count", (), ZERO)
        refresh = build.apply("eq", count.leaf, ZERO)
        held: list[Expr] = []
        for tensor in memory.tensors:
            state = State(f"{tensor.name}.held", tensor.axes, tensor.initial, tensor.dtype)
            update.states.append(state)
            update.equations[state.name] = build.where(refresh, tensor.leaf, state.leaf)
            held.append(state.next)
        update.states.append(count)
        update.equations[count.name] = build.apply("mod", build.add(count.leaf, ONE), build.const(period))
        return held

    def windowed(
        self, width: tree.Keyword, weights: tree.Keyword | None, memory: Memory, update: Update
    ) -> Expr:
        """The sum of the objectives of the last tokens, this one included, each with its weight.

        What the objective needs of an earlier token is a state, which begins at 0; so does the weight, and tokens
        before the first contribute nothing.
        """
        loss = self.scalar(memory)
        length = self.elaborator.size(width.value)
        if length > MAX_WINDOW:
            self.context.fail(TooLarge(width.value.span, "this window", f"{length:,}", MAX_WINDOW))
        weight = ONE if weights is None else self.elaborator.value(weights.value)
        if weight.axes:
            self.context.fail(ObjectiveNotScalar((weights or width).value.span, weight.axes))
        needed = [
            leaf for leaf in leaves([loss]) if leaf not in self.tensors and leaf.kind is not LeafKind.PARAM
        ]
        if any(leaf.kind in {LeafKind.STORE, LeafKind.STORED, LeafKind.AGE} for leaf in needed):
            reason = "a store keeps its own past"
            self.context.fail(
                DoesNotCombine(width.span, "`window`", "an objective that reads a store", reason)
            )
        total = build.mul(weight, loss)
        past: dict[Expr, Expr] = {leaf: leaf for leaf in needed}
        for ago in range(1, length):
            past = {
                leaf: _delay(f"{memory.name}.past.{_word(leaf)}.{ago}", past[leaf], update) for leaf in needed
            }
            weight = _delay(f"{memory.name}.weight.{ago}", weight, update)
            total = build.add(total, build.mul(weight, substitute([loss], past)[0]))
        return total


def _word(leaf: Leaf) -> str:
    return f"{leaf.name}.next" if leaf.kind is LeafKind.NEXT else leaf.name


def _delay(name: str, value: Expr, update: Update) -> Expr:
    """What `value` was one token ago."""
    state = State(name, value.axes, ZERO, value.dtype)
    update.states.append(state)
    update.equations[state.name] = value
    return state.leaf
