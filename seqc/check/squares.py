"""Learners that minimise a weighted sum of squares over all tokens so far, for an objective that is quadratic in what a
linear memory answers to one key `k`, with the derivative `y·c - t` and one second derivative `c` for all entries.

With the weight `r` and the decay `g` of a token, and the ridge `Λ`:

    rls     P = (P - r c (P k)(P k)ᵀ / d) / g,  d = g + r c kᵀ P k,  W' = W - r ∇ℓ-slope(W k) (P k / d)ᵀ,  P₀ = Λ⁻¹
    exact   H' = g H + r c k kᵀ,  G' = g G + r t kᵀ,  W'(q) = G' (H' + diag Λ)⁻¹ q by conjugate gradients

In `rls` the ridge is forgotten with everything else; in `exact` it stays (MesaNet, arXiv:2506.05233).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqc.check.implicit import Quadratic, quadratic
from seqc.check.limits import MAX_UNROLLED
from seqc.check.memory import Memory, state_initial
from seqc.diagnostics.blocks import MissingArgument
from seqc.diagnostics.learners import DoesNotCombine, GateHasForeignAxis, NoClosedForm
from seqc.diagnostics.rules import RepeatTooLong
from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Axes, Const, DType, Expr, Index
from seqc.ir.recurrence import State
from seqc.syntax import tree

if TYPE_CHECKING:
    from seqc.check.learner import Step
    from seqc.check.rule import RuleElaborator

TINY = Const(1e-20)  # keeps 0 / 0 of a solved system at 0


def recursive(step: Step) -> Sequence[Expr]:
    """`rls(rate = r, decay = g, ridge = l)`."""
    found, rate, decay = _setting(step)
    memory = step.memory
    ridge = step.call.keyword("ridge")
    start = ONE if ridge is None else state_initial(step.elaborator, ridge.value, memory.inputs)
    partner = _partners(step.elaborator, memory)
    axes = (*memory.inputs, *partner.values())
    initial = build.div(_same(partner), start)
    gain = State(f"{memory.name}.inverse", axes, initial)
    key = ONE if found.read.key is None else found.read.key
    turned = build.sum_over(partner.values(), build.mul(gain.leaf, build.rename(key, partner)))
    weight = build.mul(rate, found.curvature)
    depth = build.add(decay, build.mul(weight, build.sum_over(memory.inputs, build.mul(key, turned))))
    # The product of the two before anything else: rounding then leaves `P` symmetric, and what is not grows as 1 / g.
    outer = build.div(build.mul(turned, build.rename(turned, partner)), depth)
    left = build.sub(gain.leaf, build.mul(weight, outer))
    step.update.remember(gain, build.div(left, decay))
    answer = memory.read(memory.before, key)
    slope = found.slope_at(answer)
    return [build.sub(memory.before[0], build.mul(build.mul(rate, slope), build.div(turned, depth)))]


def exact(step: Step) -> Sequence[Expr]:
    """`exact(rate = r, decay = g, ridge = l, steps = s)`: the memory holds `G`, a state beside it `H`."""
    found, rate, decay = _setting(step)
    memory = step.memory
    partner = _partners(step.elaborator, memory)
    gram = _gram(memory, partner)
    key = ONE if found.read.key is None else found.read.key
    weight = build.mul(rate, found.curvature)
    square = build.mul(build.mul(weight, key), build.rename(key, partner))
    step.update.remember(gram, build.add(build.mul(decay, gram.leaf), square))
    target = build.mul(build.mul(rate, found.slope_at(ZERO)), key)
    return [build.sub(build.mul(decay, memory.tensors[0].leaf), target)]


def solved(elaborator: RuleElaborator, call: tree.Call, memory: Memory, after: bool, query: Expr) -> Expr:
    """What a memory under `exact` answers: `G (H + diag Λ)⁻¹ q`."""
    steps, ridge = call.keyword("steps"), call.keyword("ridge")
    for name, keyword in (("ridge", ridge), ("steps", steps)):
        if keyword is None:
            elaborator.context.fail(MissingArgument(call.span, "exact", name, f"{name} = ..."))
    assert steps is not None
    assert ridge is not None
    count = elaborator.size(steps.value)
    if count > MAX_UNROLLED:
        elaborator.context.fail(RepeatTooLong(steps.span, str(count), MAX_UNROLLED))
    shift = elaborator.value(ridge.value)
    beyond = [axis for axis in shift.axes if axis not in memory.inputs]
    if beyond:
        elaborator.context.fail(GateHasForeignAxis(ridge.value.span, memory.name, beyond[0], memory.inputs))
    partner = _partners(elaborator, memory)
    gram, tensor = _gram(memory, partner), memory.tensors[0]
    matrix = gram.next if after else gram.leaf
    solution = conjugate_gradients(matrix, shift, query, partner, count)
    return memory.read([tensor.next if after else tensor.leaf], solution)


def conjugate_gradients(matrix: Expr, ridge: Expr, right: Expr, partner: dict[str, str], steps: int) -> Expr:
    """The x with (matrix + diag ridge) x = right after some steps; they start at `right` over the diagonal."""
    rows = tuple(partner)

    def turn(x: Expr) -> Expr:
        return build.add(
            build.sum_over(partner.values(), build.mul(matrix, build.rename(x, partner))), build.mul(ridge, x)
        )

    def square(x: Expr, y: Expr) -> Expr:
        return build.sum_over(rows, build.mul(x, y))

    diagonal = build.sum_over(partner.values(), build.mul(_same(partner), matrix))
    x = build.div(right, build.add(diagonal, ridge))
    rest = direction = build.sub(right, turn(x))
    length = square(rest, rest)
    for _ in range(steps):
        turned = turn(direction)
        size = build.div(length, build.add(square(direction, turned), TINY))
        x = build.add(x, build.mul(size, direction))
        rest = build.sub(rest, build.mul(size, turned))
        before, length = length, square(rest, rest)
        direction = build.add(rest, build.mul(build.div(length, build.add(before, TINY)), direction))
    return x


def _setting(step: Step) -> tuple[Quadratic, Expr, Expr]:
    """The structure of the objective, the weight of a token and its decay, which are numbers."""
    word, context, memory = step.call.callee.name, step.context, step.memory
    for choice in (step.choices.retention, *step.choices.proximal):
        if choice is not None:
            kind = "retention" if isinstance(choice, tree.Retention) else "proximal"
            reason = f"`{word}` forgets by its own `decay`, and solves for the memory"
            context.fail(DoesNotCombine(choice.span, f"`{kind}`", f"`{word}`", reason))
    if memory.tensors[0].dtype is not DType.REAL:
        context.fail(NoClosedForm(memory.span, memory.name, "the memory is complex"))
    found = quadratic(step.objective.scalar(memory), memory)
    if isinstance(found, str):
        context.fail(NoClosedForm(step.objective.span(step.call.span), memory.name, found))
    rate = step.number("rate")
    decay = ONE if step.call.keyword("decay") is None else step.number("decay")
    if found.curvature.axes:
        reason = f"the entries along `{found.curvature.axes[0]}` weigh differently"
        context.fail(NoClosedForm(step.objective.span(step.call.span), memory.name, reason))
    return found, rate, decay


def _partners(elaborator: RuleElaborator, memory: Memory) -> dict[str, str]:
    """A second name for every axis of a memory's keys, for what has two of each."""
    context = elaborator.context
    for axis in memory.inputs:
        context.sizes.setdefault(f"{axis}.other", context.sizes[axis])
        if axis in context.made_up:
            context.made_up.add(f"{axis}.other")
    return {axis: f"{axis}.other" for axis in memory.inputs}


def _gram(memory: Memory, partner: dict[str, str]) -> State:
    axes: Axes = (*memory.inputs, *partner.values())
    return State(f"{memory.name}.gram", axes, ZERO)


def _same(partner: dict[str, str]) -> Expr:
    """1 where each axis and its partner agree, else 0."""
    return build.product(
        build.where(build.apply("eq", Index(one), Index(other)), ONE, ZERO) for one, other in partner.items()
    )
