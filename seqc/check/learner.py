"""From the four choices to updates: `W' = P(R - r · D(∇ℓ))`, as the table in the language reference says.

The gradient is derived (`gradients`), closed forms follow from the structure of the objective (`implicit`, `squares`),
and what a learner remembers besides the memory (momentum, a held memory, past tokens) becomes states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from seqc.check.context import Context
from seqc.check.gradients import Objective
from seqc.check.implicit import closed_form, one_read
from seqc.check.limits import MAX_STEPS
from seqc.check.maps import apply_map
from seqc.check.memory import Memory
from seqc.check.squares import exact, recursive
from seqc.diagnostics.blocks import MissingArgument
from seqc.diagnostics.learners import (
    DoesNotCombine,
    GateHasForeignAxis,
    GradientPoint,
    HeldAtRetained,
    HeldImplicit,
    MissingChoice,
    NoClosedForm,
    UnknownLearner,
)
from seqc.diagnostics.settings import TooLarge
from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import At, Expr
from seqc.ir.recurrence import State
from seqc.ir.traverse import leaves, substitute
from seqc.source import Span
from seqc.syntax import tree

if TYPE_CHECKING:
    from seqc.check.rule import RuleElaborator


@dataclass(slots=True)
class Choices:
    """What was chosen for one memory."""

    memory: Memory
    retention: tree.Retention | None = None
    learner: tree.Learner | None = None
    proximal: list[tree.Proximal] = field(default_factory=list[tree.Proximal])

    @property
    def named(self) -> bool:
        """Whether some choice is about this memory by name."""
        chosen = (self.retention, self.learner, *self.proximal)
        return any(choice is not None and choice.memory is not None for choice in chosen)


@dataclass(slots=True)
class Update:
    """New states, and one equation for each state that the choices write."""

    states: list[State] = field(default_factory=list[State])
    equations: dict[str, Expr] = field(default_factory=dict[str, Expr])

    def remember(self, state: State, value: Expr) -> Expr:
        """A state with its equation; what it is after the token."""
        self.states.append(state)
        self.equations[state.name] = value
        return state.next


class Learning:
    """Lowers the choices of one rule."""

    def __init__(
        self, elaborator: RuleElaborator, objective: tree.Objective | None, memories: Sequence[Memory]
    ) -> None:
        self.elaborator = elaborator
        self.context: Context = elaborator.context
        self.objective = Objective(elaborator, objective, memories)

    def lower(self, choices: Choices) -> Update:
        """The equations of one memory."""
        update = Update()
        memory = choices.memory
        retained = [self._retained(choices, tensor) for tensor in memory.tensors]
        written: Sequence[Expr] = retained
        if choices.learner is not None:
            written = Step(self, choices, choices.learner.call, retained, update).written()
        elif self.objective.node is not None:
            self.context.fail(MissingChoice(memory.span, memory.name, "learner", "learner gd(rate = 1)"))
        for tensor, value in zip(memory.tensors, written, strict=True):
            for proximal in choices.proximal:
                value = apply_map(self.elaborator, proximal.call, value, tensor)
            update.equations[tensor.name] = value
        return update

    def _retained(self, choices: Choices, tensor: State) -> Expr:
        """What is kept of a tensor: in the expression the memory's name stands for what the state holds."""
        if choices.retention is None:
            return tensor.leaf
        name, values = choices.memory.name, self.context.values
        memory = values[name]
        values[name] = tensor.leaf
        try:
            kept = self.elaborator.value(choices.retention.expr)
        finally:
            values[name] = memory
        self.within(kept, tensor, choices.retention.expr.span)
        return kept

    def within(self, value: Expr, tensor: State, span: Span, also: str | None = None) -> None:
        """A gate or a rate must not have an axis that the memory lacks."""
        beyond = [a for a in value.axes if a not in tensor.axes and a != also]
        if beyond:
            self.context.fail(GateHasForeignAxis(span, tensor.name, beyond[0], tensor.axes))


