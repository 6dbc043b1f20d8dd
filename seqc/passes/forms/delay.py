"""States that only remember the last token: a shift of the sequence."""

from __future__ import annotations

from seqc.passes.forms.problem import Build, Problem, finish
from seqc.passes.forms.scan import Written

MODE = "scan"
WHOLE = 0  # one block as long as the sequence


def find(problem: Problem) -> Build | None:
    affine = problem.affine
    if affine is None or affine.diagonal or affine.rank_ones:
        return None
    builder = problem.builder(WHOLE)
    return lambda: finish(problem, builder, Written(affine, builder.lift, WHOLE, dict(builder.sizes)))
