"""From a scheduled program to a module of the PyTorch backend whose rules run as units."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from torch import nn

from seqc.backend import Scheduled
from seqc.ir.expr import DType, Leaf
from seqc.ir.plan import Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.passes.schedule import LOOP, schedule

from ..torch import BACKEND as TORCH
from ..torch.cells import find_cell
from ..torch.load import load_module
from ..torch.module import rule_of, rules_of
from ..torch.names import identifier
from ..torch.opened import Opened, open_axes
from .around import around
from .cost import work
from .diagnose import Unsupported
from .mapped import mapped
from .runtime.around import attach_around
from .runtime.attach import Flags, Signature, Value, attach
from .runtime.cost import Work
from .runtime.rule import PATIENCE, Fused, Made, NoUnit
from .unit import emit


def build(program: Scheduled, origin: str, seed: int, patient: bool, every: bool) -> nn.Module:
    """The module of a program; rules that have no unit run as the PyTorch backend schedules them.

    If `patient`, no unit is made before its calls have lost as much time as that takes; if `every`, parts of blocks
    have one that are never faster.
    """
    plain = TORCH.module(program, seed=seed)
    module = attach(plain, units_in_time(program, origin) if patient else units(program, origin))
    blocks = around(program, origin, partial(between, origin, PATIENCE if patient else 0.0), every)
    if blocks is None:
        return module
    return attach_around(module, load_module(blocks.text, "around"), blocks.calls)


def opened(
    program: Scheduled, origin: str, seed: int, patient: bool = False, every: bool = False
) -> nn.Module:
    """The same for a rule whose mapped axes take the lengths of its inputs: a unit for every combination met."""
    whole = program.whole
    if isinstance(whole, Model) or not open_axes(whole):
        return build(program, origin, seed, patient, every)
    return Opened(whole, lambda rule: build(replace(program, whole=rule), origin, seed, patient, every))


def between(origin: str, patience: float, recurrence: Recurrence, work: Work) -> Fused:
    """The unit of a part of a block."""
    sign = signature_of(recurrence, [parameter.name for parameter in recurrence.parameters])
    return Fused(identifier(recurrence.name), sign, work, partial(_made, recurrence, origin), None, patience)


def units(program: Scheduled, origin: str) -> dict[str, Fused]:
    """The unit of every rule that has one, by the name of its class."""
    found: dict[str, Fused] = {}
    for rule in rules_of(program.whole, program.plan):
        with suppress(Unsupported):
            found[rule.name] = _unit(program, rule.recurrence, origin, rule.given)
    return found


def units_in_time(program: Scheduled, origin: str) -> dict[str, Fused]:
    """The same, but none is made before its calls have lost as much time as that takes."""
    found: dict[str, Fused] = {}
    for rule in rules_of(program.whole, program.plan):
        recurrence, plan = rule.recurrence, program.plan(rule.recurrence)
        if recurrence.states and not recurrence.stores and find_cell(recurrence, plan) is None:
            found[rule.name] = _later(recurrence, plan, origin, rule.given)
    return found


def without_unit(program: Scheduled) -> dict[str, str]:
    """Why rules have no unit and run as the PyTorch backend schedules them, by the rules' names."""
    found: dict[str, str] = {}
    for rule in rules_of(program.whole, program.plan):
        try:
            _unit(program, rule.recurrence, "", rule.given)
        except Unsupported as error:
            found[rule.recurrence.name] = str(error)
    return found


def _unit(program: Scheduled, recurrence: Recurrence, origin: str, given: Sequence[str]) -> Fused:
    if not recurrence.states and not recurrence.stores:
        raise Unsupported("there is no state to carry from token to token")
    plan = program.plan(recurrence)
    if plan.mode not in (LOOP, schedule(recurrence).mode):
        raise Unsupported(f"the schedule `{plan.mode}` was asked for")
    if isinstance(program.whole, Model) and find_cell(recurrence, plan) is not None:
        raise Unsupported("PyTorch has an operator for it, whose matrix products serve the whole batch")
    return fused(recurrence, plan, origin, given)


def by_blocks(recurrence: Recurrence, blocks: bool) -> nn.Module:
    """A rule whose unit always takes tokens in blocks, or always one by one.  Raises `Unsupported`."""
    program, made = Scheduled(recurrence, schedule), emit(recurrence, blocks=blocks)
    own = Fused(
        identifier(recurrence.name),
        signature_of(recurrence),
        work(program.plan(recurrence)),
        lambda: (made.text, made.interface),
    )
    own.forced = True
    return attach(TORCH.module(program), {rule_of(recurrence, program.plan).name: own})


def fused(recurrence: Recurrence, plan: Plan, origin: str, given: Sequence[str] = ()) -> Fused:
    """A rule with its unit.  Raises `Unsupported`."""
    made = _emitted(recurrence, origin)

    def over(lengths: tuple[int, ...], has: Flags) -> Fused:
        return fused(mapped(recurrence, lengths, has), plan, origin)

    name, signature = identifier(recurrence.name), signature_of(recurrence, given)
    return Fused(name, signature, work(plan), lambda: made, over)


def _later(recurrence: Recurrence, plan: Plan, origin: str, given: Sequence[str] = ()) -> Fused:
    """The same, with all that can wait left for later."""

    def over(lengths: tuple[int, ...], has: Flags) -> Fused:
        return _later(mapped(recurrence, lengths, has), plan, origin)

    name, signature = identifier(recurrence.name), signature_of(recurrence, given)
    return Fused(name, signature, work(plan), partial(_made, recurrence, origin), over, PATIENCE)


def _made(recurrence: Recurrence, origin: str) -> Made:
    """A unit that is made later.  Raises `NoUnit`."""
    try:
        return _emitted(recurrence, origin)
    except Unsupported as error:
        raise NoUnit(str(error)) from error


def _emitted(recurrence: Recurrence, origin: str) -> Made:
    made = emit(recurrence, origin)
    return made.text, made.interface


def signature_of(recurrence: Recurrence, given: Sequence[str] = ()) -> Signature:
    """What callers of a rule hand it and get from it."""
    return Signature(
        inputs=[_value(recurrence, leaf.name, leaf) for leaf in recurrence.inputs],
        outputs=[
            Value("", tuple(recurrence.sizes[a] for a in axes), out.dtype is DType.COMPLEX)
            for out, axes in zip(recurrence.outputs, recurrence.returns, strict=True)
        ],
        states=[_value(recurrence, state.name, state.leaf) for state in recurrence.states],
        parameters=[parameter.name for parameter in recurrence.parameters],
        given=list(given),
    )


def _value(recurrence: Recurrence, name: str, expr: Leaf) -> Value:
    return Value(name, tuple(recurrence.sizes[a] for a in expr.axes), expr.dtype is DType.COMPLEX)
