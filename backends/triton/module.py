"""From a scheduled program to a module of the PyTorch backend whose rules run as kernels on a GPU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache

from torch import nn

from seqc.backend import Scheduled
from seqc.ir.expr import Leaf, LeafKind, leaves
from seqc.ir.plan import RESET, Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.passes.schedule import LOOP, schedule

from ..cpu.diagnose import Unsupported
from ..cpu.mapped import mapped
from ..cpu.module import rules_of, signature_of
from ..cpu.rewrite import factors_of
from ..cpu.runtime.attach import Flags, attach
from ..torch import module_text
from ..torch.cells import find_cell
from ..torch.names import identifier
from ..torch.opened import Opened, open_axes
from .attention import print_reads
from .runtime.attention import ReadKernels, ReadStage
from .runtime.chunk import BlockKernels, BlockStage, place
from .runtime.load import loaded
from .runtime.rule import Looped
from .stage import print_blocks, solves
from .unit import emit

READS = re.compile(r'^(\w+) = attention\(\s*(\w+), "\w+"\s*\)$.*?^class (\w+)\(', re.MULTILINE | re.DOTALL)
SYSTEM = 32  # tokens of a block with triangular systems: with more, the way back does not fit into registers
STAGE = re.compile(r'^(\w+) = operator\(\s*(\w+), "\w+"\s*\)|^class (\w+)\(', re.MULTILINE)


def build(program: Scheduled, origin: str, seed: int = 0) -> nn.Module:
    """The module of a program; rules that have no kernels run as the PyTorch backend schedules them."""
    program = bounded(program)
    rules = units(program, origin)
    text, name = module_text(program.whole, program.plan, origin)
    namespace = loaded(text, name).__dict__  # not the PyTorch backend's own, which goes on as it is
    for looped in rules.values():
        for stage in looped.stages:
            place(namespace, stage)
    for read in reads(program, origin).values():
        read.place(namespace)
    made: nn.Module = namespace[name](seed)
    return attach(made, rules)


def opened(program: Scheduled, origin: str, seed: int = 0) -> nn.Module:
    """The same for a rule whose mapped axes take the lengths of its inputs: kernels for every combination met."""
    whole = program.whole
    if isinstance(whole, Model) or not open_axes(whole):
        return build(program, origin, seed)
    return Opened(whole, lambda rule: build(replace(program, whole=rule), origin, seed))


def bounded(program: Scheduled) -> Scheduled:
    """The same with shorter blocks where they have triangular systems, unless another schedule was asked for."""

    @cache
    def plan(recurrence: Recurrence) -> Plan:
        found = program.plan(recurrence)
        longer = any(stage.block > SYSTEM and solves(stage) for stage in found.stages)
        if not longer or _shape(found) != _shape(schedule(recurrence)):
            return found
        return schedule(recurrence, block=SYSTEM)

    return replace(program, plan=plan)


def _shape(plan: Plan) -> tuple[str, list[int]]:
    return plan.mode, [stage.block for stage in plan.stages]


def units(program: Scheduled, origin: str) -> dict[str, Looped]:
    """The kernels of every rule that has some, by the name of its class; the others run as PyTorch schedules them."""
    found, program = dict[str, Looped](), bounded(program)
    names = stage_names(module_text(program.whole, program.plan, origin)[0])
    for name, recurrence, given in rules_of(program):
        with suppress(Unsupported):
            found[name] = _kernels(program, recurrence, names.get(name, []), origin, given)
    return found


def _kernels(
    program: Scheduled,
    recurrence: Recurrence,
    names: Sequence[tuple[str, str]],
    origin: str,
    given: Sequence[str],
) -> Looped:
    plan = program.plan(recurrence)
    if plan.mode not in (LOOP, schedule(recurrence).mode):
        raise Unsupported(f"the schedule `{plan.mode}` was asked for")
    if isinstance(program.whole, Model) and find_cell(recurrence, plan) is not None:
        raise Unsupported("PyTorch has an operator for it")
    return looped(recurrence, origin, given, blocks(plan, names, origin), unrounded(plan))


def reads(program: Scheduled, origin: str) -> dict[str, ReadStage]:
    """The kernels of what a rule with growing stores reads, by the name of its class."""
    found: dict[str, ReadStage] = {}
    text = module_text(program.whole, program.plan, origin)[0]
    names = {rule: (operator, owner) for operator, owner, rule in READS.findall(text)}
    for name, recurrence, _ in rules_of(program):
        with suppress(Unsupported):
            if name in names:
                unit, face = print_reads(program.plan(recurrence), origin)
                title = identifier(recurrence.name)
                found[name] = ReadStage(*names[name], ReadKernels(unit, face, title))
    return found


def stage_names(text: str) -> dict[str, list[tuple[str, str]]]:
    """Of each class of an emitted module, the operators that stand before it and what they are made of."""
    found, waiting = dict[str, list[tuple[str, str]]](), list[tuple[str, str]]()
    stages = {owner for _, owner, _ in STAGE.findall(text) if owner}
    for operator, owner, name in STAGE.findall(text):
        if operator:
            waiting.append((operator, owner))
        elif name not in stages:
            found[name], waiting = waiting, []
    return found


def blocks(plan: Plan, names: Sequence[tuple[str, str]], origin: str) -> list[BlockStage]:
    """The stages of a plan as kernels over blocks, if all of them are and its states are not read whole; else none."""
    made: list[BlockStage] = []
    if plan.mode not in ("chunk", "scan") or not len(plan.stages) == len(plan.adjoints) == len(names):
        return []
    for stage, adjoint, (operator, owner) in zip(plan.stages, plan.adjoints, names, strict=True):
        try:
            text, face = print_blocks(stage, adjoint, origin)
        except Unsupported:
            return []
        title = identifier(f"{plan.recurrence.name}_{stage.name}")
        made.append(BlockStage(operator, owner, BlockKernels(text, face, title)))
    return made


def unrounded(plan: Plan) -> bool:
    """Whether stages read the rule's inputs, at most times a mask, and the outputs are what stages give."""
    values = [item.value for stage in plan.stages for item in stage.inputs]
    return all(isinstance(x, Leaf) and x.kind is not LeafKind.INPUT for x in plan.outputs) and all(
        [leaf.kind for leaf in leaves([value]) if leaf is not RESET] == [LeafKind.INPUT]
        and all(isinstance(x, Leaf) or {*leaves([x])} <= {RESET} for x in factors_of(value))
        for value in values
    )


def looped(
    recurrence: Recurrence,
    origin: str,
    given: Sequence[str] = (),
    stages: Sequence[BlockStage] = (),
    as_given: bool = False,
) -> Looped:
    made = emit(recurrence, origin)

    def over(lengths: tuple[int, ...], has: Flags) -> Looped:
        return looped(mapped(recurrence, lengths, has), origin)

    signature = signature_of(recurrence, given)
    return Looped(identifier(recurrence.name), made.text, made.interface, signature, over, stages, as_given)
