"""Readouts inside stages: an output that is elementwise over what a stage reads of its states becomes its result.

Kernels then write what the rule gives in place of what PyTorch would compute it from.  What else an output needs is an
input of the stage, and so may be computed in its kernels as gates are.

An output that is linear in the reads of a stage needs them on the way back for the cotangents of its other factors
alone.  Other functions need them in every kernel of the way back: there they are taken only where the output has all
axes of the states, so that reads are the states themselves, which these kernels have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

from seqc.ir import build
from seqc.ir.expr import Apply, Const, DType, Expr, Leaf, LeafKind, Reduce
from seqc.ir.plan import Adjoint, Plan, Stage
from seqc.ir.traverse import leaves, substitute, walk
from seqc.passes.forms.stage import StageBuilder, varies

from ..cpu.rewrite import factors_of
from .gates import elementwise

PARTS = frozenset({"neg", "real", "imag"})
SUMMED = frozenset({"add", "sub", "mul", "neg"})
BOUNDED = frozenset(
    {"tanh", "sigmoid", "silu", "relu", "gelu", "gelu_tanh", "abs"}
)  # finite, with finite slopes


def with_outputs(plan: Plan) -> Plan:
    """The same results, outputs inside stages where that gives no stage more results than it had.

    Stages may be in another order: one that gives an output comes after those that the output reads besides.
    """
    if len(plan.stages) != len(plan.adjoints) or any(stage.phase or stage.newton for stage in plan.stages):
        return plan
    for name in [stage.name for stage in reversed(plan.stages) if stage.block > 1]:
        plan = _inside(plan, name)
    return plan


def _inside(plan: Plan, name: str) -> Plan:
    (k,) = (k for k, stage in enumerate(plan.stages) if stage.name == name)
    before = plan.stages[k]
    readout = _Readout(before)
    values = [(x, readout.value(x)) for x in dict.fromkeys(plan.outputs)]
    found = {x: value for x, value in values if value is not None}
    given = {x: Leaf(LeafKind.READ, f"{name}.out{j}", x.axes, x.dtype) for j, x in enumerate(found)}
    outputs = substitute(plan.outputs, given)
    others = [item.value for stage in plan.stages for item in stage.inputs]
    used = leaves([*outputs, *others])
    reads = [(leaf, value) for leaf, value in readout.reads.items() if leaf in used]
    reads += [(leaf, found[x]) for x, leaf in given.items()]
    if not found or _numbers(before, [leaf for leaf, _ in reads]) > _numbers(before, readout.reads):
        return plan
    stage, adjoint = readout.stage(reads)
    stages, adjoints = list(plan.stages), list(plan.adjoints)
    stages[k], adjoints[k] = stage, adjoint
    order = _order(stages)
    if len(order) < len(stages):
        return plan
    return replace(
        plan,
        stages=tuple(stages[j] for j in order),
        adjoints=tuple(adjoints[j] for j in order),
        outputs=outputs,
    )


class _Readout:
    """The expressions of a stage, and `builder` with what its outputs need besides."""

    def __init__(self, stage: Stage) -> None:
        known = dict[Expr, Expr](stage.pre)
        inputs = {(x.value, x.padding, x.constant): x for x in stage.inputs}
        self.builder = StageBuilder(stage.name, stage.block, stage.sizes, inputs)
        self.updates = substitute(stage.updates, known)
        values = substitute([read.value for read in stage.reads], known)
        self.reads = dict(zip([read.leaf for read in stage.reads], values, strict=True))
        self.carried = stage.carried

    def stage(self, reads: Sequence[tuple[Leaf, Expr]]) -> tuple[Stage, Adjoint]:
        used = leaves([*self.updates, *(value for _, value in reads)])
        self.builder.inputs = {key: item for key, item in self.builder.inputs.items() if item.leaf in used}
        return self.builder.finish(self.carried, self.updates, reads)

    def value(self, output: Expr) -> Expr | None:
        """An output over the leaves of the stage, if it can be a result: with the axes that one of its reads has."""
        own = [{*leaf.axes} for leaf in leaves([output]) if leaf in self.reads]
        if {*output.axes} not in own or output in self.reads or output.dtype is not DType.REAL:
            return None
        return self._over(output, all({*state.axes} <= {*output.axes} for state in self.carried))

    def _over(self, node: Expr, every: bool) -> Expr | None:
        """`node` where it is linear in the reads, or with `every` made of bounded functions and products of them."""
        if node in self.reads:
            return self.reads[node]
        if not self._reads(node):
            return self._part(node, 0.0)
        match node:
            case Apply(op="add" | "sub"):
                args = [self._over(x, every) for x in node.args]
            case Apply(op="mul", args=(x, y)) if every or not (self._reads(x) and self._reads(y)):
                args = [self._over(x, every), self._over(y, every)]
            case Apply(op="div", args=(x, y)) if not self._reads(y):
                args = [self._over(x, every), self._part(y, 1.0)]
            case Apply() if node.op in PARTS or (every and node.op in BOUNDED):
                args = [self._over(node.args[0], every)]
            case _:
                return None
        known = [x for x in args if x is not None]
        return build.apply(node.op, *known) if len(known) == len(args) else None

    def _reads(self, node: Expr) -> bool:
        return not self.reads.keys().isdisjoint(leaves([node]))

    def _part(self, node: Expr, padding: float) -> Expr | None:
        """What does not depend on the states: computed elementwise as an input, or from inputs in the stage."""
        if elementwise(node):
            return self.builder.lift_if_varying(node, padding if varies(node) else 0.0)
        match node:
            case Apply() if node.op in SUMMED:
                args = [self._part(x, 0.0) for x in node.args]
                known = [x for x in args if x is not None]
                return build.apply(node.op, *known) if len(known) == len(args) else None
            case Reduce(op="sum"):
                return self._sum(node)
            case _:
                return None

    def _sum(self, node: Reduce) -> Expr | None:
        """A sum of products of leaves, without more entries a token than an input of the stage has."""
        plain = all(
            isinstance(x, Leaf | Const) or (isinstance(x, Apply) and x.op in SUMMED) for x in walk([node.arg])
        )
        if not plain or any(x.dtype is not DType.REAL for x in leaves([node])):
            return None
        factors = factors_of(node.arg)
        apart = [x for x in factors if not {*x.axes} & {*node.over}]
        inside = build.product(x for x in factors if x not in apart)
        if not any({*inside.axes} <= {*item.leaf.axes} for item in self.builder.inputs.values()):
            return None
        value = build.mul(build.product(apart), build.sum_over(node.over, inside))
        known = {x: self.builder.lift_if_varying(x) for x in leaves([node])}
        return substitute([value], known)[0]


def _numbers(stage: Stage, results: Iterable[Leaf]) -> int:
    """How many numbers a stage gives for a token."""
    return sum(prod(stage.sizes[axis] for axis in x.axes) * (1 + (x.dtype is DType.COMPLEX)) for x in results)


def _order(stages: Sequence[Stage]) -> list[int]:
    """An order in which stages come after those that they read; those that wait for one another are left out."""
    owner = {read.leaf: k for k, stage in enumerate(stages) for read in stage.reads}
    needs = [
        {owner[leaf] for leaf in leaves([item.value for item in stage.inputs]) if leaf in owner}
        for stage in stages
    ]
    order, left = list[int](), list(range(len(stages)))
    while ready := [k for k in left if needs[k] <= {*order}]:
        order.append(ready[0])
        left.remove(ready[0])
    return order
