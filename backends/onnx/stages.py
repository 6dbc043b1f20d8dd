"""Plans as graphs: tokens cut into blocks, and one ONNX `Scan` over the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from seqc.ir.expr import DType, Expr, Leaf
from seqc.ir.plan import RESET, TOKEN, Plan, Stage
from seqc.ir.recurrence import State
from seqc.ir.traverse import leaves

from .blocks import Cut, Even, Phased, with_time
from .control import loop
from .lower import Lowering
from .pairs import Number, Pair, both, pair
from .scores import emit_scores, find_scores
from .tensors import BATCH, BLOCKS, TIME, Space, Tensor

StageRunner = Callable[[Lowering, Stage, Sequence[Number]], dict[str, Number]]


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a whole sequence gives: the outputs at token level and the states after the last token, by name."""

    outputs: list[Number]
    states: dict[str, Number]


def run_plan(
    token: Lowering,
    plan: Plan,
    states: Mapping[str, Number],
    outputs: Sequence[Expr],
    special: Mapping[str, StageRunner],
) -> Advanced:
    """All stages of a plan; `token` knows inputs and parameters, `states` the states before the first token.

    A stage that is `special` is run in another way.
    """
    finals: dict[str, Number] = {}
    for stage in plan.stages:
        run = special.get(stage.name, run_stage)
        finals.update(run(token, stage, [states[s.name] for s in stage.carried]))
    return Advanced(token.values(outputs), finals)


def run_stage(token: Lowering, stage: Stage, initial: Sequence[Number]) -> dict[str, Number]:
    """One stage: its reads become known to `token`; returns the states after the last token."""
    before = [_whole(token.space, s, x) for s, x in zip(stage.carried, initial, strict=True)]
    if stage.block == 0:
        return _one_block(token, stage, before)
    space = Space(token.space.builder, {**token.space.sizes, **stage.sizes}, token.space.dynamic)
    cut = _cut(token, space, stage, before)
    space.dynamic[BLOCKS] = cut.count
    space.outer = _outer_axes(stage)
    # The longest axis stands last: a node that repeats something along a short last axis is slow.
    space.last = tuple(sorted(stage.carried[0].axes, key=lambda a: space.guess((a,))))
    blocks = Lowering(space, cut.marks)
    for item in stage.inputs:
        value = token.value(item.value)
        blocks.env[item.leaf] = value if item.constant else cut.enter(value, item.padding)
    finals, results = _scan_blocks(blocks, stage, before)
    for read, value in zip(stage.reads, results, strict=True):
        token.env[read.leaf] = both(value, cut.leave)
    after = dict(zip((s.name for s in stage.carried), finals, strict=True))
    return {**after, **cut.after}


def _cut(token: Lowering, space: Space, stage: Stage, before: Sequence[Number]) -> Cut:
    """How the stage's blocks lie over the tokens."""
    if stage.phase is None:
        return Even(space, stage.block)
    counter = next(x for s, x in zip(stage.carried, before, strict=True) if s.name == stage.phase)
    reset = token.env[RESET]
    assert isinstance(counter, Tensor)
    assert isinstance(reset, Tensor)
    return Phased(space, stage.block, stage.phase, counter, reset)


def _whole(space: Space, state: State, value: Number) -> Number:
    """A state with all its axes, as a loop needs it."""
    complete = both(value, lambda t: space.expand(t, (BATCH, *state.axes)))
    if state.dtype is not DType.COMPLEX:
        return complete
    z = pair(space, complete)
    return Pair(z.re, space.expand(z.im, (BATCH, *state.axes)))


def _outer_axes(stage: Stage) -> frozenset[str]:
    """The axes that all inputs have beside others: matrix products run once for each entry along them."""
    kinds = {frozenset(item.leaf.axes) - {TOKEN} for item in stage.inputs if not item.constant}
    kinds.discard(frozenset())
    return frozenset.intersection(*kinds) if len(kinds) > 1 else frozenset()


def _one_block(token: Lowering, stage: Stage, before: Sequence[Number]) -> dict[str, Number]:
    """A stage whose only block is the whole sequence."""
    space = Space(token.space.builder, {**token.space.sizes, **stage.sizes}, token.space.dynamic)
    space.dynamic[TOKEN] = space.dynamic[TIME]
    block = Lowering(space, dict(zip((s.leaf for s in stage.carried), before, strict=True)))
    for item in stage.inputs:
        value = token.value(item.value)
        if not item.constant:
            value = both(value, lambda t: with_time(space, t))
        block.env[item.leaf] = both(value, lambda t: space.rename(t, {TIME: TOKEN}))
    for leaf, expr in stage.pre:
        block.env[leaf] = block.value(expr)
    for read in stage.reads:
        token.env[read.leaf] = both(block.value(read.value), lambda t: space.rename(t, {TOKEN: TIME}))
    return {s.name: block.value(update) for s, update in zip(stage.carried, stage.updates, strict=True)}


# --- the sequential part ------------------------------------------------------------------------------------


def _parts(value: Number) -> list[Tensor]:
    return [value.re, value.im] if isinstance(value, Pair) else [value]


def _again(shapes: Iterable[Number], parts: Sequence[Tensor]) -> list[Number]:
    """Flat tensors as the numbers that they are the parts of."""
    queue = list(parts)
    result: list[Number] = []
    for shape in shapes:
        result.append(Pair(queue.pop(0), queue.pop(0)) if isinstance(shape, Pair) else queue.pop(0))
    return result


def _scan_blocks(
    blocks: Lowering, stage: Stage, before: Sequence[Number]
) -> tuple[list[Number], list[Number]]:
    """The states after the last block, and the reads of every block.

    All of a block's work is done in the loop: what is in between stays in the cache, and a matrix product of all
    blocks at once is no faster than one of a block.
    """
    roots = [*stage.updates, *(read.value for read in stage.reads), *(expr for _, expr in stage.pre)]
    used = [leaf for leaf in _in_order(roots) if leaf in blocks.env]
    known: dict[Expr, Number] = {leaf: blocks.env[leaf] for leaf in used}
    moving = {leaf: x for leaf, x in known.items() if BLOCKS in x.axes}
    shapes: list[Number] = []

    def body(space: Space, states: list[Tensor], entries: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        now = _again(before, states)
        env: dict[Expr, Number] = {
            **known,
            **dict(zip(moving, _again(moving.values(), entries), strict=True)),
        }
        env.update(zip((s.leaf for s in stage.carried), now, strict=True))
        lowering = Lowering(space, env, dict(stage.pre))
        for gate, scores in find_scores(lowering, roots).items():
            emit_scores(lowering, gate, scores)
        lowering.values(leaf for leaf, _ in stage.pre)
        after = [_like(space, lowering.value(u), x) for u, x in zip(stage.updates, now, strict=True)]
        shapes.extend(lowering.value(read.value) for read in stage.reads)
        return [t for x in after for t in _parts(x)], [t for x in shapes for t in _parts(x)]

    scanned = [
        t if BLOCKS in t.axes else blocks.space.expand(t, (BLOCKS, *t.axes))
        for x in moving.values()
        for t in _parts(x)
    ]
    carried = [t for x in before for t in _parts(x)]
    finals, stacked = loop(blocks.space, BLOCKS, carried, scanned, body)
    return _again(before, finals), _again(shapes, stacked)


def _like(space: Space, value: Number, shape: Number) -> Number:
    return pair(space, value) if isinstance(shape, Pair) else value


def _in_order(roots: Iterable[Expr]) -> list[Leaf]:
    return sorted(leaves(roots), key=lambda leaf: (leaf.kind.value, leaf.name))
