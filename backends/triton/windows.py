"""Stages whose blocks begin where a counter says, as stages of blocks one after another.

Tokens are laid out in windows beforehand, some of whose slots are empty (see `runtime/windows.py`).  What a stage has
to know of a window becomes inputs: whether a slot has a token, and whether a token begins a new sequence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import At, DType, Expr, Leaf, LeafKind, Reduce
from seqc.ir.plan import FRESH, RESET, RESTART, TOKEN, VALID, Adjoint, Stage, StageInput
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import leaves, substitute
from seqc.passes.forms.held import find_held, held_stage

from ..cpu.diagnose import Unsupported
from .block_layout import SMALLEST
from .runtime.chunk import Blocks
from .runtime.launch import power_of_two
from .stage import Outgrown, print_blocks
from .stream import print_streamed

FILLED = Leaf(LeafKind.READ, VALID, (TOKEN,))  # 1 for a slot with a token, 0 for one without
BEGINS = Leaf(LeafKind.READ, f"{RESTART}.at", (TOKEN,))  # 1 for a token that begins a new sequence
ACTIVE = Leaf(LeafKind.READ, "%active", (), DType.BOOL)  # whether a window has any token


def print_windows(recurrence: Recurrence, stage: Stage, adjoint: Adjoint, origin: str) -> tuple[str, Blocks]:
    """The unit of a stage with a phase, and how to call it.  Raises `Unsupported`, or `Outgrown`.

    Blocks have a power of two of slots, of which windows leave some empty, but not most.
    """
    slots = max(SMALLEST, power_of_two(stage.block))
    if 2 * stage.block < slots:
        raise Unsupported("windows that are too short for blocks")
    held = find_held(recurrence)
    if slots != stage.block and held is not None:
        stage, adjoint, _ = held_stage(recurrence, held, slots)
    stage, adjoint = windowed(stage, adjoint)
    try:
        text, face = print_blocks(stage, adjoint, origin)
    except Unsupported as error:
        return _streamed(stage, adjoint, origin, error)
    return text, face._replace(form="windows")


def _streamed(stage: Stage, adjoint: Adjoint, origin: str, why: Unsupported) -> tuple[str, Blocks]:
    """The same with states in memory; `why` says what does not fit into registers."""
    try:
        return print_streamed(stage, adjoint, origin)
    except Unsupported as error:
        raise (Outgrown(str(error)) if isinstance(why, Outgrown) else why) from error


def windowed(stage: Stage, adjoint: Adjoint) -> tuple[Stage, Adjoint]:
    """A stage with a phase, without it: its last inputs are `FILLED` and `BEGINS`, the counter is none of its states.

    A window without tokens changes no state and adds nothing to a cotangent.
    """
    kept = [k for k, state in enumerate(stage.carried) if state.name != stage.phase]
    states = [stage.carried[k] for k in kept]
    flows = [Leaf(LeafKind.COTANGENT, state.name, state.axes) for state in states]
    known: dict[Expr, Expr] = {
        Leaf(LeafKind.READ, FRESH): At(TOKEN, 0, FILLED),
        Leaf(LeafKind.READ, RESTART): At(TOKEN, 0, BEGINS),
    }
    alone: dict[Expr, Expr] = {flow: build.where(ACTIVE, flow, ZERO) for flow in flows}
    updates = substitute([stage.updates[k] for k in kept], known)
    steps = substitute([adjoint.steps[k] for k in kept], known)
    inputs = [StageInput(FILLED, Leaf(LeafKind.READ, VALID, (), DType.BOOL)), StageInput(BEGINS, RESET)]
    found = replace(
        stage,
        carried=tuple(states),
        inputs=(*stage.inputs, *inputs),
        pre=((ACTIVE, build.apply("gt", Reduce("max", (TOKEN,), FILLED), ZERO)), *_known(stage.pre, known)),
        updates=tuple(build.where(ACTIVE, x, s.leaf) for x, s in zip(updates, states, strict=True)),
        reads=tuple(replace(read, value=substitute([read.value], known)[0]) for read in stage.reads),
        phase=None,
    )
    back = Adjoint(
        pre=_known(adjoint.pre, known),
        direct=substitute([adjoint.direct[k] for k in kept], known),
        steps=tuple(build.where(ACTIVE, x, flow) for x, flow in zip(steps, flows, strict=True)),
        inputs=(*substitute(substitute(adjoint.inputs, known), alone), ZERO, ZERO),
    )
    return _needed(stage, found, back)


def _known(pairs: Iterable[tuple[Leaf, Expr]], known: dict[Expr, Expr]) -> tuple[tuple[Leaf, Expr], ...]:
    return tuple((leaf, substitute([expr], known)[0]) for leaf, expr in pairs)


def _needed(stage: Stage, found: Stage, back: Adjoint) -> tuple[Stage, Adjoint]:
    """Without what only the counter needed.  Raises `Unsupported` where anything else needs the counter."""
    roots = [*found.updates, *(read.value for read in found.reads), *back.direct, *back.steps, *back.inputs]
    pre = dict((*found.pre, *back.pre))
    used, pending = set(leaves(roots)), [leaf for leaf in leaves(roots) if leaf in pre]
    while pending:
        more = [leaf for leaf in leaves([pre[pending.pop()]]) if leaf not in used]
        used.update(more)
        pending += [leaf for leaf in more if leaf in pre]
    if any(state.leaf in used for state in stage.carried if state.name == stage.phase):
        raise Unsupported("a window that depends on how many tokens there were")
    return (
        replace(found, pre=tuple(pair for pair in found.pre if pair[0] in used)),
        replace(back, pre=tuple(pair for pair in back.pre if pair[0] in used)),
    )
