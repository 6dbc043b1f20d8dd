"""Printing phases of values that are too large for registers: in loops over the tiles of one axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seqc.ir.expr import Axes, Expr, Leaf, Reduce, Rename, Scan, Solve

from ..cpu.diagnose import Unsupported
from ..torch.values import hint_for
from .blocks import BlockBody
from .layout import Layout
from .primitives import Code
from .printing import NOTHING, Value

MOST = 8192  # numbers of a value, so that what a phase needs of several fits into registers
ORIGIN = "%origin"  # what every position is counted from


class TiledBody(BlockBody):
    """The lines of a phase; the tiles are those of the layout's vector axis.

    What is read is loaded where it is first needed, by `load`, which binds a leaf.
    """

    load: Callable[[Leaf], None]

    def through(self, leaf: Leaf, root: Expr, store: Callable[[Value], None]) -> None:
        """`store` writes the value: that of a leaf with the tiles' axis for every tile."""
        nodes = self.needed([root])
        for node in nodes:
            self._check_moves(node)
        if self.layout.vector in leaf.axes:
            return self._each_tile([root], lambda values: store(values[0]))
        sums = [x for x in nodes if isinstance(x, Reduce) and self.layout.vector in x.over]
        if sums:
            self._whole(sums)
        return store(self.emit([root], [hint_for(root)])[0])

    def check(self, axes: Axes) -> None:
        """Raises `Unsupported` where the block of a phase would be too large."""
        if (volume := self.layout.volume(axes)) > MOST:
            raise Unsupported(
                f"a value of {volume:,} numbers at once, of which others are computed through memory"
            )

    def compute(self, node: Expr) -> Value:
        if isinstance(node, Leaf):
            self.load(node)
            return self.known[node]
        return super().compute(node)

    def place(self, axis: str) -> str:
        """The positions along an axis, of which the compiler does not know that other phases have the same."""
        if ORIGIN not in self.places:
            self.places[ORIGIN] = self.names.fresh("origin")
            text = "tl.multiple_of(tl.load(zero, volatile=True), 16)"
            self.lines.append(f"{self.places[ORIGIN]} = {text}")
        if axis not in self.places:
            name = self.names.fresh(f"at_{axis.strip('%')}")
            start = "tile * TILE + " if axis == self.layout.vector else ""
            text = f"{self.places[ORIGIN]} + {start}tl.arange(0, {self.layout.length(axis)})"
            self.lines.append(f"{name} = {text}")
            self.places[axis] = name
        return self.places[axis]

    def _whole(self, sums: Sequence[Reduce]) -> None:
        """Sums over the axis of the tiles, each in a variable."""
        names = [self.names.fresh(hint_for(node)) for node in sums]
        for name, node in zip(names, sums, strict=True):
            start = "0.0" if node.op == "sum" else NOTHING
            self.lines.append(f"{name} = tl.full({self.layout.shape(node.axes)}, {start}, tl.float32)")

        def add(values: Sequence[Value]) -> None:
            for name, node, value in zip(names, sums, values, strict=True):
                text = self.full(value, node.axes)
                more = f"{name} + {text}" if node.op == "sum" else f"tl.maximum({name}, {text})"
                self.lines.append(f"{name} = {more}")

        self._each_tile(sums, add)
        for name, node in zip(names, sums, strict=True):
            self.known[node] = Value(Code(name), self.layout.inner(node.axes))

    def _each_tile(self, roots: Sequence[Expr], end: Callable[[Sequence[Value]], None]) -> None:
        """Nothing that is known of a tile is known after the loop."""
        outer, products, self.lines = self.lines, self.products, []
        end(self.emit(roots, [hint_for(root) for root in roots]))
        tiles = -(-self.layout.size(self.layout.vector) // self.layout.tile)
        self.products = products + tiles * (self.products - products)
        self.lines = [*outer, *over_tiles(self.layout, self.lines)]
        self.known, self.places, self.inverses = {}, {}, {}

    def _check_moves(self, node: Expr) -> None:
        match node:
            case Rename(pairs=pairs):
                moved = {axis for pair in pairs for axis in pair}
            case Scan(axis=axis):
                moved = {axis}
            case Solve(rows=rows, columns=columns):
                moved = {rows, columns}
            case _:
                return
        if self.layout.vector in moved:
            raise Unsupported("tiles along an axis that entries move along")


def over_tiles(found: Layout, lines: Sequence[str]) -> list[str]:
    """Lines that are gone through for every tile.  Nothing is moved out of the loop, where it would take registers."""
    how = "num_stages=1, disable_licm=True"
    return [f"for tile in tl.range({found.tiles}, {how}):", *(f"    {line}" for line in lines)]
