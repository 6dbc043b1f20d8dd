"""Nonlinear states at all tokens at once: Newton's iteration, each step of which is a scan (DEER, ParaRNN).

Where states of one shape meet elementwise functions only, the Jacobian is a small matrix for every entry (one number
for one state, 2 by 2 for a cell and its output), and a few iterations give what the loop gives.  Otherwise its diagonal
is taken for it (quasi-DEER, arXiv 2407.19115): more iterations, the same result, for only the updates themselves decide
when it is reached.
"""

from __future__ import annotations

from dataclasses import replace

from seqc.ir.build import ZERO
from seqc.ir.expr import Apply, DType, Reduce, Rename
from seqc.ir.plan import Adjoint, Newton, Stage
from seqc.ir.traverse import children, depends_on, walk
from seqc.passes.canonical import arguments
from seqc.passes.forms import loop, max_plus, scan
from seqc.passes.forms.kernels import size_of
from seqc.passes.forms.problem import Build, Problem
from seqc.passes.forms.stage import varies
from seqc.passes.jacobian import entrywise, is_entrywise
from seqc.passes.linear import NotAffine, linear_form

MODE = "newton"
LIMIT = 16  # iterations, each of which squares the error: ParaRNN does with 3
APPROXIMATE_LIMIT = 64  # iterations, each of which takes a share of the error
TOLERANCE = 8  # roundings
BLOCK = 4  # the most states whose common Jacobian is inverted whole


def find(problem: Problem) -> Build | None:
    states = problem.states
    if any(s.dtype is not DType.REAL or set(s.axes) != set(states[0].axes) for s in states):
        return None
    sources = [state.leaf for state in states]
    exact = len(states) <= BLOCK and is_entrywise(problem.updates, sources)
    if not exact and not (_has_fixed_matrices(problem) and _is_nonlinear(problem)):
        return None
    if _has_a_better_form(problem):
        return None
    sequential = loop.find(problem)
    return None if sequential is None else lambda: _stage(problem, exact, sequential)


def _has_a_better_form(problem: Problem) -> bool:
    return scan.find(problem) is not None or max_plus.find(problem) is not None


def _has_fixed_matrices(problem: Problem) -> bool:
    """Whether entries meet in products with parameters only, as in cells with recurrent weights.

    A memory that a token's key reads, or that is multiplied by itself, is far from its diagonal.
    """
    dependent = depends_on(problem.updates, [state.leaf for state in problem.states])
    for node in walk(problem.updates):
        if node not in dependent or not children(node) or isinstance(node, Apply | Rename):
            continue
        if not (isinstance(node, Reduce) and node.op == "sum"):
            return False
        moving = [part for part in arguments("mul", node.arg) if part in dependent]
        fixed = [part for part in arguments("mul", node.arg) if part not in dependent]
        if any(map(varies, fixed)) or len({frozenset(part.axes) for part in moving}) != 1:
            return False
    return True


def _is_nonlinear(problem: Problem) -> bool:
    """Whether the updates are no linear map of the states at all, not even one with a dense matrix."""
    try:
        for update in problem.updates:
            linear_form(update, [state.leaf for state in problem.states])
    except NotAffine:
        return True
    return False


def _stage(problem: Problem, exact: bool, sequential: Build) -> tuple[Stage, Adjoint]:
    """The loop, with the derivatives of its updates."""
    stage, adjoint = sequential()
    updates = dict(zip(stage.carried, stage.updates, strict=True))
    paired = len(stage.carried) <= BLOCK
    slopes = tuple(
        (target, source, slope)
        for target, update in updates.items()
        for source in stage.carried
        if (paired or source is target) and (slope := entrywise(update, source.leaf)) is not ZERO
    )
    axes = {axis for node in walk([slope for _, _, slope in slopes]) for axis in node.axes}
    sizes = {**stage.sizes, **{axis: size_of(axis, stage.sizes) for axis in sorted(axes)}}
    newton = Newton(slopes, exact, LIMIT if exact else APPROXIMATE_LIMIT, TOLERANCE)
    return replace(stage, sizes=sizes, newton=newton), adjoint