class Step:
    """What one learner makes of one memory at one token."""

    def __init__(
        self, learning: Learning, choices: Choices, call: tree.Call, retained: list[Expr], update: Update
    ) -> None:
        self.learning = learning
        self.elaborator = learning.elaborator
        self.context = learning.context
        self.objective = learning.objective
        self.choices = choices
        self.memory = choices.memory
        self.call = call
        self.retained = retained
        self.update = update

    def written(self) -> Sequence[Expr]:
        kind = self.call.callee.name
        if kind not in _LEARNERS:
            self.context.fail(UnknownLearner(self.call.callee.span, kind, tuple(_LEARNERS)))
        if self.objective.node is None:
            example = "objective 0.5 * sumsq(S(k) - v)"
            self.context.fail(MissingChoice(self.memory.span, self.memory.name, "objective", example))
        words, lower = _LEARNERS[kind]
        self.elaborator.arguments(self.call, 0, words)
        return lower(self)

    # --- learners ---

    def descend(self) -> Sequence[Expr]:
        """`gd`: some steps, each at the memory that the last one left."""
        if (each := self.call.keyword("each")) is not None:
            return self._each(each)
        rate = self._scaled(self._rate())
        slopes, first = self._slopes()
        steps = self._steps()
        from_start = self._at_retained or self.choices.retention is None
        if steps > 1 and (not from_start or self.call.keyword("every") is not None):
            self.context.fail(GradientPoint(self._span("steps")))
        written = self._against(self.retained, rate, first)
        for _ in range(steps - 1):
            written = self._against(written, rate, self.objective.move(slopes, self.memory, written))
        return written

    def _each(self, each: tree.Keyword) -> Sequence[Expr]:
        """A step for every entry along an axis of the objective, one after the other."""
        for word in ("every", "window", "steps", "normalised"):
            self._refuse(word, "`each`", "each entry of the axis is a step of its own")
        if not self._at_retained and self.choices.retention is not None:
            self.context.fail(GradientPoint(each.span))
        if not isinstance(each.value, tree.Name) or each.value.primed:
            self.context.fail(
                DoesNotCombine(each.span, "`each`", "this", "it names an axis of the objective")
            )
        axis = self.context.axis(tree.Ident(each.value.name, span=each.value.span))
        length = self.context.sizes[axis]
        if length > MAX_STEPS:
            self.context.fail(TooLarge(each.span, "the number of steps", str(length), MAX_STEPS))
        loss, rate = self.objective.scalar(self.memory, axis), self._rate(axis)
        written: Sequence[Expr] = self.retained
        for index in range(length):
            own_loss, own_rate = _entry([loss, rate], axis, index)
            slopes = self.objective.move(self.objective.slopes(own_loss, self.memory), self.memory, written)
            written = self._against(written, own_rate, slopes)
        return written

    def momentum(self) -> Sequence[Expr]:
        """`Z' = e · Z - r · ∇ℓ`; with a direction the rate waits: `Z' = e · Z - ∇ℓ` and `W' = R + r · D(Z')`."""
        rate, decay = self._scaled(self._rate()), self._gate("decay")
        direction = self.call.keyword("direction")
        _, slopes = self._slopes()
        written: list[Expr] = []
        for tensor, kept, slope in zip(self.memory.tensors, self.retained, slopes, strict=True):
            state = State(f"{tensor.name}.momentum", tensor.axes, ZERO, tensor.dtype)
            push = slope if direction is not None else build.mul(rate, slope)
            velocity = self.update.remember(state, build.sub(build.mul(decay, state.leaf), push))
            if direction is not None:
                velocity = build.mul(rate, apply_map(self.elaborator, direction.value, velocity, tensor))
            written.append(build.add(kept, velocity))
        return written

    def implicit(self) -> Sequence[Expr]:
        """The memory that the step leads to, in closed form; `diagonal` keeps of k·kᵀ only the diagonal."""
        if (every := self.call.keyword("every")) is not None:
            self.context.fail(HeldImplicit(every.span))
        found = closed_form(self._loss(), self.memory, self._rate())
        if isinstance(found, str):
            self.context.fail(NoClosedForm(self.objective.span(self.call.span), self.memory.name, found))
        seen, rate = found
        if not self._flag("diagonal"):
            loss = self.objective.scalar(self.memory)
            slopes = self.objective.slopes(loss, self.memory)
            return self._against(self.retained, rate, self.objective.move(slopes, self.memory, self.retained))
        key = build.ONE if seen.read.key is None else seen.read.key
        return self._against(self.retained, rate, [seen.gradient(build.mul(self.retained[0], key))])

    # --- the gradient ---

    def _loss(self) -> Expr:
        window = self.call.keyword("window")
        weights = self.call.keyword("weights")
        if window is None:
            if weights is not None:
                reason = "without a window there is one token"
                self.context.fail(DoesNotCombine(weights.span, "`weights`", "one token", reason))
            return self.objective.scalar(self.memory)
        return self.objective.windowed(window, weights, self.memory, self.update)

    def _slopes(self) -> tuple[list[Expr], list[Expr]]:
        """∇ℓ at the memory before the token, and where the learner takes it."""
        slopes = self.objective.slopes(self._loss(), self.memory)
        if (every := self.call.keyword("every")) is None:
            point = self.retained if self._at_retained else [t.leaf for t in self.memory.tensors]
            return slopes, self.objective.move(slopes, self.memory, point)
        if self._at_retained:
            self.context.fail(HeldAtRetained(every.span))
        period = self.elaborator.size(every.value)
        if period == 1:
            return slopes, slopes
        held = self.objective.hold(period, self.memory, self.update)
        return slopes, self.objective.move(slopes, self.memory, held)

    def _against(self, start: Sequence[Expr], rate: Expr, slopes: Sequence[Expr]) -> list[Expr]:
        """One step against the gradients, after what `direction` makes of them."""
        direction = self.call.keyword("direction")
        if direction is not None:
            slopes = [
                apply_map(self.elaborator, direction.value, slope, tensor)
                for slope, tensor in zip(slopes, self.memory.tensors, strict=True)
            ]
        return [build.sub(w, build.mul(rate, g)) for w, g in zip(start, slopes, strict=True)]

    # --- arguments ---

    def _rate(self, also: str | None = None) -> Expr:
        return self._gate("rate", also)

    def _gate(self, name: str, also: str | None = None) -> Expr:
        keyword = self.call.keyword(name)
        if keyword is None:
            self.context.fail(MissingArgument(self.call.span, self.call.callee.name, name, f"{name} = ..."))
        value = self.elaborator.value(keyword.value)
        for tensor in self.memory.tensors:
            self.learning.within(value, tensor, keyword.value.span, also)
        return value

    def number(self, name: str) -> Expr:
        """An argument that is one number a token."""
        value = self._gate(name)
        if value.axes:
            tensor = self.memory.tensors[0]
            self.context.fail(GateHasForeignAxis(self._span(name), tensor.name, value.axes[0], ()))
        return value

    def _scaled(self, rate: Expr) -> Expr:
        """`normalised = eps`: the rate divided by `eps + ‖k‖²`."""
        keyword = self.call.keyword("normalised")
        if keyword is None:
            return rate
        self._refuse("window", "`normalised`", "the tokens of a window have several keys")
        read = one_read(self.objective.scalar(self.memory), self.memory)
        if isinstance(read, str):
            self.context.fail(DoesNotCombine(keyword.span, "`normalised`", "this rule", read))
        length = build.add(self.elaborator.value(keyword.value), read.length(self.memory.inputs))
        return build.div(rate, length)

    def _refuse(self, word: str, other: str, reason: str) -> None:
        keyword = self.call.keyword(word)
        if keyword is not None:
            self.context.fail(DoesNotCombine(keyword.span, f"`{word}`", other, reason))

    def _span(self, name: str) -> Span:
        keyword = self.call.keyword(name)
        return self.call.span if keyword is None else keyword.value.span

    def _flag(self, name: str) -> bool:
        keyword = self.call.keyword(name)
        return keyword is not None and bool(self.elaborator.number(keyword.value))

    @property
    def _at_retained(self) -> bool:
        keyword = self.call.keyword("at")
        if keyword is None:
            return False
        word = keyword.value
        if isinstance(word, tree.Name) and not word.primed and word.name in {"retained", "previous"}:
            return word.name == "retained"
        self.context.fail(GradientPoint(word.span))

    def _steps(self) -> int:
        keyword = self.call.keyword("steps")
        if keyword is None:
            return 1
        steps = self.elaborator.size(keyword.value)
        if steps > MAX_STEPS:
            self.context.fail(TooLarge(keyword.span, "the number of steps", str(steps), MAX_STEPS))
        return steps


def _entry(values: Sequence[Expr], axis: str, index: int) -> Sequence[Expr]:
    """The values at one position of an axis that leaves bring in."""
    found = [leaf for leaf in leaves(values) if axis in leaf.axes]
    return substitute(values, {leaf: At(axis, index, leaf) for leaf in found})


_WINDOW = ("window", "weights")
_LEARNERS: dict[str, tuple[tuple[str, ...], Callable[[Step], Sequence[Expr]]]] = {
    "gd": (
        ("rate", "at", "every", "steps", "each", "direction", "normalised", *_WINDOW),
        Step.descend,
    ),
    "momentum": (
        ("rate", "decay", "at", "every", "direction", "normalised", *_WINDOW),
        Step.momentum,
    ),
    "implicit": (("rate", "every", "diagonal", *_WINDOW), Step.implicit),
    "rls": (("rate", "decay", "ridge"), recursive),
    "exact": (("rate", "decay", "ridge", "steps"), exact),
}
