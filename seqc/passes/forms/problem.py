"""What a parallel form is asked to do: advance a group of states and answer what is read of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from seqc.ir import build
from seqc.ir.expr import Expr, Leaf
from seqc.ir.plan import Adjoint, Stage
from seqc.ir.recurrence import State
from seqc.passes.forms.kernels import triangular_order
from seqc.passes.forms.stage import StageBuilder
from seqc.passes.linear import Affine, NotAffine, read_affine
from seqc.passes.reads import Query, Read

Build = Callable[[], tuple[Stage, Adjoint]]


@dataclass(frozen=True)
class Problem:
    """A group of states with their updates (over the values before the token) and the reads that the rest needs.

    `block` is how many tokens a form in blocks should take at a time; None: whatever it finds best.
    """

    name: str
    states: Sequence[State]
    updates: Sequence[Expr]
    reads: Sequence[Read]
    sizes: Mapping[str, int]
    block: int | None = None

    @cached_property
    def affine(self) -> Affine | None:
        """The updates as an affine map, or None if they are not one."""
        try:
            return read_affine(self.states, self.updates)
        except NotAffine:
            return None

    @cached_property
    def triangular(self) -> Affine | None:
        """The affine map, or None also where states are coupled both ways."""
        try:
            if self.affine is not None:
                triangular_order(self.affine)
            return self.affine
        except NotAffine:
            return None

    def builder(self, block: int) -> StageBuilder:
        return StageBuilder(self.name, block, self.sizes)


def answers(
    reads: Iterable[Read], lower: Callable[[Expr], Expr], value: Callable[[Query, Sequence[Expr]], Expr]
) -> list[tuple[Leaf, Expr]]:
    """The reads, each a sum of queries; `value` answers one, given its factors at block level by `lower`."""
    found: list[tuple[Leaf, Expr]] = []
    for read in reads:
        parts = [
            build.rename(value(query, [lower(factor) for factor in query.factors]), dict(query.names))
            for query in read.queries
        ]
        found.append((read.leaf, build.total(parts)))
    return found


class SequencesLike(Protocol):
    """States at the tokens of a block, in whatever form."""

    def read(self, state: str, after: bool, query: Sequence[Expr], over: tuple[str, ...]) -> Expr: ...

    def last(self, state: str) -> Expr: ...


def finish(problem: Problem, builder: StageBuilder, sequences: SequencesLike) -> tuple[Stage, Adjoint]:
    """The stage whose states at the tokens are `sequences`."""
    reads = answers(
        problem.reads,
        builder.lift_if_varying,
        lambda q, factors: sequences.read(q.state.name, q.after, factors, q.over),
    )
    return builder.finish(problem.states, [sequences.last(state.name) for state in problem.states], reads)


def weighted(query: Query, factors: Sequence[Expr], whole: Expr) -> Expr:
    """The answer to a query from the state itself."""
    return build.sum_over(query.over, build.product([*factors, whole]))
