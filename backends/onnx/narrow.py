"""Narrowing what goes into a stage and what comes out of it.

A state with many axes (Mamba's `h[d, s]`) is often made of narrow inputs (`exp(-dt * a)` of `dt[d]`) and read by a sum
(`Σ_s h · c`).  Written out for all tokens, the wide tensors between are many times as large as inputs and outputs
together, so this pass moves both into the stage: what is wide then exists for one block at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, Const, DType, Expr, Leaf, LeafKind, Reduce
from seqc.ir.plan import RESET, TOKEN, Plan, Stage, StageInput, StageRead
from seqc.ir.traverse import children, leaves, substitute, walk

WIDE = 2  # how many times as large as what it is made of a value has to be


def narrow(plan: Plan) -> Plan:
    """The plan with narrow stages."""
    stages, outputs = list(plan.stages), plan.outputs
    known: set[Expr] = set()  # the reads of the stages before
    for place, stage in enumerate(stages):
        if stage.block == 0:
            known |= {read.leaf for read in stage.reads}
            continue
        work = _Narrowing(stage, known)
        work.inputs()
        later = [item.value for other in stages[place + 1 :] for item in other.inputs]
        swaps = work.reads([*outputs, *later])
        outputs = substitute(outputs, swaps)
        stages[place + 1 :] = [_with_values(other, swaps) for other in stages[place + 1 :]]
        later = [item.value for other in stages[place + 1 :] for item in other.inputs]
        stages[place] = work.finish([*outputs, *later])
        known |= {read.leaf for read in stages[place].reads}
    return replace(plan, stages=tuple(stages), outputs=outputs)


def _divisors(expr: Expr) -> list[Expr]:
    """What may not be 0 in an expression: simplified, 0 · (0 / 0) is 0, but the number is none."""
    found: list[Expr] = []
    for node in walk([expr]):
        match node:
            case Apply(op="div", args=(_, divisor)) | Apply(op="log", args=(divisor,)):
                found.append(divisor)
            case Apply(op="pow", args=(base, exponent)):
                if not (isinstance(exponent, Const) and exponent.value > 0):
                    found.append(base)
            case _:
                pass
    return found


def _with_values(stage: Stage, swaps: Mapping[Expr, Expr]) -> Stage:
    values = substitute([item.value for item in stage.inputs], swaps)
    return replace(
        stage, inputs=tuple(replace(item, value=v) for item, v in zip(stage.inputs, values, strict=True))
    )


@dataclass(slots=True)
class _Narrowing:
    """The work on one stage; `known` are the reads of earlier ones."""

    stage: Stage
    known: set[Expr]
    taken: dict[Expr, tuple[StageInput, Expr]] = field(default_factory=dict[Expr, tuple[StageInput, Expr]])
    kept: list[StageInput] = field(default_factory=list[StageInput])
    pre: list[tuple[Leaf, Expr]] = field(default_factory=list[tuple[Leaf, Expr]])
    added: list[StageRead] = field(default_factory=list[StageRead])

    def _volume(self, expr: Expr) -> int:
        return math.prod(self.stage.sizes.get(a, 16) for a in expr.axes)

    # --- inputs -----------------------------------------------------------------------------------------------

    def inputs(self) -> None:
        """Move wide inputs that follow from narrow leaves into the stage."""
        for item in self.stage.inputs:
            if item.constant or not self._is_wide(item):
                self.kept.append(item)
            else:
                (value,) = self.in_block([item.value])
                self.pre.append((item.leaf, value))

    def _is_wide(self, item: StageInput) -> bool:
        moving = [leaf for leaf in leaves([item.value]) if leaf.kind is not LeafKind.PARAM]
        if not moving or any(leaf.dtype is not DType.REAL and leaf is not RESET for leaf in moving):
            return False
        if max(map(self._volume, moving)) * WIDE > self._volume(item.value):
            return False
        (padded, *risky) = substitute([item.value, *_divisors(item.value)], dict.fromkeys(moving, ZERO))
        return isinstance(padded, Const) and padded.value == item.padding and ZERO not in risky

    def in_block(self, exprs: Sequence[Expr]) -> tuple[Expr, ...]:
        """Token-level expressions at block level, their leaves as inputs of the stage."""
        mapping: dict[Expr, Expr] = {}
        reads = {read.leaf: read.value for read in self.stage.reads}
        for leaf in leaves(exprs):
            mapping[leaf] = reads[leaf] if leaf in reads else self._enter(leaf)
        return substitute(exprs, mapping)

    def _enter(self, leaf: Leaf) -> Expr:
        if leaf in self.taken:
            return self.taken[leaf][1]
        constant = leaf.kind is LeafKind.PARAM
        token = () if constant or self.stage.block == 1 else (TOKEN,)
        name = f"{self.stage.name}.narrow{len(self.taken)}"
        inside = Leaf(LeafKind.READ, name, (*token, *leaf.axes), DType.REAL if leaf is RESET else leaf.dtype)
        value: Expr = build.where(RESET, ONE, ZERO) if leaf is RESET else leaf
        seen: Expr = build.apply("gt", inside, Const(0.5)) if leaf is RESET else inside
        self.taken[leaf] = (StageInput(inside, value, 0.0, constant), seen)
        return seen

    # --- reads ------------------------------------------------------------------------------------------------

    def reads(self, roots: Sequence[Expr]) -> dict[Expr, Expr]:
        """Sums over an axis of a read, to be taken inside; each with the leaf that stands for it afterwards."""
        own = {read.leaf for read in self.stage.reads}
        found = [node for node in walk(roots) if isinstance(node, Reduce) and self._narrows(node, own)]
        swaps: dict[Expr, Expr] = {}
        for node, value in zip(found, self.in_block(found), strict=True):
            leaf = Leaf(LeafKind.READ, f"{self.stage.name}.sum{len(swaps)}", node.axes, node.dtype)
            self.added.append(StageRead(leaf, value))
            swaps[node] = leaf
        return swaps

    def _narrows(self, node: Reduce, own: set[Leaf]) -> bool:
        below = leaves([node])
        wide = [leaf for leaf in below if leaf in own]
        if not wide or max(map(self._volume, wide)) < WIDE * self._volume(node):
            return False
        kinds = (LeafKind.INPUT, LeafKind.PARAM)
        if not all(leaf in own or leaf in self.known or leaf.kind in kinds for leaf in below):
            return False
        if any(leaf.dtype in (DType.INT, DType.BOOL) and leaf is not RESET for leaf in below):
            return False
        return not any(isinstance(x, Reduce) and set(leaves([x])) & own for x in walk(children(node)))

    def finish(self, roots: Iterable[Expr]) -> Stage:
        """The stage with the reads that are still needed."""
        needed = leaves(roots)
        reads = tuple(read for read in (*self.stage.reads, *self.added) if read.leaf in needed)
        entered = tuple(item for item, _ in self.taken.values())
        return replace(
            self.stage,
            inputs=(*self.kept, *entered),
            pre=(*self.pre, *self.stage.pre),
            reads=reads or self.stage.reads[:0],
        )
