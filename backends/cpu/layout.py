"""Which axis is contiguous, which are taken apart, and where the entries of a tensor lie.

- The *vector* axis is the innermost one of every tensor that has it.
- *Rows* are axes along which a token's entries never meet: every state and every output has them, and nothing sums,
  shifts or renames them.  Each row, and each *slice* of an independent vector axis, is a sequence of its own, small
  enough to stay near the processor, that any thread may take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from seqc.ir.expr import Axes, Expr, Index, Reduce, Size
from seqc.ir.plan import TOKEN
from seqc.ir.traverse import children, walk

from .matrices import TOKENS
from .program import Program
from .rewrite import MOVES

RESIDENT = 4096  # numbers of a state that a slice should have at most
BLOCKED = 16384  # and of one that goes a block of tokens at a time
NARROWEST = 32  # entries of a slice along the vector axis at least
WIDEST = 256  # and at most: further slices are work for further threads
HISTORY = 81920  # numbers of the states, inputs and outputs of a segment at most
SHORTEST, LONGEST = 8, 64  # tokens of a segment


@dataclass(frozen=True, slots=True)
class View:
    """Where a tensor's entries lie: `name[Σ stride · index]`."""

    name: str
    strides: tuple[tuple[str, int], ...]

    @property
    def axes(self) -> Axes:
        return tuple(axis for axis, _ in self.strides)


@dataclass(frozen=True, slots=True)
class Layout:
    """`order` sorts axes from the outermost to the innermost; `width` is the length of a slice."""

    sizes: Mapping[str, int]
    order: Mapping[str, int]
    vector: str
    rows: Axes
    width: int

    def arranged(self, axes: Iterable[str]) -> Axes:
        """Axes in the order in which they lie in memory: the tokens, rows, the others, the vector axis."""
        return tuple(sorted(axes, key=lambda axis: (axis != TOKEN, axis not in self.rows, self.order[axis])))

    def inner(self, axes: Iterable[str]) -> Axes:
        """The axes that are left within a row."""
        return tuple(axis for axis in self.arranged(axes) if axis not in self.rows)

    @property
    def slices(self) -> int:
        return self.sizes[self.vector] // self.width

    @property
    def inside(self) -> Mapping[str, int]:
        """The lengths of axes within a slice."""
        return {**self.sizes, self.vector: self.width}

    @property
    def count(self) -> int:
        """How many rows and slices there are."""
        return prod(self.sizes[axis] for axis in self.rows) * self.slices

    def shape(self, axes: Iterable[str]) -> tuple[int, ...]:
        return tuple(self.sizes[axis] for axis in self.arranged(axes))

    def volume(self, axes: Iterable[str]) -> int:
        return prod(self.shape(axes))

    def local(self, axes: Iterable[str]) -> int:
        """How many numbers a row's slice of a tensor has."""
        return prod(self.inside[axis] for axis in self.inner(axes))


def dense(name: str, axes: Sequence[str], sizes: Mapping[str, int]) -> View:
    """A tensor without gaps, its last axis innermost."""
    strides, step = list[tuple[str, int]](), 1
    for axis in reversed(axes):
        strides.append((axis, step))
        step *= sizes[axis]
    return View(name, tuple(reversed(strides)))


def external(name: str, axes: Iterable[str], layout: Layout) -> View:
    """What a row sees of a tensor that holds all of them: the pointer is at the row's first entry."""
    view = dense(name, layout.arranged(axes), layout.sizes)
    return View(name, tuple((axis, step) for axis, step in view.strides if axis not in layout.rows))


def is_whole(axes: Axes, layout: Layout) -> bool:
    """Whether a row's slice of a tensor is without gaps."""
    return external("", axes, layout) == dense("", layout.inner(axes), layout.inside)


def choose(program: Program) -> Layout:
    """The layout of a unit."""
    sizes = {**program.sizes, NOTHING: 1}
    independent = independent_axes(program)
    vector = _vector(program, independent)
    rows = tuple(axis for axis in independent if axis != vector)
    entries = sum(prod(sizes[a] for a in state.axes if a not in rows) for state in program.states)
    most = RESIDENT if program.block is None else BLOCKED
    width = _width(sizes[vector], entries, most) if vector in independent else sizes[vector]
    seen = dict.fromkeys(axis for axes in _all_axes(program) for axis in axes)
    order = {axis: k for k, axis in enumerate([*(a for a in seen if a != vector), vector])}
    return Layout(sizes, order, vector, rows, width)


