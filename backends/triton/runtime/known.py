"""What was measured on a GPU, kept on disk: a few whole numbers for each thing that is chosen.

It lies in `launch.json` of the folder `SEQC_CACHE`, or of one in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from torch import Tensor

REPEATED = 20  # milliseconds that a way is measured


def measures(like: Tensor) -> bool:
    """Whether anything is measured for such tensors."""
    return like.is_cuda and like.numel() > 0 and os.environ.get("SEQC_TUNE", "1") != "0"


def milliseconds(run: Callable[[], object]) -> float:
    """The median time of a call on the current GPU; infinite if it does not compile, or has not enough of something."""
    from triton.errors import TritonError
    from triton.testing import do_bench

    try:
        found: Any = do_bench(run, warmup=REPEATED // 4, rep=REPEATED, return_mode="median")
    except (TritonError, RuntimeError):  # of Triton's passes and PyTorch's memory
        return float("inf")
    return float(found)


def key_of(like: Tensor, about: object) -> str:
    """By what a choice is known: the GPU of a tensor, Triton's version, and a digest of what it is about."""
    from triton import __version__

    return f"{torch.cuda.get_device_name(like.device)} {__version__} {_digest(repr(about))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file() -> Path:
    """Where choices are kept."""
    if own := os.environ.get("SEQC_CACHE"):
        return Path(own) / "launch.json"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seqc" / "triton" / "launch.json"


def recalled(key: str) -> tuple[int, ...]:
    """The choice that is known for a key; none, if it is empty."""
    return _known().get(key, ())


def keep(key: str, choice: Sequence[int]) -> None:
    """Write a choice, beside what other processes have written; where that is not possible, it is known here alone."""
    known = _known()
    known |= {**_read(), **known, key: tuple(choice)}
    place = file()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as made:
            json.dump(known, made)
        os.replace(made.name, place)
    except OSError:
        return


@cache
def _known() -> dict[str, tuple[int, ...]]:
    return _read()


def _read() -> dict[str, tuple[int, ...]]:
    try:
        found = json.loads(file().read_text(encoding="utf-8"))
        return {str(key): tuple(map(int, facts)) for key, facts in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}  # none yet, or not ours
