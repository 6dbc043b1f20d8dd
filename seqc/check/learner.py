"""From the four choices to updates: `W' = P(R - r · ∇ℓ)`, as the table in the language reference says.

The gradient is derived (`passes.derive`), the closed form of an implicit step follows from the structure of the
objective, and held gradients become two states: the held memory and the count of tokens since it was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from seqc.check import builtins
from seqc.check.context import Context
from seqc.check.expressions import Elaborator
from seqc.check.implicit import closed_form
from seqc.check.limits import MAX_STEPS
from seqc.check.memory import Memory
from seqc.diagnostics.blocks import MissingArgument
from seqc.diagnostics.learners import (
    GateHasForeignAxis,
    GradientPoint,
    HeldAtRetained,
    HeldImplicit,
    MissingChoice,
    NoClosedForm,
    NotDifferentiableHere,
    NotYetSupported,
    ObjectiveNotScalar,
    UnknownLearner,
)
from seqc.diagnostics.names import UnknownWord
from seqc.diagnostics.settings import TooLarge
from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Expr, substitute, walk
from seqc.ir.recurrence import State
from seqc.passes.derive import NotDifferentiable, gradient
from seqc.source import Span
from seqc.syntax import tree

_ARGUMENTS = {
    "gd": ("rate", "at", "every", "steps", "window", "weights"),
    "momentum": ("rate", "decay", "at", "every", "window", "weights"),
    "implicit": ("rate", "every", "window", "weights"),
}


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


class Learning:
    """Lowers the choices of one rule."""

    def __init__(
        self, elaborator: Elaborator, objective: tree.Objective | None, memories: Sequence[Memory]
    ) -> None:
        self.elaborator = elaborator
        self.tensors = tuple(tensor for memory in memories for tensor in memory.before)
        self.gradients: dict[Expr, Expr] = {}
        self.context: Context = elaborator.context
        self.objective = objective
        self.loss = ZERO if objective is None else self._loss(objective)

    def _loss(self, objective: tree.Objective) -> Expr:
        loss = self.elaborator.value(objective.expr)
        if loss.axes:
            self.context.fail(ObjectiveNotScalar(objective.expr.span, loss.axes))
        return loss

    def lower(self, choices: Choices) -> Update:
        """The equations of one memory."""
        update = Update()
        memory = choices.memory
        retained = [self._retained(choices, tensor) for tensor in memory.tensors]
        if choices.learner is None:
            if self.objective is not None:
                self.context.fail(MissingChoice(memory.span, memory.name, "learner", "learner gd(rate = 1)"))
            written = retained
        else:
            call = choices.learner.call
            written = self._learn(choices, call, memory, retained, update)
        for tensor, value in zip(memory.tensors, written, strict=True):
            for proximal in choices.proximal:
                value = self._proximal(proximal, value, tensor)
            update.equations[tensor.name] = value
        return update

    # --- retention ---

    def _retained(self, choices: Choices, tensor: State) -> Expr:
        if choices.retention is None:
            return tensor.leaf
        name, values = choices.memory.name, self.context.values
        memory = values[name]
        values[name] = tensor.leaf
        try:
            kept = self.elaborator.value(choices.retention.expr)
        finally:
            values[name] = memory
        self._within(kept, tensor, choices.retention.expr.span)
        return kept

    def _within(self, value: Expr, tensor: State, span: Span) -> None:
        """A gate or a rate must not have an axis that the memory lacks."""
        beyond = [a for a in value.axes if a not in tensor.axes]
        if beyond:
            self.context.fail(GateHasForeignAxis(span, tensor.name, beyond[0], tensor.axes))

    # --- learners ---

    def _learn(
        self, choices: Choices, call: tree.Call, memory: Memory, retained: list[Expr], update: Update
    ) -> list[Expr]:
        kind = self._kind(call, memory)
        rate = self._argument(call, "rate")
        for tensor in memory.tensors:
            self._within(rate, tensor, self._span(call, "rate"))
        if kind == "implicit":
            if (every := call.keyword("every")) is not None:
                self.context.fail(HeldImplicit(every.span))
            return self._implicit(call, memory, retained, rate)
        at_retained = self._at_retained(call)
        slopes = self._slopes(memory)
        if (every := call.keyword("every")) is not None:
            if at_retained:
                self.context.fail(HeldAtRetained(every.span))
            slopes = self._hold(every, memory, slopes, update)
        point = retained if at_retained else list[Expr](memory.before)
        first = self._move(slopes, memory, point)
        if kind == "momentum":
            return self._momentum(call, memory, retained, first, rate, update)
        return self._descend(
            call, memory, retained, slopes, first, rate, at_retained or choices.retention is None
        )

    def _kind(self, call: tree.Call, memory: Memory) -> str:
        """The learner's word, after a look at what is written with it."""
        kind = call.callee.name
        if kind not in _ARGUMENTS:
            self.context.fail(UnknownLearner(call.callee.span, kind, builtins.LEARNERS))
        if self.objective is None:
            example = "objective 0.5 * sumsq(S(k) - v)"
            self.context.fail(MissingChoice(memory.span, memory.name, "objective", example))
        self.elaborator.arguments(call, 0, _ARGUMENTS[kind])
        for later in ("window", "weights"):
            if (keyword := call.keyword(later)) is not None:
                self.context.fail(NotYetSupported(keyword.span, f"`{later}`"))
        return kind

    def _descend(
        self,
        call: tree.Call,
        memory: Memory,
        retained: list[Expr],
        slopes: Sequence[Expr],
        first: list[Expr],
        rate: Expr,
        from_start: bool,
    ) -> list[Expr]:
        steps = self._steps(call)
        if steps > 1 and (not from_start or call.keyword("every") is not None):
            self.context.fail(GradientPoint(self._span(call, "steps")))
        written = [build.sub(r, build.mul(rate, g)) for r, g in zip(retained, first, strict=True)]
        for _ in range(steps - 1):
            again = self._move(slopes, memory, written)
            written = [build.sub(r, build.mul(rate, g)) for r, g in zip(written, again, strict=True)]
        return written

    def _momentum(
        self,
        call: tree.Call,
        memory: Memory,
        retained: list[Expr],
        slopes: list[Expr],
        rate: Expr,
        update: Update,
    ) -> list[Expr]:
        decay = self._argument(call, "decay")
        written: list[Expr] = []
        for tensor, kept, slope in zip(memory.tensors, retained, slopes, strict=True):
            self._within(decay, tensor, self._span(call, "decay"))
            state = State(f"{tensor.name}.momentum", tensor.axes, ZERO, tensor.dtype)
            update.states.append(state)
            update.equations[state.name] = build.sub(build.mul(decay, state.leaf), build.mul(rate, slope))
            written.append(build.add(kept, state.next))
        return written

    def _implicit(self, call: tree.Call, memory: Memory, retained: list[Expr], rate: Expr) -> list[Expr]:
        found = closed_form(self.loss, memory, rate)
        if isinstance(found, str):
            span = call.span if self.objective is None else self.objective.expr.span
            self.context.fail(NoClosedForm(span, memory.name, found))
        slopes = self._move(self._slopes(memory), memory, retained)
        return [build.sub(kept, build.mul(found, g)) for kept, g in zip(retained, slopes, strict=True)]

    # --- gradients ---

    def _slopes(self, memory: Memory) -> Sequence[Expr]:
        """∇ℓ with respect to every tensor, at the memory before the token."""
        if not self.gradients:
            self.gradients = dict(zip(self.tensors, self._gradient(memory), strict=True))
        return [self.gradients[tensor] for tensor in memory.before]

    def _gradient(self, memory: Memory) -> Sequence[Expr]:
        try:
            return gradient(self.loss, self.tensors)
        except NotDifferentiable as error:
            place = self.context.origins.get(error.node)
            if place is None:
                place = memory.span if self.objective is None else self.objective.expr.span
        self.context.fail(NotDifferentiableHere(place))

    def _move(self, slopes: Sequence[Expr], memory: Memory, point: Sequence[Expr]) -> list[Expr]:
        """The gradients at another point than the memory before the token."""
        self.context.budget.spend(self.context.bag, memory.span, sum(1 for _ in walk(slopes)))
        mapping = {a: b for a, b in zip(memory.before, point, strict=True) if a is not b}
        return list(substitute(slopes, mapping)) if mapping else list(slopes)

    def _hold(
        self, every: tree.Keyword, memory: Memory, slopes: Sequence[Expr], update: Update
    ) -> list[Expr]:
        """Take the gradients at the memory as it was at the last token whose count is divisible by `every`."""
        period = self.elaborator.size(every.value)
        if period == 1:
            return list(slopes)
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
        return self._move(slopes, memory, held)

    # --- proximal operators ---

    def _proximal(self, node: tree.Proximal, value: Expr, tensor: State) -> Expr:
        call = node.call
        kind = call.callee.name
        match kind:
            case "soft_threshold":
                self.elaborator.arguments(call, 1)
                amount = self.elaborator.value(call.args[0])
                self._within(amount, tensor, call.args[0].span)
                size = build.apply("relu", build.sub(build.apply("abs", value), amount))
                return build.mul(build.apply("sign", value), size)
            case "ridge":
                self.elaborator.arguments(call, 1)
                amount = self.elaborator.value(call.args[0])
                self._within(amount, tensor, call.args[0].span)
                return build.div(value, build.add(ONE, amount))
            case "sphere":
                self.elaborator.arguments(call, 0)
                over = self.elaborator.over(call, tensor.leaf) if call.over else tensor.axes
                length = build.add(build.sum_over(over, builtins.square(value)), build.const(1e-12))
                return build.div(value, build.apply("sqrt", length))
            case _:
                self.context.fail(
                    UnknownWord(call.callee.span, "proximal operator", kind, builtins.PROXIMALS)
                )

    # --- arguments ---

    def _argument(self, call: tree.Call, name: str) -> Expr:
        keyword = call.keyword(name)
        if keyword is None:
            self.context.fail(MissingArgument(call.span, call.callee.name, name, f"{name} = ..."))
        return self.elaborator.value(keyword.value)

    def _span(self, call: tree.Call, name: str) -> Span:
        keyword = call.keyword(name)
        return call.span if keyword is None else keyword.value.span

    def _at_retained(self, call: tree.Call) -> bool:
        keyword = call.keyword("at")
        if keyword is None:
            return False
        word = keyword.value
        if isinstance(word, tree.Name) and not word.primed and word.name in {"retained", "previous"}:
            return word.name == "retained"
        self.context.fail(GradientPoint(word.span))

    def _steps(self, call: tree.Call) -> int:
        keyword = call.keyword("steps")
        if keyword is None:
            return 1
        steps = self.elaborator.size(keyword.value)
        if steps > MAX_STEPS:
            self.context.fail(TooLarge(keyword.span, "the number of steps", str(steps), MAX_STEPS))
        return steps
