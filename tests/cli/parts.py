"""What the tests of the commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol

KEEP = "rule keep(x[d]; rate = 0.5) {\n    state  h[d] = 0\n    h'     = rate * h + x\n    return h'\n}\n"
SMALL = ("--set", "d=8", "--set", "w=12", "--set", "h=1", "--set", "n=8", "--set", "layers=1")


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Seqc(Protocol):
    def __call__(self, *arguments: str | Path) -> Done: ...
