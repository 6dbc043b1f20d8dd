"""Printing what queries and entries give each other: blocks whose lengths are chosen when a kernel is launched, and
products of matrices of which weights, which are at most 1, are held in the type of the rule's inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from seqc.ir.expr import Expr

from ..torch.names import Names
from .blocks import BlockBody
from .layout import Layout
from .printing import GIVEN, Value


@dataclass(frozen=True, slots=True)
class ReadLayout(Layout):
    """A layout in which the lengths of some axes are `named`: they are powers of two, the longest those of `sizes`."""

    named: Mapping[str, str] = field(default_factory=dict[str, str])

    def length(self, axis: str) -> str:
        return self.named[axis] if axis in self.named else Layout.length(self, axis)


class ReadBody(BlockBody):
    """The lines of a function over blocks of queries and entries; `weights` are at most 1, and one of them is 1.

    Results of matrix products come out in order, so that sums need not be turned.
    """

    def __init__(self, layout: Layout, names: Names, weights: Collection[Expr]) -> None:
        super().__init__(layout, names, loaded_left=False, narrow=True, rounds=True)
        self.weights = frozenset(weights)

    def compute(self, node: Expr) -> Value:
        found = super().compute(node)
        return replace(found, bits=GIVEN) if node in self.weights else found

    def _sides(self, factors: Sequence[Value], bound: set[str]) -> tuple[list[Value], list[Value]] | None:
        """Numbers go with the side that is rounded anyway, not with what is read as it is."""
        found = super()._sides([value for value in factors if value.axes], bound)
        if found is None:
            return None
        rows, columns = (
            self.layout.inner({axis for value in side for axis in value.axes} - bound) for side in found
        )
        left, right = found if self.layout.inner({*rows, *columns})[0] in rows else (found[1], found[0])
        rounded = max(left, right, key=lambda side: max(value.bits for value in side))
        rounded += [value for value in factors if not value.axes]
        return left, right
