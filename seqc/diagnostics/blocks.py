"""E06xx: blocks and models."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import axes


@dataclass(frozen=True)
class OutputAxesNeeded(Diagnostic):
    """A `linear` whose output axes nothing says.

    The axes come from a declaration, `let u[w] = linear(x)`, or from the parameter that the result is
    passed to. Directly under an operator nothing is guessed.

    Wrong:

        block keep(x[d]) {
            return x + linear(x)
        }

    Right:

        block keep(x[d]) {
            return x + linear(x) -> [d]
        }
    """

    code = "E0601"
    title = "output axes needed"

    callee: str
    wanted: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        return f"nothing says which axes `{self.callee}` is to produce here"

    @property
    def help(self) -> str:
        return f"write `{self.callee}(...) -> {axes(self.wanted)[1:-1] if self.wanted else '[...]'}`"


@dataclass(frozen=True)
class NoReturn(Diagnostic):
    """A rule, a block or a model that returns nothing.

    Wrong:

        block keep(x[d]) {
            let y = rms_norm(x)
        }

    Right:

        block keep(x[d]) {
            return rms_norm(x)
        }
    """

    code = "E0602"
    title = "nothing is returned"

    owner: str

    @property
    def message(self) -> str:
        return f"{self.owner} returns nothing"

    @property
    def help(self) -> str:
        return "end it with `return ...`"
