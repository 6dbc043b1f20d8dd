"""States that only add up: positions, and sums over all tokens so far, as one `CumSum` over the sequence.

A reset makes such a state begin anew, for which there is no single operator: where a call has one, the graph takes the
stage's own nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import DType, Expr, Leaf
from seqc.ir.plan import RESET, Plan, Stage
from seqc.ir.recurrence import State
from seqc.passes.forms.problem import Problem
from seqc.passes.linear import NotAffine, read_affine
from seqc.passes.schedule import problems

from .control import branch
from .lower import Lowering
from .native import without_reset
from .pairs import Number
from .stages import StageRunner, run_stage
from .tensors import BATCH, TIME, Space, Tensor


@dataclass(frozen=True, slots=True)
class Sum:
    """`S' = S + source`; each read is the state after the token or before it."""

    state: State
    source: Expr
    reads: tuple[tuple[Leaf, bool], ...]


def find_sums(plan: Plan) -> dict[str, StageRunner]:
    """How to run the stages that are sums, by name."""
    if not plan.stages:
        return {}
    found = {problem.name: _match(problem) for problem in problems(plan.recurrence).problems}
    runners: dict[str, StageRunner] = {}
    for stage in plan.stages:
        total = found.get(stage.name)
        if total is not None and _fits(stage, total):
            runners[stage.name] = _runner(total)
    return runners


def _fits(stage: Stage, total: Sum) -> bool:
    leaves = [leaf for leaf, _ in total.reads]
    return stage.carried == (total.state,) and [read.leaf for read in stage.reads] == leaves


def _match(problem: Problem) -> Sum | None:
    if len(problem.states) != 1 or problem.states[0].dtype is not DType.REAL:
        return None
    state = problem.states[0]
    queries = [(read.leaf, query) for read in problem.reads for query in read.queries]
    if len(queries) != len(problem.reads) or any(not q.whole or q.factors or q.names for _, q in queries):
        return None
    try:
        affine = read_affine([state], without_reset(state, problem.updates))
    except NotAffine:
        return None
    if affine.rank_ones or affine.decay(state) is not ONE or len(affine.diagonal) != 1:
        return None
    source = affine.sources.get(state.name)
    reads = tuple((leaf, query.after) for leaf, query in queries)
    return Sum(state, ZERO if source is None else source, reads)


def _runner(total: Sum) -> StageRunner:
    def run(token: Lowering, stage: Stage, initial: Sequence[Number]) -> dict[str, Number]:
        (before,) = initial
        source, reset = token.real(total.source), token.env[RESET]
        assert isinstance(before, Tensor)
        assert isinstance(reset, Tensor)

        def slow(space: Space) -> list[Tensor]:
            inner = Lowering(space, token.env)
            final = run_stage(inner, stage, initial)[total.state.name]
            return _whole(space, total, [inner.real(leaf) for leaf, _ in total.reads], final)

        def fast(space: Space) -> list[Tensor]:
            sums = {
                after: space.elementwise("Add", _sum(space, source, after), before) for after in (True, False)
            }
            final = space.entry(sums[True], TIME, -1)
            return _whole(space, total, [sums[after] for _, after in total.reads], final)

        results = branch(token.space, reset, slow, fast) if reset.axes else fast(token.space)
        token.env.update(zip((leaf for leaf, _ in total.reads), results, strict=False))
        return {total.state.name: results[-1]}

    return run


def _sum(space: Space, source: Tensor, after: bool) -> Tensor:
    """The sum over the tokens up to each, itself included if `after`."""
    if TIME not in source.axes:
        count = space.cast(space.positions(TIME), DType.REAL)
        return space.mul(space.elementwise("Add", count, space.number(1)) if after else count, source)
    if source.axes[-1] == TIME and len(source.axes) > 1:
        source = space.transpose(source, (TIME, *source.axes[:-1]))
    place = space.builder.constant(source.axes.index(TIME), "int64")
    value = space.builder.op("CumSum", source.value, place, exclusive=int(not after))
    return Tensor(value, source.axes)


def _whole(space: Space, total: Sum, reads: Sequence[Tensor], final: Number) -> list[Tensor]:
    assert isinstance(final, Tensor)
    axes = total.state.axes
    return [*(space.expand(x, (BATCH, TIME, *axes)) for x in reads), space.expand(final, (BATCH, *axes))]
