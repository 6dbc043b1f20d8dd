"""From a scheduled program to a module of the PyTorch backend whose rules run as kernels on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial

from torch import nn

from seqc.backend import Scheduled
from seqc.ir.expr import DType
from seqc.ir.plan import Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.passes.schedule import LOOP, NEWTON, schedule

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
from .block_layout import SMALLEST
from .course import around, course_text
from .gates import Sources, sources
from .kept import kept, returned
from .layout import LIMIT
from .newton import print_newton
from .outputs import with_outputs
from .pairs import paired
from .readouts import with_whole_reads
from .runtime.attention import ReadKernels, ReadStage
from .runtime.chunk import BlockKernels, Blocks, BlockStage, place
from .runtime.forms import stage_kernels
from .runtime.kernel import Kernel
from .runtime.load import loaded
from .runtime.rule import Looped, Others
from .stage import Outgrown, print_blocks, systems
from .unit import emit
from .windows import print_windows

BLOCKS = ("chunk", "scan", NEWTON)  # the schedules whose stages take many tokens at once
LONGEST = 128  # tokens of any block
SYSTEM = 32  # tokens of a block with a triangular system: with more, the way back takes all registers
SYSTEMS = 16  # with several of them


def build(program: Scheduled, origin: str, seed: int = 0) -> nn.Module:
    """The module of a program; rules that have no kernels run as the PyTorch backend schedules them."""
    program = bounded(program)
    rules = units(program, origin)
    text, name = module_text(program.whole, program.plan, origin)
    namespace = loaded(text, name).__dict__  # not the PyTorch backend's own, which goes on as it is
    for looped in rules.values():
        for stage in looped.stages if looped.course is None else ():
            place(namespace, stage)
    found = reads(program, origin)
    for read in found.values():
        read.place(namespace)
    made: nn.Module = namespace[name](seed)
    for part in made.modules():
        if (own := found.get(type(part).__name__)) is not None:
            own.attach(part)
    return attach(made, rules)


def opened(program: Scheduled, origin: str, seed: int = 0) -> nn.Module:
    """The same for a rule whose mapped axes take the lengths of its inputs: kernels for every combination met."""
    whole = program.whole
    if isinstance(whole, Model) or not open_axes(whole):
        return build(program, origin, seed)
    return Opened(whole, lambda rule: build(replace(program, whole=rule), origin, seed))


def bounded(program: Scheduled) -> Scheduled:
    """The same with shorter blocks where they have triangular systems, unless another schedule was asked for, and
    with readouts through matrices of parameters outside scans.
    """

    @cache
    def plan(recurrence: Recurrence) -> Plan:
        found = with_whole_reads(program.plan(recurrence))
        longer = any(stage.block > most(found) for stage in found.stages if systems(stage))
        if not longer or _shape(found) != _shape(schedule(recurrence)):
            return found
        return schedule(recurrence, block=most(found))

    return replace(program, plan=plan)


def most(plan: Plan) -> int:
    """How many tokens a block has at most, where nothing was measured."""
    return (LONGEST, SYSTEM, SYSTEMS)[min(2, max(map(systems, plan.stages), default=0))]


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
    recurrence = rule.recurrence
    plan, read, stages = _in_blocks(program.plan(recurrence), rule.stages, origin)
    if plan.mode not in (LOOP, schedule(recurrence).mode) and not (plan.mode == NEWTON and stages):
        raise Unsupported(f"the schedule `{plan.mode}` was asked for")
    if isinstance(program.whole, Model) and find_cell(recurrence, plan) is not None:
        raise Unsupported("PyTorch has an operator for it")
    handed = plan if read is None else around(plan, read)
    text = course_text(handed, rule.given, origin) if stages and read is not None else ""
    narrow = [k for k, leaf in enumerate(recurrence.inputs) if leaf in kept(handed)]
    others = other_lengths(rule, plan, stages, text, origin) if text else {}
    return looped(recurrence, origin, rule.given, stages, narrow, text, others)


def other_lengths(
    rule: PrintedRule, plan: Plan, stages: Sequence[BlockStage], text: str, origin: str
) -> dict[int, Others]:
    """The kernels of `stages` with blocks half and twice as long, made when they are asked for; `text` is around them.

    They are none where the stages would not be of the same kind: with other inputs, or with products of matrices.
    """
    recurrence, block = rule.recurrence, max(stage.block for stage in plan.stages)

    def made(length: int) -> list[BlockKernels] | None:
        longer = with_whole_reads(schedule(recurrence, block=length))
        if [stage.block for stage in longer.stages] != [length] * len(stages):
            return None
        try:
            other, read, found = _in_blocks(longer, rule.stages, origin)
        except Outgrown:
            return None
        kernels = [stage.kernels for stage in found]
        alike = [each.face.exact for each in kernels] == [stage.kernels.face.exact for stage in stages]
        if read is None or not alike:
            return None
        return kernels if course_text(around(other, read), rule.given, origin) == text else None

    wanted = [length for length in (block // 2, 2 * block) if SMALLEST <= length <= LONGEST]
    return {length: partial(made, length) for length in wanted}


def _in_blocks(
    plan: Plan, operators: Sequence[Operator], origin: str
) -> tuple[Plan, list[Sources] | None, list[BlockStage]]:
    """A plan with its outputs inside stages, if these have kernels then, else as it is; what they read; the kernels."""
    own = {stage.name: operator for stage, operator in zip(plan.stages, operators, strict=False)}
    inside = with_outputs(plan)
    read = sources_of(inside)
    if inside is not plan and read is not None:
        found = blocks(inside, [own[stage.name] for stage in inside.stages], origin, read)
        if found:
            return inside, read, found
    read = sources_of(plan)
    return plan, read, blocks(plan, operators, origin, read)


def sources_of(plan: Plan) -> list[Sources] | None:
    """What the kernels of each stage read; None where not all stages are loops over blocks of equal length."""
    if len(plan.stages) != len(plan.adjoints):
        return None
    if any(stage.phase is not None or stage.newton is not None for stage in plan.stages):
        return None
    try:
        return [sources(paired(*own)[0]) for own in zip(plan.stages, plan.adjoints, strict=True)]
    except Unsupported:
        return None


def reads(program: Scheduled, origin: str) -> dict[str, ReadStage]:
    """The kernels of what a rule with growing stores reads, by the name of its class."""
    found: dict[str, ReadStage] = {}
    for rule in rules_of(program.whole, program.plan):
        with suppress(Unsupported):
            if rule.attention is not None:
                names = [stage.name for stage in rule.stages]
                unit, face, given = print_reads(program.plan(rule.recurrence), origin, names)
                kernels = ReadKernels(unit, face, identifier(rule.recurrence.name))
                found[rule.name] = ReadStage(rule.attention.name, rule.attention.owner, kernels, given)
    return found


def blocks(
    plan: Plan, operators: Sequence[Operator], origin: str, read: Sequence[Sources] | None
) -> list[BlockStage]:
    """The stages of a plan as kernels over blocks, if all of them are and its states are not read whole; else none.

    `read` is what the kernels of each read.
    Raises `Outgrown` where states do not fit into registers: PyTorch takes them as matrix products of many tokens.
    """
    made: list[BlockStage] = []
    if plan.mode not in BLOCKS or not len(plan.stages) == len(plan.adjoints) == len(operators):
        return []
    for k, operator in enumerate(operators):
        stage = plan.stages[k]
        try:
            text, face = _printed(plan, k, origin, read)
        except Outgrown:
            raise
        except Unsupported:
            return []
        title = identifier(f"{plan.recurrence.name}_{stage.name}")
        made.append(BlockStage(operator.name, operator.owner, stage_kernels(text, face, title)))
    return made


def _printed(plan: Plan, k: int, origin: str, read: Sequence[Sources] | None) -> tuple[str, Blocks]:
    stage, adjoint = plan.stages[k], plan.adjoints[k]
    if read is not None:
        text, face = print_blocks(
            *paired(stage, adjoint), origin, kept(around(plan, read)), read[k], returned(plan)
        )
        return text, face._replace(pairs=[found.leaf.dtype is DType.COMPLEX for found in stage.reads])
    if stage.newton is not None:
        return print_newton(stage, adjoint, origin)
    if stage.phase is not None:
        return print_windows(plan.recurrence, stage, adjoint, origin)
    return print_blocks(stage, adjoint, origin, kept(plan))


def looped(
    recurrence: Recurrence,
    origin: str,
    given: Sequence[str] = (),
    stages: Sequence[BlockStage] = (),
    narrow: Sequence[int] = (),
    course: str = "",
    others: Mapping[int, Others] | None = None,
) -> Looped:
    """A rule with its kernels; without a loop where it would spill and there are stages.  Raises `Unsupported`."""
    signature, name = signature_of(recurrence, given), identifier(recurrence.name)
    exact = bool(stages) and all(stage.kernels.face.exact for stage in stages)
    streamed = any(stage.kernels.face.form == "streamed" for stage in stages)
    try:
        made = emit(recurrence, origin)
        if (exact or streamed) and made.resident > LIMIT:
            raise Unsupported(
                f"a loop that keeps {made.resident:,} numbers, where blocks need no registers for them"
            )
    except Unsupported:
        if not stages:
            raise
        return Looped(name, None, signature, None, stages, narrow, course, others)

    def over(lengths: tuple[int, ...], has: Flags) -> Looped:
        return looped(mapped(recurrence, lengths, has), origin)

    kernel = Kernel(made.text, made.interface, name)
    return Looped(name, kernel, signature, over, stages, narrow, course, others)
