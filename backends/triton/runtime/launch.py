"""Launching a kernel: how many warps share a program and how far it reads ahead is measured once, and kept on disk.

What was measured lies in `launch.json` of the folder `SEQC_CACHE`, or of one in the user's cache, by GPU, kernel, type
and lengths, which are rounded to powers of two.  With `SEQC_TUNE=0`, and while a CUDA graph is recorded, nothing is
measured.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_WARPS = 16
REPEATED = 20  # milliseconds that a way to launch is measured


class Choice(NamedTuple):
    """`stages` is how many turns of a loop are under way at once."""

    warps: int
    stages: int


def choices(default: Choice) -> list[Choice]:
    """What is tried: the default first."""
    warps = [default.warps, *(w for w in (default.warps // 2, 2 * default.warps) if 1 <= w <= MOST_WARPS)]
    stages = [default.stages, *([default.stages // 2] if default.stages > 1 else [])]
    return [Choice(w, s) for w in warps for s in stages]


def launch(
    kernel: Any,
    grid: int,
    like: Tensor,
    args: Sequence[Any],
    fixed: Mapping[str, Any],
    default: Choice,
    lengths: Sequence[int],
    read_ahead: str,
) -> None:
    """`grid` programs on the device of `like`; `read_ahead` is the argument that takes the stages."""
    if not grid:
        return

    def run(choice: Choice) -> None:
        more = {read_ahead: choice.stages, "num_warps": choice.warps}
        kernel[(grid,)](*args, **fixed, **more)

    with torch.cuda.device_of(like):
        run(chosen(kernel, like, args, default, lengths, run) if like.is_cuda else default)


def chosen(
    kernel: Any,
    like: Tensor,
    args: Sequence[Any],
    default: Choice,
    lengths: Sequence[int],
    run: Callable[[Choice], None],
) -> Choice:
    """The quickest way to launch a kernel, of which every launch writes the same."""
    if os.environ.get("SEQC_TUNE", "1") == "0":
        return default
    types = {str(x.dtype) for arg in args if isinstance(arg, tuple) for x in arg}
    about = (kernel.cache_key, sorted(types), [power_of_two(n) for n in lengths])
    key = f"{torch.cuda.get_device_name(like.device)} {_digest(repr(about))}"
    quiet = torch.cuda.is_current_stream_capturing()
    return choose(key, default, None if quiet else lambda choice: _measured(run, choice))


def _measured(run: Callable[[Choice], None], choice: Choice) -> float:
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    try:
        found: Any = do_bench(lambda: run(choice), warmup=REPEATED // 4, rep=REPEATED, return_mode="median")
    except OutOfResources:
        return float("inf")
    return float(found)


def choose(key: str, default: Choice, measure: Callable[[Choice], float] | None) -> Choice:
    """What is known for a key; else the quickest by `measure`, which is then known; without it the default."""
    known = _known()
    if key not in known:
        if measure is None:
            return default
        known[key] = min(choices(default), key=measure)
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
        return {str(key): Choice(int(warps), int(stages)) for key, (warps, stages) in found.items()}
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
