"""Launching a kernel: what a program takes of the vector axis, how many warps share it and how far it reads ahead is
measured once, and kept on disk.

What was measured lies in `launch.json`, see `known.py`, by GPU, Triton, kernel, types, constants and lengths, which are
rounded to powers of two.  With `SEQC_TUNE=0`, and while a CUDA graph is recorded, nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .known import keep, key_of, measures, milliseconds, recalled

MOST_WARPS = 16
NARROWEST = 16  # entries of a tile
COMPILED = {"enable_fp_fusion": True}  # a product and a sum are rounded once, whatever Triton's default


class Choice(NamedTuple):
    """`stages` is how many turns of a loop are under way at once; `tile` is 0 where nothing is cut into tiles."""

    warps: int
    stages: int
    tile: int = 0


def tiles(choice: Choice, widest: int) -> list[Choice]:
    """The same with half and with twice the tile, which is a power of two."""
    found = (choice.tile // 2, 2 * choice.tile)
    return [choice._replace(tile=tile) for tile in found if NARROWEST <= tile <= power_of_two(widest)]


def warps(choice: Choice) -> list[Choice]:
    found = (2 * choice.warps, choice.warps // 2)
    return [choice._replace(warps=count) for count in found if 1 <= count <= MOST_WARPS]


def stages(choice: Choice) -> list[Choice]:
    return [choice._replace(stages=choice.stages // 2)] if choice.stages > 1 else []


def quickest(default: Choice, widest: int, measure: Callable[[Choice], float]) -> Choice:
    """The best tile, then the best number of warps with it, then of stages: a handful is measured, not all there are.

    The default is measured first, and stays where nothing is quicker; from what is quicker the search goes on.
    `widest` is the length of the vector axis.  What takes 0 is not improved upon.
    """
    best, known = default, {default: measure(default)}
    spaces: list[Callable[[Choice], list[Choice]]] = [partial(tiles, widest=widest), warps, stages]
    for others in spaces:
        before = None
        while best != before:
            before = best
            for choice in others(before):
                if known[best] and choice not in known:
                    known[choice] = measure(choice)
                    best = min(best, choice, key=known.__getitem__)
    return best


Argument = Any  # of a kernel; a function is what it makes for a tile
Grid = Callable[[int], int]  # programs, by their tile


class Launched(NamedTuple):
    """The tile of a launch, and the arguments, in which functions of the tile are what they made."""

    tile: int
    args: list[Any]


def launch(
    kernel: Any,
    grid: int | Grid,
    like: Tensor,
    args: Sequence[Argument],
    fixed: Mapping[str, Any],
    default: Choice,
    lengths: Sequence[int],
    read_ahead: str,
    widest: int = 0,
) -> Launched:
    """`grid` programs on the device of `like`; `read_ahead` is the argument that takes the stages.

    With 0 for `widest`, the length of the vector axis, the tile is the default's.
    """

    def made(choice: Choice) -> list[Any]:
        return [arg(choice.tile) if callable(arg) else arg for arg in args]

    def run(choice: Choice, given: Sequence[Any]) -> None:
        filled = [(like,) if arg == () else arg for arg in given]  # Triton takes no tuple that is empty
        more: dict[str, Any] = {read_ahead: choice.stages, "num_warps": choice.warps, **COMPILED}
        if choice.tile:
            more["TILE"] = choice.tile
        programs = grid(choice.tile) if callable(grid) else grid
        if programs:
            kernel[(programs,)](*filled, **{**fixed, **more})

    def measured(choice: Choice) -> float:
        try:
            given = made(choice)
        except torch.OutOfMemoryError:
            return float("inf")
        return milliseconds(lambda: run(choice, given))

    with torch.cuda.device_of(like):
        choice = chosen(kernel, like, args, fixed, default, lengths, widest, measured)
        given = made(choice)
        run(choice, given)
    return Launched(choice.tile, given)


def chosen(
    kernel: Any,
    like: Tensor,
    args: Sequence[Argument],
    fixed: Mapping[str, Any],
    default: Choice,
    lengths: Sequence[int],
    widest: int,
    measure: Callable[[Choice], float],
) -> Choice:
    """The quickest way to launch a kernel, of which every launch writes the same, up to the order of sums."""
    if not measures(like):
        return default
    types = {str(x.dtype) for arg in args if isinstance(arg, tuple) for x in arg if x is not None}
    about = (kernel.cache_key, sorted(types), fixed, [power_of_two(n) for n in lengths], default)
    recorded = torch.cuda.is_current_stream_capturing()
    return choose(key_of(like, about), default, widest, None if recorded else measure)


def choose(key: str, default: Choice, widest: int, measure: Callable[[Choice], float] | None) -> Choice:
    """What is known for a key; else the quickest by `measure`, which is then known; without it the default."""
    known = recalled(key)
    if len(known) == len(default) and _possible(Choice(*known), default):
        return Choice(*known)
    if measure is None:
        return default
    found = quickest(default, widest, measure)
    keep(key, found)
    return found


def _possible(choice: Choice, default: Choice) -> bool:
    """Whether a choice that was read can be one."""
    counted = choice.stages >= 1 and 1 <= choice.warps == power_of_two(choice.warps)
    return counted and (choice.tile >= NARROWEST) == (default.tile > 0)


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << max(number - 1, 0).bit_length()
