"""Maxima of a shifted past and an input (the stabilisers of exponential gates)."""

from __future__ import annotations

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, Const, Expr, Index, Reduce, Scan
from seqc.ir.plan import OTHER, TOKEN, Adjoint, Stage
from seqc.ir.recurrence import State
from seqc.ir.traverse import depends_on
from seqc.passes.forms.chunk import SCALAR_BLOCK, VECTOR_BLOCK
from seqc.passes.forms.kernels import earlier
from seqc.passes.forms.problem import Build, Problem, answers, weighted
from seqc.passes.linear import NotAffine, read_affine

MODE = "scan"
LOWEST = Const(-3.0e38)


def find(problem: Problem) -> Build | None:
    if len(problem.states) != 1:
        return None
    form = max_plus_form(problem.states[0], problem.updates[0])
    return None if form is None else lambda: _stage(problem, *form)


def _stage(problem: Problem, shift: Expr, floor: Expr) -> tuple[Stage, Adjoint]:
    """`m[i] = max(Σ_{l≤i} f_l + m_c, max_{j≤i} (Σ_{j<l≤i} f_l + floor_j))`, the sums masked and never subtracted."""
    (state,) = problem.states
    block = problem.block or (VECTOR_BLOCK if state.axes else SCALAR_BLOCK)
    builder = problem.builder(block)
    shift = shift if shift is ZERO else builder.lift(shift, 0.0)
    floor = builder.lift(floor, LOWEST.value)
    later = build.apply("gt", Index(TOKEN), Index(OTHER))
    between = ZERO if shift is ZERO else Scan(ONE, build.where(later, shift, ZERO), TOKEN)
    known = build.apply("ge", Index(TOKEN), Index(OTHER))
    entries = build.where(known, build.add(between, build.rename(floor, {TOKEN: OTHER})), LOWEST)
    carried = build.add(state.leaf, ZERO if shift is ZERO else Scan(ONE, shift, TOKEN))
    value = build.apply("max", carried, Reduce("max", (OTHER,), entries))
    before = earlier(value, state.leaf)
    reads = answers(
        problem.reads,
        builder.lift_if_varying,
        lambda q, factors: weighted(q, factors, value if q.after else before),
    )
    return builder.finish([state], [build.at(value, TOKEN, block - 1)], reads)


def max_plus_form(state: State, update: Expr) -> tuple[Expr, Expr] | None:
    """`(f, i)` with `state' = max(f + state, i)`, or None."""
    shifts: list[Expr] = []
    floors: list[Expr] = []
    stack = [update]
    dependent = depends_on([update], [state.leaf])
    while stack:
        node = stack.pop()
        if node not in dependent:
            floors.append(node)
        elif isinstance(node, Apply) and node.op == "max":
            stack.extend(node.args)
        else:
            try:
                affine = read_affine([state], [node])
            except NotAffine:
                return None
            if affine.rank_ones or not _unit(affine.decay(state)):
                return None
            shift = affine.sources.get(state.name, ZERO)
            decay = affine.decay(state)
            if isinstance(
                decay, Apply
            ):  # where a reset cuts the past off, the shifted initial value is a floor
                floors.append(build.where(decay.args[0], shift, LOWEST))
                shift = build.where(decay.args[0], LOWEST, shift)
            shifts.append(shift)
    if len(shifts) != 1 or not floors:
        return None
    floor = floors[0]
    for other in floors[1:]:
        floor = build.apply("max", floor, other)
    return shifts[0], floor


def _unit(decay: Expr) -> bool:
    """Whether a coefficient is 1, or 1 except where a reset cuts the past off."""
    if isinstance(decay, Const):
        return decay.value == 1.0
    return isinstance(decay, Apply) and decay.op == "where" and decay.args[1:] == (ZERO, Const(1.0))
