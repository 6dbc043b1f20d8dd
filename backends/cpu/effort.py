"""What a token or a block of tokens takes, by the loops that are written for it, and which of both is faster.

Counts of a task are weighed by seconds that `python -m benchmarks.fit_blocks` has fitted; only ratios matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

from seqc.ir.expr import Axes, Solve
from seqc.ir.plan import TOKEN
from seqc.ir.recurrence import Recurrence

from .added import apart
from .diagnose import Unsupported
from .layout import Layout, choose, kept, over_blocks
from .matrices import Arranged, is_plain
from .nests import PRODUCT, Nest, Nests, needs, nests
from .program import Program, Task, differentiable, gradient, program

NEAR = 8192  # numbers of a state that stay in a processor's first cache
WEIGHTS = (2.3e-11, 3.7e-11, 3.9e-9)


class Effort(NamedTuple):
    """Numbers that loops load or store, products that are added up, and what rows write apart and is summed later."""

    moved: float = 0.0
    products: float = 0.0
    summed: float = 0.0

    def plus(self, other: Effort, factor: float = 1.0) -> Effort:
        return Effort(*(a + factor * b for a, b in zip(self, other, strict=True)))

    @property
    def seconds(self) -> float:
        return sum(weight * count for weight, count in zip(WEIGHTS, self, strict=True))


class Efforts(NamedTuple):
    """What a token takes forwards and backwards, over all rows."""

    forward: Effort
    backward: Effort


def efforts(made: Program, layout: Layout) -> Efforts:
    """Those of a program's tokens, one by one."""
    token, advance, reverse = (_effort(made, task, layout) for task in _tasks(made))
    return Efforts(token, reverse.plus(advance).plus(_summed(made, layout)))


def efforts_in_blocks(made: Program, layout: Layout) -> Efforts:
    """Those of a token of a block."""
    assert made.block is not None
    over = over_blocks(layout, made.block)
    block, advance, reverse = (_effort(made.block, task, over) for task in _tasks(made.block))
    length = made.block.sizes[TOKEN]
    again = 1 - length / kept(made, layout)
    none = Effort()
    back = _summed(made, layout).plus(reverse.plus(advance, again), 1 / length)
    return Efforts(none.plus(block, 1 / length), back)


class Choice(NamedTuple):
    """A program with blocks, and what its tokens take alone and in a block."""

    program: Program
    alone: Efforts
    together: Efforts


def settled(made: Program, blocks: bool | None = None) -> Program:
    """The program with blocks where they are the faster way: backwards, and forwards too unless tokens are faster.

    If `blocks`, they are taken wherever there are any, and if False, nowhere.
    """
    choice = _choice(made, blocks)
    return replace(made, block=None) if choice is None else choice.program


def shares(recurrence: Recurrence) -> tuple[float, float]:
    """What part of the time of tokens their blocks take, forwards and backwards: 1 where tokens are taken alone."""
    try:
        choice = _choice(program(recurrence))
    except Unsupported:
        choice = None
    if choice is None:
        return 1.0, 1.0
    forward, backward = (b.seconds / a.seconds for a, b in zip(choice.alone, choice.together, strict=True))
    return forward if choice.program.ahead else 1.0, backward


def _choice(made: Program, blocks: bool | None = None) -> Choice | None:
    """None where tokens are taken alone.

    Both ways share the states, whose slices are those of blocks: tokens are not as fast there if they leave the cache.
    """
    if made.block is None or blocks is False:
        return None
    tokens, layout = replace(made, block=None), choose(made)
    try:
        alone, together = efforts(tokens, choose(tokens)), efforts_in_blocks(made, layout)
    except Unsupported:
        return None
    if blocks:
        return Choice(made, alone, together)
    gain = [a.seconds - b.seconds for a, b in zip(alone, together, strict=True)]
    far = sum(layout.local(state.axes) for state in made.states) > NEAR
    return Choice(replace(made, ahead=gain[0] > 0 or far), alone, together) if sum(gain) > 0 else None


def _tasks(made: Program) -> tuple[Task, Task, Task]:
    return made.token, made.advance, made.reverse


def _summed(made: Program, layout: Layout) -> Effort:
    """The cotangents of what rows share."""
    found = [layout.count * layout.local(leaf.axes) for leaf in differentiable(made.inputs)]
    whole = [layout.volume(leaf.axes) for leaf in differentiable(made.inputs)]
    return Effort(summed=sum(own for own, all_ in zip(found, whole, strict=True) if own > all_))


def _effort(made: Program, task: Task, layout: Layout) -> Effort:
    def arranged(axes: Sequence[str]) -> Axes:
        return tuple(axis for axis in layout.arranged(axes) if axis not in layout.rows)

    carried = {state.next for state in made.states} | {gradient(s.leaf) for s in made.states}
    plan = nests(apart(task, arranged, carried), arranged)
    total = Effort()
    for nest in plan.nests:
        total = total.plus(_of_nest(nest, plan, layout, arranged), layout.count)
    return total


def _of_nest(nest: Nest, plan: Nests, layout: Layout, arranged: Arranged) -> Effort:
    """Numbers that lie along the innermost axis are loaded once each; others stay in a register."""
    entries, first = prod(layout.inside[axis] for axis in nest.axes), nest.statements[0]
    if first.op == PRODUCT:
        return Effort(products=entries)
    if isinstance(first.node, Solve):
        if not is_plain(first.node, arranged):
            raise Unsupported("a triangular system has further axes")
        return Effort(1.5 * entries * layout.sizes[TOKEN])
    read = {node for statement in nest.statements for node, _ in needs(statement, plan.defined)}
    loads = sum(bool(set(nest.axes[-1:]) & set(arranged(node.axes))) for node in read)
    stores = sum(s.target is not None or plan.outlives(s) for s in nest.statements)
    return Effort(entries * (loads + stores))
