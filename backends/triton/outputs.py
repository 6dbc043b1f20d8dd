"""Readouts inside stages: an output that is elementwise over what a stage reads of its states becomes its result.

Kernels then write what the rule gives in place of what PyTorch would compute it from.  What else an output needs is an
input of the stage, and so may be computed in its kernels as gates are.

An output that is linear in the reads of a stage needs them on the way back for the cotangents of its other factors
alone.  Other functions need them in every kernel of the way back, which for a matrix state are products of matrices:
they are taken only where the output has all axes of the states.  Tokens after the last of a sequence must not give what
is not finite, since blocks sum over them with cotangents of 0: what divides is 1 there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from math import prod

from seqc.ir import build
from seqc.ir.build import ONE
from seqc.ir.expr import Apply, Const, DType, Expr, Leaf, LeafKind, Reduce
from seqc.ir.plan import Adjoint, Plan, Stage
from seqc.ir.traverse import leaves, substitute, walk
from seqc.passes.forms.stage import StageBuilder, varies

from ..cpu.rewrite import factors_of
from .gates import elementwise

LINEAR = frozenset({"add", "sub", "neg", "real", "imag"})
# At any number, as are their slopes.
FINITE = frozenset({"mul", "tanh", "sigmoid", "silu", "relu", "gelu", "gelu_tanh", "abs"})
SUMMED = frozenset({"add", "sub", "mul", "neg"})


def with_outputs(plan: Plan) -> Plan:
    """The same results, outputs inside stages where that gives no stage more results than it had.

    Stages may be in another order: one that gives an output comes after those that the output reads besides.
    """
    apart = any(stage.phase is not None or stage.newton is not None for stage in plan.stages)
    if apart or plan.recurrence.stores or len(plan.stages) != len(plan.adjoints):
        return plan
    for name in [stage.name for stage in reversed(plan.stages) if stage.block > 1]:
        plan = _inside(plan, name)
    return plan


def _inside(plan: Plan, name: str) -> Plan:
    """The plan with the outputs inside a stage that it can give."""
    (k,) = (k for k, stage in enumerate(plan.stages) if stage.name == name)
    before = plan.stages[k]
    readout = _Readout(before)
    values = [(x, readout.value(x)) for x in dict.fromkeys(plan.outputs)]
    found = {x: value for x, value in values if value is not None}
    given = {x: Leaf(LeafKind.READ, f"{name}.out{j}", x.axes, x.dtype) for j, x in enumerate(found)}
    outputs = substitute(plan.outputs, given)
    others = [item.value for stage in plan.stages for item in stage.inputs]
    used = leaves([*outputs, *others])
    reads = [(leaf, readout.reads[leaf]) for leaf in readout.results if leaf in used]
    reads += [(leaf, found[x]) for x, leaf in given.items()]
    if not found or _numbers(before, [leaf for leaf, _ in reads]) > _numbers(before, readout.results):
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
    """The expressions of a stage without `pre`; `builder` takes what outputs need besides."""

    def __init__(self, stage: Stage) -> None:
        known = dict[Expr, Expr](stage.pre)
        inputs = {(x.value, x.padding, x.constant): x for x in stage.inputs}
        self.builder = StageBuilder(stage.name, stage.block, stage.sizes, inputs)
        self.updates = substitute(stage.updates, known)
        values = substitute([read.value for read in stage.reads], known)
        self.results = [read.leaf for read in stage.reads]
        self.reads = dict[Expr, Expr](zip(self.results, values, strict=True))
        self.carried = stage.carried
        self.seen = dict[tuple[Expr, frozenset[str]], Expr | None]()
        self.parts = dict[tuple[Expr, frozenset[str], float], Expr | None]()

    def stage(self, reads: Sequence[tuple[Leaf, Expr]]) -> tuple[Stage, Adjoint]:
        """The stage with these results, and its derivative."""
        used = leaves([*self.updates, *(value for _, value in reads)])
        self.builder.inputs = {key: item for key, item in self.builder.inputs.items() if item.leaf in used}
        return self.builder.finish(self.carried, self.updates, reads)

    def value(self, output: Expr) -> Expr | None:
        """An output over the leaves of the stage, if it can be a result: with the axes that one of its reads has."""
        own = [{*leaf.axes} for leaf in leaves([output]) if leaf in self.reads]
        if {*output.axes} not in own or output in self.reads or output.dtype is not DType.REAL:
            return None
        return self._over(output, {*output.axes})

    def _over(self, node: Expr, axes: Set[str]) -> Expr | None:
        if (key := (node, frozenset(axes))) not in self.seen:
            self.seen[key] = self._found(node, axes)
        return self.seen[key]

    def _found(self, node: Expr, axes: Set[str]) -> Expr | None:
        """`node` where it is linear in the reads; with all axes of the states also products and finite functions."""
        if node in self.reads:
            return self.reads[node]
        if not self._reads(node):
            return self._part(node, axes)
        core, factor, divisor = self._scaled(node)
        if core is not node:
            if not isinstance(factor, Const):
                return _applied("mul", [self._over(core, axes), self._part(build.div(factor, divisor), axes)])
            scaled = _applied("mul", [factor, self._over(core, axes)])
            return _applied("div", [scaled, self._part(divisor, axes, 1.0)])
        every = all({*state.axes} <= axes for state in self.carried)
        match node:
            case Apply() if node.op in LINEAR or (every and node.op in FINITE):
                return _applied(node.op, [self._over(x, axes) for x in node.args])
            case _:
                return None

    def _scaled(self, node: Expr) -> tuple[Expr, Expr, Expr]:
        """A product as what depends on the reads, the other factors, and what divides."""
        match node:
            case Apply(op="mul", args=(x, y)) if self._reads(x) != self._reads(y):
                core, factor, divisor = self._scaled(x if self._reads(x) else y)
                return core, build.mul(factor, y if self._reads(x) else x), divisor
            case Apply(op="div", args=(x, y)) if not self._reads(y):
                core, factor, divisor = self._scaled(x)
                return core, factor, build.mul(divisor, y)
            case _:
                return node, ONE, ONE

    def _reads(self, node: Expr) -> bool:
        return not self.reads.keys().isdisjoint(leaves([node]))

    def _part(self, node: Expr, axes: Set[str], padding: float = 0.0) -> Expr | None:
        if (key := (node, frozenset(axes), padding)) not in self.parts:
            self.parts[key] = self._apart(node, axes, padding)
        return self.parts[key]

    def _apart(self, node: Expr, axes: Set[str], padding: float) -> Expr | None:
        """What does not depend on the states: sums of inputs, or an input.

        An input is computed elementwise or has fewer axes than the output.  After the last token it is `padding`.
        """
        if elementwise(node):
            return self._lifted(node, padding)
        found = None
        if isinstance(node, Apply) and node.op in SUMMED and not padding:
            found = _applied(node.op, [self._part(x, axes) for x in node.args])
        if isinstance(node, Reduce) and node.op == "sum" and not padding:
            found = self._sum(node)
        small = node.dtype is DType.REAL and {*node.axes} < axes
        return self._lifted(node, padding) if found is None and small else found

    def _lifted(self, node: Expr, padding: float) -> Expr:
        return self.builder.lift_if_varying(node, padding if varies(node) else 0.0)

    def _sum(self, node: Reduce) -> Expr | None:
        """A sum of products of leaves, whose terms have no more entries a token than an input of the stage."""
        if not all(_polynomial(x) for x in walk([node.arg])):
            return None
        factors = factors_of(node.arg)
        apart = [x for x in factors if not {*x.axes} & {*node.over}]
        inside = build.product(x for x in factors if x not in apart)
        if not any({*inside.axes} <= {*item.leaf.axes} for item in self.builder.inputs.values()):
            return None
        value = build.mul(build.product(apart), build.sum_over(node.over, inside))
        known = dict[Expr, Expr]((x, self._lifted(x, 0.0)) for x in leaves([node]))
        return substitute([value], known)[0]


def _applied(op: str, args: Sequence[Expr | None]) -> Expr | None:
    """An operation, if all its arguments are known."""
    known = [x for x in args if x is not None]
    return build.apply(op, *known) if len(known) == len(args) else None


def _polynomial(node: Expr) -> bool:
    if isinstance(node, Leaf):
        return node.dtype is DType.REAL
    return isinstance(node, Const) or (isinstance(node, Apply) and node.op in SUMMED)


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
