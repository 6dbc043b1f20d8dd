"""E10xx: what a program has no view of."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import listing


@dataclass(frozen=True)
class NoAttention(Diagnostic):
    """A rule without an implicit attention matrix: no output is a weighted sum of the past entries of one input, with
    weights that do not depend on that input. A rule has one where some input reaches its memory and its output
    without passing through a nonlinear function.
    """

    code = "E1001"
    title = "no implicit attention"

    name: str
    asked: str
    linear: tuple[str, ...]

    @property
    def message(self) -> str:
        if self.asked:
            return f"no output of `{self.name}` is linear in the past of `{self.asked}`"
        return f"no output of `{self.name}` is linear in the past of any of its inputs"

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"it is linear in {listing(self.linear)}",) if self.linear else ()
