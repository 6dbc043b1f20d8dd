"""What a program of a kernel holds: one row, one tile of the vector axis, and all other axes whole.

The lengths of blocks are powers of two.  Entries beyond an axis are read as 0, left out of sums and maxima, and never
written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from seqc.ir.expr import Axes, Leaf, Reduce
from seqc.ir.traverse import walk
from seqc.passes.forms.kernels import size_of

from ..cpu.diagnose import Unsupported
from ..cpu.layout import choose, independent_axes
from ..cpu.program import Program, Task
from .runtime.launch import power_of_two

RESIDENT = 4096  # numbers of a value that a program should hold at most
LIMIT = 32768  # and may
LOOPED = 16384  # numbers of the states of a loop at most: at half of that its way back takes all registers
WIDEST, NARROWEST = 128, 16  # entries of a tile
WARP_SHARE = 512  # numbers of the states to a warp
VALUE_SHARE = 2048  # numbers of the largest value to a warp: 64 registers of a thread
MOST_WARPS = 8
AHEAD, NUMBER = 32 * 1024, 4  # bytes of what is read ahead, and of a number
MOST_STAGES = 6


@dataclass(frozen=True, slots=True)
class Layout:
    """`rows` are taken apart; `vector` is cut into tiles of `tile`, unless it is empty."""

    sizes: Mapping[str, int]
    rows: Axes
    vector: str
    tile: int
    order: Mapping[str, int]
    least: int = 1  # entries of a block along any axis

    def size(self, axis: str) -> int:
        return size_of(axis, self.sizes)

    def inner(self, axes: Iterable[str]) -> Axes:
        """The axes of a block, the vector axis last."""

        def key(axis: str) -> tuple[bool, int, str]:
            place = self.order.get(axis, self.order.get(axis.split("~")[0], len(self.order)))
            return axis == self.vector, place, axis

        return tuple(sorted((axis for axis in axes if axis not in self.rows), key=key))

    def padded(self, axis: str) -> int:
        return self.tile if axis == self.vector else max(self.least, power_of_two(self.size(axis)))

    def length(self, axis: str) -> str:
        """The length of a block along an axis, as text."""
        return "TILE" if axis == self.vector else str(self.padded(axis))

    def ragged(self, axis: str) -> bool:
        """Whether a block may have entries beyond the axis."""
        return axis == self.vector or self.padded(axis) != self.size(axis)

    def shape(self, axes: Iterable[str]) -> str:
        lengths = [self.length(axis) for axis in self.inner(axes)]
        return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"

    def volume(self, axes: Iterable[str]) -> int:
        return prod(self.padded(axis) for axis in self.inner(axes))

    def entries(self, axes: Iterable[str]) -> int:
        """How many numbers a tensor with these axes has, over all rows and tiles."""
        return prod(self.size(axis) for axis in axes)

    @property
    def count(self) -> int:
        return prod(self.size(axis) for axis in self.rows)

    @property
    def tiles(self) -> str:
        """How many tiles there are, as text."""
        return f"tl.cdiv({self.size(self.vector)}, TILE)" if self.vector else "1"

    @property
    def row_words(self) -> str:
        return f"Rows: {', '.join(axis.lstrip('%') for axis in self.rows) or 'none'}."

    @property
    def words(self) -> str:
        """What programs share, for a reader of the unit."""
        return f"Tiles: {self.vector.lstrip('%') or 'none'}.  {self.row_words}"


def layout(program: Program, tasks: Iterable[Task]) -> Layout:
    """The layout of a rule whose kernels do `tasks`.  Raises `Unsupported` where a block would be too large."""
    order = choose(program).order
    independent = independent_axes(program)
    leaves = [*program.inputs, *program.outputs, *(state.leaf for state in program.states)]
    known = [leaf.axes for leaf in leaves]
    vector = max(independent, key=lambda axis: worth(axis, program.sizes[axis], known), default="")
    rows = tuple(axis for axis in independent if axis != vector)
    values = _values(tasks)

    def with_tile(tile: int) -> Layout:
        return Layout(program.sizes, rows, vector, tile, order)

    tile = min(WIDEST, power_of_two(program.sizes[vector])) if vector else 1
    while tile > NARROWEST and _largest(with_tile(tile), values) > RESIDENT:
        tile //= 2
    found = with_tile(tile)
    if _largest(found, values) > LIMIT:
        raise Unsupported(
            f"a value of {_largest(found, values):,} numbers, where a program holds at most {LIMIT:,}"
        )
    held = sum(found.volume(state.axes) for state in program.states)
    if held > LOOPED:
        raise Unsupported(f"states of {held:,} numbers, where a loop holds at most {LOOPED:,}")
    return found


def worth(axis: str, size: int, known: Iterable[Axes]) -> tuple[int, int, int]:
    """A vector axis is long enough for a tile, and the last one of most of the `known` tensors."""
    last = sum(bool(axes) and axes[-1] == axis for axes in known)
    return min(size, NARROWEST), last, size


def resident(found: Layout, program: Program, summed: Iterable[Leaf]) -> int:
    """How many numbers a program has for all tokens on the way back: states and constants, the cotangents of states,
    and those of constants that are `summed` there.
    """
    states = [state.axes for state in program.states]
    held = [*states, *states, *(leaf.axes for leaf in (*program.constants, *summed))]
    return sum(map(found.volume, held))


def warps(found: Layout, program: Program, tasks: Iterable[Task]) -> int:
    """How many warps share a program that does `tasks`."""
    held = [state.axes for state in program.states] + [leaf.axes for leaf in program.constants]
    many = min(MOST_WARPS, power_of_two(sum(map(found.volume, held))) // WARP_SHARE)
    return max(1, many, _largest(found, _values(tasks)) // VALUE_SHARE)


def stages(found: Layout, program: Program) -> int:
    """How many tokens are read ahead: what the way back reads of them has to fit into a part of shared memory."""
    leaves = [*program.inputs, *program.outputs, *(state.leaf for state in program.states)]
    token = NUMBER * sum(found.volume(leaf.axes) for leaf in leaves)
    return min(MOST_STAGES, max(1, AHEAD // token))


def _values(tasks: Iterable[Task]) -> set[Axes]:
    """The axes of all that is computed."""
    return {axes for task in tasks for axes in _axes(task)}


def _axes(task: Task) -> Iterable[Axes]:
    for node in walk(target.value for target in task.targets):
        yield node.axes
        if isinstance(node, Reduce):
            yield node.arg.axes


def _largest(found: Layout, values: Iterable[Axes]) -> int:
    return max(found.volume(axes) for axes in values)
