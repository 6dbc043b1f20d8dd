"""Launching a kernel: what a program takes of the vector axis, how many warps share it and how far it reads ahead is
measured once, and kept on disk.

What was measured lies in `launch.json` of the folder `SEQC_CACHE`, or of one in the user's cache, by GPU, kernel, type
and lengths, which are rounded to powers of two.  With `SEQC_TUNE=0`, and while a CUDA graph is recorded, nothing is
measured.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_WARPS = 16
NARROWEST = 16  # entries of a tile
REPEATED = 20  # milliseconds that a way to launch is measured


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

    The default is measured first, and stays where nothing is quicker. `widest` is the length of the vector axis.  What
    takes 0 is not improved upon.
    """
    best, least = default, measure(default)
    spaces: list[Callable[[Choice], list[Choice]]] = [partial(tiles, widest=widest), warps, stages]
    for others in spaces:
        for choice in others(best):
            if not least:
                return best
            if (time := measure(choice)) < least:
                best, least = choice, time
    return best


Argument = Any  # of a kernel; a function is what it makes for a tile
Grid = Callable[[int], int]  # programs, by their tile


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
) -> list[Any]:
    """`grid` programs on the device of `like`; `read_ahead` is the argument that takes the stages.

    Gives the arguments that the kernel was launched with, in which functions of the tile are what they made.
    """

    def made(choice: Choice) -> list[Any]:
        return [arg(choice.tile) if callable(arg) else arg for arg in args]

    def run(choice: Choice, given: Sequence[Any]) -> None:
        filled = [(like,) if arg == () else arg for arg in given]  # Triton takes no tuple that is empty
        more: dict[str, Any] = {read_ahead: choice.stages, "num_warps": choice.warps}
        if choice.tile:
            more["TILE"] = choice.tile
        programs = grid(choice.tile) if callable(grid) else grid
        if programs:
            kernel[(programs,)](*filled, **{**fixed, **more})

    def measured(choice: Choice) -> float:
        given = made(choice)
        return _measured(lambda: run(choice, given))

    with torch.cuda.device_of(like):
        choice = chosen(kernel, like, args, default, lengths, widest, measured)
        given = made(choice)
        run(choice, given)
    return given


def chosen(
    kernel: Any,
    like: Tensor,
    args: Sequence[Argument],
    default: Choice,
    lengths: Sequence[int],
    widest: int,
    measure: Callable[[Choice], float],
) -> Choice:
    """The quickest way to launch a kernel, of which every launch writes the same, up to the order of sums."""
    if not like.is_cuda or not like.numel() or os.environ.get("SEQC_TUNE", "1") == "0":
        return default
    types = {str(x.dtype) for arg in args if isinstance(arg, tuple) for x in arg if x is not None}
    about = (kernel.cache_key, sorted(types), [power_of_two(n) for n in lengths], default)
    key = f"{torch.cuda.get_device_name(like.device)} {_digest(repr(about))}"
    return choose(key, default, widest, None if torch.cuda.is_current_stream_capturing() else measure)


def _measured(run: Callable[[], None]) -> float:
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    try:
        found: Any = do_bench(run, warmup=REPEATED // 4, rep=REPEATED, return_mode="median")
    except OutOfResources:
        return float("inf")
    return float(found)


def choose(key: str, default: Choice, widest: int, measure: Callable[[Choice], float] | None) -> Choice:
    """What is known for a key; else the quickest by `measure`, which is then known; without it the default."""
    known = _known()
    if key not in known:
        if measure is None:
            return default
        known[key] = quickest(default, widest, measure)
        _keep(known)
    return known[key]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << max(number - 1, 0).bit_length()


def file() -> Path:
    """Where choices are kept."""
    if own := os.environ.get("SEQC_CACHE"):
        return Path(own) / "launch.json"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seqc" / "triton" / "launch.json"


@cache
def _known() -> dict[str, Choice]:
    return _read()


def _read() -> dict[str, Choice]:
    try:
        found = json.loads(file().read_text(encoding="utf-8"))
        return {str(key): Choice(*map(int, facts)) for key, facts in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # none yet, or not ours


def _keep(known: dict[str, Choice]) -> None:
    """Write what is known, beside what other processes have written; where that is not possible, nothing is kept."""
    known |= {key: choice for key, choice in _read().items() if key not in known}
    place = file()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as made:
            json.dump(known, made)
        os.replace(made.name, place)
    except OSError:
        return