def over_blocks(layout: Layout, block: Program) -> Layout:
    """The same for blocks of tokens, whose tensors have the axis `TOKEN`: where they lie stays as it is."""
    seen = dict.fromkeys(axis for axes in _all_axes(block) for axis in axes)
    known = sorted(seen, key=lambda axis: (axis not in TOKENS, layout.order.get(axis, len(layout.order) - 2)))
    order = {axis: k for k, axis in enumerate([*(a for a in known if a != layout.vector), layout.vector])}
    return replace(layout, sizes={**block.sizes, NOTHING: 1}, order={**layout.order, **order})


def grouped(program: Program, layout: Layout) -> int:
    """How many rows may share a loop over time: as many as stay near the processor together."""
    entries = sum(layout.local(state.axes) for state in program.states)
    return max(1, min(layout.count, RESIDENT // max(entries, 1)))


def segment(program: Program, layout: Layout) -> int:
    """How many tokens' states are computed again together on the way back."""
    if program.block is not None:
        return program.block.sizes[TOKEN]
    entries = sum(layout.local(state.axes) for state in program.states)
    entries += sum(layout.local(leaf.axes) for leaf in (*program.inputs, *program.outputs))
    return max(SHORTEST, min(LONGEST, HISTORY // (entries * grouped(program, layout))))


def kept(program: Program, layout: Layout) -> int:
    """How many tokens lie between two states that are kept: whole segments, and so many that the states take no more
    memory than inputs and outputs do.
    """
    states = sum(layout.volume(state.axes) for state in program.states)
    tensors = sum(layout.volume(leaf.axes) for leaf in (*program.inputs, *program.outputs))
    length = segment(program, layout)
    return length * max(1, -(-states // (length * max(tensors, 1))))


def _all_axes(program: Program) -> Iterator[Axes]:
    yield from (leaf.axes for leaf in program.inputs)
    yield from (leaf.axes for leaf in program.outputs)
    yield from (state.axes for state in program.states)
    for task in (program.prepare, program.token, program.reverse, program.prepare_reverse):
        yield from (leaf.axes for leaf in task.reads)
        yield from (node.axes for node in walk(target.value for target in task.targets))
        for target in task.targets:
            yield from (node.arg.axes for node in walk([target.value]) if isinstance(node, Reduce))
            yield target.leaf.axes


def independent_axes(program: Program) -> Axes:
    """Axes that every state and output has and that nothing mixes."""
    shared = [set(state.axes) for state in program.states] + [set(leaf.axes) for leaf in program.outputs]
    mixed = mixed_axes([target.value for target in program.token.targets])
    first = program.states[0].axes if program.states else program.outputs[0].axes
    return tuple(axis for axis in first if axis not in mixed and all(axis in s for s in shared))


def mixed_axes(roots: Sequence[Expr]) -> set[str]:
    """Axes along which entries meet."""
    found: set[str] = set()
    for node in walk(roots):
        match node:
            case Reduce():
                found.update(node.over)
            case Index() | Size():
                found.add(node.axis)
            case _ if isinstance(node, MOVES):
                inner = {axis for child in children(node) for axis in child.axes}
                found |= inner.symmetric_difference(node.axes)
                found |= {value for value in _named(node) if value in inner or value in node.axes}
            case _:
                pass
    return found


def _named(move: Expr) -> Iterator[str]:
    """The axes that a move names."""
    for field in ("axis", "new"):
        if hasattr(move, field):
            yield getattr(move, field)
    for pair in getattr(move, "pairs", ()):
        yield from pair
    yield from getattr(move, "parts", ())


def _vector(program: Program, independent: Axes) -> str:
    """An independent axis if there is a long one, the one that most tensors have last."""
    sizes = program.sizes
    known = [leaf.axes for leaf in (*program.inputs, *program.outputs)] + [s.axes for s in program.states]

    def worth(axis: str) -> tuple[int, int, int]:
        last = sum(bool(axes) and axes[-1] == axis for axes in known)
        return min(sizes[axis], NARROWEST), last, sizes[axis]

    candidates = [axis for axis in independent if sizes[axis] >= SHORTEST]
    if not candidates:
        held = [state.axes for state in program.states] or [leaf.axes for leaf in program.outputs]
        largest = max(held, key=lambda axes: prod(sizes[a] for a in axes))
        candidates = list(largest) or [axis for axes in known for axis in axes]
    return max(candidates, key=worth) if candidates else NOTHING


NOTHING = "%one"  # stands for the vector axis where there are only scalars


def _width(length: int, entries: int, most: int) -> int:
    """The widest even slice whose states have at most so many numbers."""
    fits = [
        width
        for width in range(16, min(length, WIDEST) + 1, 16)
        if length % width == 0 and width >= NARROWEST and width * entries <= most * length
    ]
    small = entries <= most and length <= WIDEST
    if small or length % NARROWEST:
        return length
    return max(fits, default=NARROWEST)
