"""One token a step, with all that does not depend on the states computed beforehand for all tokens."""

from __future__ import annotations

from seqc.ir.expr import Expr
from seqc.ir.plan import Adjoint, Stage
from seqc.ir.traverse import leaves, substitute
from seqc.passes.forms.problem import Build, Problem, answers, weighted
from seqc.passes.forms.stage import hoist

MODE = "loop"


def find(problem: Problem) -> Build | None:
    return lambda: _stage(problem)


def _stage(problem: Problem) -> tuple[Stage, Adjoint]:
    builder = problem.builder(1)
    states: list[Expr] = [state.leaf for state in problem.states]
    mapping: dict[Expr, Expr] = {
        value: builder.lift_if_varying(value) for _, value in hoist(problem.updates, states, problem.name)
    }
    lifted = set(mapping.values())
    for leaf in leaves(substitute(problem.updates, mapping)):
        if leaf not in lifted and leaf not in states:
            mapping[leaf] = builder.lift_if_varying(leaf)
    updates = substitute(problem.updates, mapping)
    after = dict(zip((state.name for state in problem.states), updates, strict=True))
    reads = answers(
        problem.reads,
        builder.lift_if_varying,
        lambda q, factors: weighted(q, factors, after[q.state.name] if q.after else q.state.leaf),
    )
    return builder.finish(problem.states, updates, reads)
