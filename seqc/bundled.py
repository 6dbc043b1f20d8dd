"""The folders that come with seqc: `grammar`, `backends` and `specs`, in a wheel as in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import seqc


@cache
def folder(name: str) -> Path:
    """Where the folder `name` lies: inside the package in a wheel, beside it in a checkout."""
    for root in seqc.__path__:
        if (found := Path(root) / name).is_dir():
            return found
    raise FileNotFoundError(f"this installation of seqc has no folder {name!r}; install it again")


def specs() -> list[Path]:
    """Every spec that comes with seqc, the standard library left out, in the order of their paths."""
    root = folder("specs")
    return sorted(path for path in root.rglob("*.seq") if path.relative_to(root).parts[0] != "std")
