"""From a scheduled program to a module of the PyTorch backend whose rules run as kernels on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache

from torch import nn

from seqc.backend import Scheduled
from seqc.ir.plan import Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.passes.schedule import LOOP, schedule

from ..cpu.diagnose import Unsupported
from ..cpu.mapped import mapped
from ..cpu.module import signature_of
from ..cpu.runtime.attach import Flags, attach
from ..torch import module_text
from ..torch.cells import find_cell
from ..torch.module import rules_of
from ..torch.names import identifier
from ..torch.opened import Opened, open_axes
from ..torch.rules import Operator, PrintedRule
from .attention import print_reads
from .kept import kept
from .runtime.attention import ReadKernels, ReadStage
from .runtime.chunk import BlockKernels, BlockStage, place
from .runtime.load import loaded
from .runtime.rule import Looped
from .stage import print_blocks, solves
from .unit import emit

SYSTEM = 32  # tokens of a block with triangular systems: with more, the way back does not fit into registers


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
    for rule in rules_of(program.whole, program.plan):
        with suppress(Unsupported):
            found[rule.name] = _kernels(program, rule, origin)
    return found


def _kernels(program: Scheduled, rule: PrintedRule, origin: str) -> Looped:
    recurrence, plan = rule.recurrence, program.plan(rule.recurrence)
    if plan.mode not in (LOOP, schedule(recurrence).mode):
        raise Unsupported(f"the schedule `{plan.mode}` was asked for")
    if isinstance(program.whole, Model) and find_cell(recurrence, plan) is not None:
        raise Unsupported("PyTorch has an operator for it")
    narrow = [k for k, leaf in enumerate(recurrence.inputs) if leaf in kept(plan)]
    return looped(recurrence, origin, rule.given, blocks(plan, rule.stages, origin), narrow)


def reads(program: Scheduled, origin: str) -> dict[str, ReadStage]:
    """The kernels of what a rule with growing stores reads, by the name of its class."""
    found: dict[str, ReadStage] = {}
    for rule in rules_of(program.whole, program.plan):
        with suppress(Unsupported):
            if rule.attention is not None:
                unit, face = print_reads(program.plan(rule.recurrence), origin)
                kernels = ReadKernels(unit, face, identifier(rule.recurrence.name))
                found[rule.name] = ReadStage(rule.attention.name, rule.attention.owner, kernels)
    return found


def blocks(plan: Plan, operators: Sequence[Operator], origin: str) -> list[BlockStage]:
    """The stages of a plan as kernels over blocks, if all of them are and its states are not read whole; else none."""
    made: list[BlockStage] = []
    if plan.mode not in ("chunk", "scan") or not len(plan.stages) == len(plan.adjoints) == len(operators):
        return []
    for stage, adjoint, operator in zip(plan.stages, plan.adjoints, operators, strict=True):
        try:
            text, face = print_blocks(stage, adjoint, origin, kept(plan))
        except Unsupported:
            return []
        title = identifier(f"{plan.recurrence.name}_{stage.name}")
        made.append(BlockStage(operator.name, operator.owner, BlockKernels(text, face, title)))
    return made


def looped(
    recurrence: Recurrence,
    origin: str,
    given: Sequence[str] = (),
    stages: Sequence[BlockStage] = (),
    narrow: Sequence[int] = (),
) -> Looped:
    made = emit(recurrence, origin)

    def over(lengths: tuple[int, ...], has: Flags) -> Looped:
        return looped(mapped(recurrence, lengths, has), origin)

    signature = signature_of(recurrence, given)
    return Looped(identifier(recurrence.name), made.text, made.interface, signature, over, stages, narrow)
