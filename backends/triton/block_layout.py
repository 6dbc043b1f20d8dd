"""What a program holds of a block of tokens: one row, one tile, and all tokens of the block."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from seqc.ir.build import ONE
from seqc.ir.expr import Axes, DType, Expr, Scan
from seqc.ir.plan import BETWEEN, OTHER, TOKEN, Stage
from seqc.ir.traverse import walk

from ..cpu.layout import mixed_axes
from .layout import NARROWEST, Layout, worth
from .runtime.launch import power_of_two

RESIDENT = 8192  # numbers of the states that a program should hold at most
WIDEST = 32  # entries of a tile
WIDEST_ALONE = 128  # of states that have no other axis in a program
LARGEST = 8192  # numbers of the states at all tokens of a block, where a scan has them at once
SMALLEST = 16  # entries of a block along an axis, so that it may be a side of a matrix product


def block_layout(stage: Stage, forward: Sequence[Expr], indexed: Collection[str]) -> Layout:
    """Independent axes are taken apart, unless inputs read their places (`indexed`), or cut into tiles."""
    independent, known = independent_axes(stage, forward), _known_axes(stage)
    vector = max(independent, key=lambda axis: worth(axis, stage.sizes[axis], known), default="")
    rows = tuple(axis for axis in independent if axis != vector and axis not in indexed)
    order = order_of(stage)

    def with_tile(tile: int) -> Layout:
        return Layout(stage.sizes, rows, vector, tile, order, SMALLEST)

    widest = WIDEST_ALONE if alone(stage, rows, vector) else WIDEST
    tile = min(widest, max(SMALLEST, power_of_two(stage.sizes[vector]))) if vector else 1
    while tile > NARROWEST and max(with_tile(tile).volume(s.axes) for s in stage.carried) > RESIDENT:
        tile //= 2
    turns = any(isinstance(node, Scan) and node.dtype is DType.COMPLEX for node in walk(forward))
    while turns and tile > NARROWEST and 2 * stage.block * tile > LARGEST // 2:
        tile //= 2
    return with_tile(tile)


def alone(stage: Stage, rows: Sequence[str], vector: str) -> bool:
    """Whether a program has one entry of the states along all axes but the one that is cut into tiles."""
    return all(set(state.axes) <= {*rows, vector} for state in stage.carried)


def gated_apart(roots: Sequence[Expr], vector: str) -> bool:
    """Whether all entries along an axis have gates of their own, so that no scan is a product of matrices."""
    scans = [node for node in walk(roots) if isinstance(node, Scan)]
    return all(not vector or node.decay is ONE or vector in node.decay.axes for node in scans)


def independent_axes(stage: Stage, forward: Sequence[Expr]) -> list[str]:
    """The axes that all states and results have and along which nothing meets."""
    every = [state.axes for state in stage.carried] + [read.leaf.axes for read in stage.reads]
    mixed = mixed_axes(forward)
    return [a for a in every[0] if a not in mixed and all(a in axes for axes in every)]


def order_of(stage: Stage) -> dict[str, int]:
    """The order of the axes of blocks: those of tokens first."""
    axes = [TOKEN, OTHER, BETWEEN, *(axis for own in _known_axes(stage) for axis in own)]
    return {axis: k for k, axis in enumerate(dict.fromkeys(axes))}


def _known_axes(stage: Stage) -> list[Axes]:
    """The axes of the inputs, states and results of a stage."""
    carried = [state.axes for state in stage.carried]
    return [item.leaf.axes for item in stage.inputs] + carried + [read.leaf.axes for read in stage.reads]
