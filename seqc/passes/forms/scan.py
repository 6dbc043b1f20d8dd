"""Diagonal states written out token by token: for states that are needed whole at every token."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import Axes, Expr
from seqc.ir.plan import TOKEN
from seqc.passes.forms.kernels import Lift, Sequences, earlier, scanned
from seqc.passes.forms.problem import Build, Problem, finish
from seqc.passes.linear import Affine

MODE = "scan"
BLOCK = 32


def find(problem: Problem) -> Build | None:
    affine = problem.triangular
    if affine is None or affine.rank_ones:
        return None
    block = problem.block or BLOCK
    builder = problem.builder(block)
    return lambda: finish(problem, builder, Written(affine, builder.lift, block, dict(builder.sizes)))


class Written:
    """States written out token by token: the scan form of diagonal groups, for states that are all needed."""

    def __init__(self, affine: Affine, lift: Lift, block: int, sizes: dict[str, int]) -> None:
        self.sequences = Sequences(affine, lift, block, sizes)
        self.block = block
        self._values: dict[str, Expr] = {}
        local = self._local = dict[str, Expr]()
        for name in self.sequences.order:
            source = lift(affine.sources[name], 0.0) if name in affine.sources else ZERO
            for s in self.sequences.feeders(name):
                fed = build.mul(self.sequences.coupling(name, s), earlier(local[s], ZERO))
                source = build.add(source, fed)
            decay = self.sequences.decays[name][0]
            local[name] = scanned(decay, source)
            carried = [
                build.mul(self.sequences.factor(name, c), self.sequences.carry(c))
                for c in self.sequences.order
            ]
            self._values[name] = build.total([*carried, local[name]])

    def read(self, state: str, after: bool, query: Sequence[Expr], over: Axes) -> Expr:
        value = self._values[state] if after else self.before(state)
        return build.sum_over(over, build.mul(build.product(query), value))

    def before(self, state: str) -> Expr:
        return earlier(self._values[state], self.sequences.carry(state))

    def last(self, state: str) -> Expr:
        kept = [self.sequences.kept(state, c) for c in self.sequences.order]
        return build.total([*kept, build.at(self._local[state], TOKEN, self.block - 1)])
