"""Runs a plan as it stands, in float64, with named axes: what schedules are tested against the oracle with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seqc.ir.expr import Expr, Leaf, LeafKind
from seqc.ir.plan import FRESH, RESET, RESTART, TOKEN, VALID, Adjoint, Plan, Stage
from seqc.ir.traverse import leaves
from seqc.oracle.evaluate import Frame, evaluate, order

Values = dict[Expr, Tensor]


def _run(
    roots: Sequence[Expr], lead: tuple[int, ...], sizes: Mapping[str, int], known: Mapping[Expr, Tensor]
) -> list[Tensor]:
    values = evaluate(order(roots), Frame(lead, sizes, known))
    return [values[root] for root in roots]


def expand(
    value: Tensor, expr: Expr, axes: Sequence[str], lead: tuple[int, ...], sizes: Mapping[str, int]
) -> Tensor:
    """A value with exactly the axes asked for, written out."""
    mine = [a for a in axes if a in expr.axes]
    value = value.permute(*range(len(lead)), *(len(lead) + expr.axes.index(a) for a in mine))
    for i, axis in enumerate(axes):
        if axis not in mine:
            value = value.unsqueeze(len(lead) + i)
    return value.expand(*lead, *(sizes[a] for a in axes))


class Run:
    """One pass over a plan; keeps what a backward pass through the adjoints needs."""

    def __init__(self, plan: Plan, inputs: Mapping[str, Tensor], parameters: Mapping[str, Tensor] | None = None,
                 state: Mapping[str, Tensor] | None = None, reset: Tensor | None = None) -> None:  # fmt: skip
        self.plan, rec = plan, plan.recurrence
        first = next(iter(inputs.values()))
        self.lead = (first.shape[0], first.shape[1])
        self.reset = torch.zeros(self.lead, dtype=torch.bool) if reset is None else reset
        self.known: Values = {RESET: self.reset}
        for leaf in rec.inputs:
            self.known[leaf] = inputs[leaf.name]
        for p in rec.parameters:
            self.known[p.leaf] = (parameters or {})[p.name][None, None]
        self.state = dict(state) if state is not None else self._initial()
        self.final: dict[str, Tensor] = {}
        for stage in plan.stages:
            StageRun(self, stage).forward()
        self.outputs = [
            expand(_run([out], self.lead, rec.sizes, self.known)[0], out, axes, self.lead, rec.sizes)
            for out, axes in zip(plan.outputs, rec.returns, strict=True)
        ]

    def _initial(self) -> dict[str, Tensor]:
        rec, lead = self.plan.recurrence, (self.lead[0],)
        known: Values = {p.leaf: self.known[p.leaf][0] for p in rec.parameters}
        return {
            s.name: expand(_run([s.initial], lead, rec.sizes, known)[0], s.initial, s.axes, lead, rec.sizes)
            for s in rec.states
        }


class StageRun:
    def __init__(self, run: Run, stage: Stage) -> None:
        self.run, self.stage = run, stage
        self.tokens = run.lead[1]
        self.sizes = dict(stage.sizes)
        if stage.block == 0:
            self.sizes[TOKEN] = self.tokens
        self.block = stage.block or self.tokens
        self.slots, self.blocks = self._slots()
        self.lead = (run.lead[0], self.blocks)
        self.values: Values = {}

    def _slots(self) -> tuple[Tensor, int]:
        """For every token, the slot that it takes."""
        batch, tokens = self.run.lead
        slots = torch.arange(tokens).expand(batch, tokens).clone()
        if self.stage.phase is not None:
            offset = self.run.state[self.stage.phase].long() % self.block
            slots = slots + offset[:, None]
            for b in range(batch):
                for t in range(tokens):
                    if self.run.reset[b, t] and slots[b, t] % self.block:
                        slots[b, t:] += self.block - slots[b, t] % self.block
        return slots, int(slots.max()) // self.block + 1

    def lay(self, value: Tensor, padding: float) -> Tensor:
        """`[B, T, …]` to `[B, N, C, …]`."""
        flat = torch.full(
            (value.shape[0], self.blocks * self.block, *value.shape[2:]), padding, dtype=value.dtype
        )
        index = self.slots.reshape(*self.slots.shape, *(1,) * (value.ndim - 2)).expand_as(value)
        return flat.scatter(1, index, value).reshape(
            value.shape[0], self.blocks, self.block, *value.shape[2:]
        )

    def gather(self, value: Tensor) -> Tensor:
        flat = value.reshape(value.shape[0], -1, *value.shape[3:])
        index = self.slots.reshape(*self.slots.shape, *(1,) * (flat.ndim - 2)).expand(-1, -1, *flat.shape[2:])
        return flat.gather(1, index)

    def forward(self) -> None:
        run, stage, rec = self.run, self.stage, self.run.plan.recurrence
        for item in stage.inputs:
            raw = _run([item.value], run.lead, rec.sizes, run.known)[0]
            if item.constant:
                self.values[item.leaf] = raw
                continue
            full = expand(
                raw.expand(*run.lead, *raw.shape[2:]), item.value, item.value.axes, run.lead, rec.sizes
            )
            laid = self.lay(full, item.padding)
            self.values[item.leaf] = laid[:, :, 0] if stage.block == 1 else laid
        if stage.phase is not None:
            self._flags()
        for leaf, expr in stage.pre:
            self.values[leaf] = self.eval([expr])[0]
        self.fold()
        for read in stage.reads:
            value = self.eval([read.value])[0]
            axes = read.leaf.axes if stage.block == 1 else (TOKEN, *read.leaf.axes)
            value = expand(
                value.expand(*self.lead, *value.shape[2:]), read.value, axes, self.lead, self.sizes
            )
            run.known[read.leaf] = value if stage.block == 1 else self.gather(value)

    def _flags(self) -> None:
        valid = self.lay(torch.ones(self.run.lead, dtype=torch.float64), 0.0)
        started = self.lay(self.run.reset.double(), 0.0)
        self.values[Leaf(LeafKind.READ, VALID, (TOKEN,))] = valid
        self.values[Leaf(LeafKind.READ, FRESH)] = valid[:, :, 0]
        self.values[Leaf(LeafKind.READ, RESTART)] = started[:, :, 0]

    def eval(self, exprs: Sequence[Expr]) -> list[Tensor]:
        return _run(exprs, self.lead, self.sizes, self.values)

    def fold(self) -> None:
        run, stage = self.run, self.stage
        state = {s.name: run.state[s.name] for s in stage.carried}
        starts: list[dict[str, Tensor]] = []
        needed = leaves(stage.updates)
        lead = (run.lead[0], 1)
        for n in range(self.blocks):
            starts.append(dict(state))
            local = {leaf: _pick(value, n) for leaf, value in self.values.items() if leaf in needed}
            for s in stage.carried:
                local[s.leaf] = state[s.name][:, None]
            new = _run(stage.updates, lead, self.sizes, local)
            state = {
                s.name: expand(value.expand(*lead, *value.shape[2:]), expr, s.axes, lead, self.sizes)[:, 0]
                for s, value, expr in zip(stage.carried, new, stage.updates, strict=True)
            }
        run.final.update(state)
        for s in stage.carried:
            self.values[s.leaf] = torch.stack([start[s.name] for start in starts], 1)

    def backward(
        self, adjoint: Adjoint, reads: Mapping[str, Tensor], final: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Cotangents of the stage's inputs, at block level, by the derived reverse recurrence."""
        for read in self.stage.reads:
            token = () if self.stage.block == 1 else (TOKEN,)
            leaf = Leaf(LeafKind.COTANGENT, read.leaf.name, (*token, *read.leaf.axes), read.leaf.dtype)
            laid = self.lay(reads[read.leaf.name], 0.0)
            self.values[leaf] = laid[:, :, 0] if self.stage.block == 1 else laid
        for leaf, expr in adjoint.pre:
            self.values[leaf] = self.eval([expr])[0]
        direct = [self.full(e, s.axes) for e, s in zip(adjoint.direct, self.stage.carried, strict=True)]
        carried = [Leaf(LeafKind.COTANGENT, s.name, s.axes, s.dtype) for s in self.stage.carried]
        cot = {s.name: final[s.name] for s in self.stage.carried}
        after: list[dict[str, Tensor]] = []
        needed = leaves(adjoint.steps)
        for n in reversed(range(self.blocks)):
            after.insert(0, dict(cot))
            local = {leaf: _pick(value, n) for leaf, value in self.values.items() if leaf in needed}
            for leaf in carried:
                local[leaf] = cot[leaf.name][:, None]
            lead = (self.run.lead[0], 1)
            new = _run(adjoint.steps, lead, self.sizes, local)
            cot = {
                s.name: expand(v.expand(*lead, *v.shape[2:]), e, s.axes, lead, self.sizes)[:, 0] + d[:, n]
                for s, v, e, d in zip(self.stage.carried, new, adjoint.steps, direct, strict=True)
            }
        for leaf in carried:
            self.values[leaf] = torch.stack([x[leaf.name] for x in after], 1)
        result = {f"initial {name}": value for name, value in cot.items()}
        for item, expr in zip(self.stage.inputs, adjoint.inputs, strict=True):
            result[item.leaf.name] = self.full(expr, item.leaf.axes)
        return result

    def full(self, expr: Expr, axes: Sequence[str]) -> Tensor:
        value = self.eval([expr])[0]
        return expand(value.expand(*self.lead, *value.shape[2:]), expr, axes, self.lead, self.sizes)


def _pick(value: Tensor, n: int) -> Tensor:
    return value[:, n : n + 1] if value.shape[1] > 1 else value
