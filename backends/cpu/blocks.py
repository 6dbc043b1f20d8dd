"""A block of tokens as one step: the chunk form of `seqc.passes.forms.chunk`, over as few tokens as a tile has.

What a block computes is a recurrence too, whose inputs and outputs have the axis `TOKEN`; its reverse is derived like
that of a token.  Decays are products of the gates themselves: no logarithm is taken and nothing is divided, so that
gates may be 0 or of either sign.  Resets and padding are unknown here: a block that is not whole, or within which
states begin anew, is taken token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seqc.ir.build import ONE
from seqc.ir.expr import DType, Expr, Leaf
from seqc.ir.plan import BETWEEN, OTHER, TOKEN
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import substitute, walk
from seqc.passes.forms.chunk import chunk_shape
from seqc.passes.forms.kernels import Sequences
from seqc.passes.forms.problem import Problem, answers
from seqc.passes.reads import Query
from seqc.passes.schedule import Unschedulable, problems

from .runtime.cost import BLOCK


class _Products(Sequences):
    """States at the tokens of a block, decayed by products of gates."""

    def _decay(self, decay: Expr) -> tuple[Expr, Expr | None]:
        return (decay if decay is ONE else self.lift(decay, 1.0)), None


def blocked(recurrence: Recurrence) -> Recurrence | None:
    """The recurrence over blocks of `BLOCK` tokens, or None where that is not products of matrices."""
    if not recurrence.states or any(
        node.dtype is DType.COMPLEX for node in walk([*recurrence.updates, *recurrence.outputs])
    ):
        return None
    try:
        split = problems(recurrence, resets=False)
    except Unschedulable:
        return None
    sizes = {**recurrence.sizes, TOKEN: BLOCK, OTHER: BLOCK, BETWEEN: BLOCK}
    known: dict[Expr, Expr] = {leaf: _of_tokens(leaf) for leaf in recurrence.inputs}
    after: dict[str, Expr] = {}
    for problem in split.problems:
        if not _solve(problem, known, after, sizes):
            return None
    return replace(
        recurrence,
        inputs=tuple(_of_tokens(leaf) for leaf in recurrence.inputs),
        updates=tuple(after[state.name] for state in recurrence.states),
        outputs=substitute(split.tail, known),
        returns=tuple((TOKEN, *axes) for axes in recurrence.returns),
        sizes=sizes,
        names=(),
    )


def _of_tokens(leaf: Leaf) -> Leaf:
    return Leaf(leaf.kind, leaf.name, (TOKEN, *leaf.axes), leaf.number)


def _solve(problem: Problem, known: dict[Expr, Expr], after: dict[str, Expr], sizes: dict[str, int]) -> bool:
    """Add what a group's states are `after` the block, and what is read of them to what is `known`."""
    affine = problem.triangular
    shape = None if affine is None else chunk_shape(affine, problem.reads, problem.sizes)
    if affine is None or shape is None:
        return False

    def lifted(value: Expr, _: float = 0.0) -> Expr:
        return substitute([value], known)[0]

    sequences = _Products(affine, lifted, BLOCK, sizes)
    for target, pairs in shape.sources.items():
        for key, value in pairs:
            sequences.write(target, key, value, shape.keys)

    def answer(query: Query, factors: Sequence[Expr]) -> Expr:
        return sequences.read(query.state.name, query.after, factors, query.over)

    known |= dict(answers(problem.reads, lifted, answer))
    after |= {state.name: sequences.last(state.name) for state in problem.states}
    return True
