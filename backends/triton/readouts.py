"""Readouts through matrices of parameters, taken out of the stages that scan.

A stage that contracts its states with such a matrix mixes all channels in every block.  With the states as its result
no channel needs another one, so that programs share them, and PyTorch multiplies all tokens at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from seqc.ir import build
from seqc.ir.expr import Axes, Expr, Leaf, LeafKind, Reduce
from seqc.ir.plan import TOKEN, Adjoint, Plan, Stage, StageRead
from seqc.ir.traverse import leaves, substitute
from seqc.passes.forms.stage import StageBuilder

from ..cpu.rewrite import factors_of


def with_whole_reads(plan: Plan) -> Plan:
    """The same results; stages that scan give the states that a matrix of parameters reads."""
    if plan.mode != "scan":
        return plan
    outside = dict[Expr, Expr]()
    stages, adjoints = list[Stage](), list[Adjoint]()
    for stage, adjoint in zip(plan.stages, plan.adjoints, strict=True):
        items = substitute([item.value for item in stage.inputs], outside)
        inputs = tuple(replace(item, value=x) for item, x in zip(stage.inputs, items, strict=True))
        found, back = _whole(replace(stage, inputs=inputs), adjoint, outside)
        stages.append(found)
        adjoints.append(back)
    if not outside:
        return plan
    outputs = substitute(plan.outputs, outside)
    return replace(plan, stages=tuple(stages), adjoints=tuple(adjoints), outputs=outputs)


def _whole(stage: Stage, adjoint: Adjoint, outside: dict[Expr, Expr]) -> tuple[Stage, Adjoint]:
    """The stage with the states as results; `outside` takes what reads them, by what it was called."""
    known: dict[Expr, Expr] = dict(stage.pre)
    shared: dict[Expr, Expr] = {item.leaf: item.value for item in stage.inputs if item.constant}
    reads = dict[Expr, StageRead]()
    for read in stage.reads:
        value = substitute([read.value], known)[0]
        split = _split(value, shared)
        if split is None:
            leaf = reads.setdefault(value, replace(read, value=value)).leaf
            outside |= {read.leaf: leaf} if leaf is not read.leaf else {}
            continue
        matrix, state, over = split
        axes = tuple(axis for axis in state.axes if axis != TOKEN)
        whole = Leaf(LeafKind.READ, f"{read.leaf.name}.whole", axes, state.dtype)
        leaf = reads.setdefault(state, StageRead(whole, state)).leaf
        outside[read.leaf] = build.sum_over(over, build.mul(matrix, leaf))
    if all(read.leaf not in outside for read in stage.reads):
        return stage, adjoint
    updates = substitute(stage.updates, known)
    used = leaves([*updates, *reads])
    inputs = {(x.value, x.padding, x.constant): x for x in stage.inputs if x.leaf in used}
    builder = StageBuilder(stage.name, stage.block, stage.sizes, inputs)
    return builder.finish(stage.carried, updates, [(read.leaf, read.value) for read in reads.values()])


def _split(value: Expr, shared: Mapping[Expr, Expr]) -> tuple[Expr, Expr, Axes] | None:
    """A matrix at token level that leads to other axes, the states that it reads, and the axes of the sum."""
    if not (isinstance(value, Reduce) and value.op == "sum"):
        return None
    factors = factors_of(value.arg)
    fixed = [x for x in factors if leaves([x]) and leaves([x]) <= shared.keys()]
    state = build.product(x for x in factors if x not in fixed)
    matrix = build.product(substitute(fixed, shared))
    leads = {*matrix.axes} - {*state.axes}
    return (matrix, state, value.over) if leads and {*value.over} <= {*state.axes} else None
