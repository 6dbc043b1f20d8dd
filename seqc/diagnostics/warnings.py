"""W01xx: the text compiles, and probably does not mean what its layout says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from seqc.diagnostics.base import Diagnostic, Severity
from seqc.source import Span

Continues = Literal["a call", "a subtraction", "a bracket"]


@dataclass(frozen=True)
class ContinuedLine(Diagnostic):
    """A line that begins with `(`, `[` or `-` and so continues the line before it.

    The end of a line does not end a statement: `x` and, on the next line, `(y)` is the call `x(y)`.

    Wrong:

        rule keep(x[d]) {
            let y = x
            - 1
            return y
        }

    Right:

        rule keep(x[d]) {
            let y = x - 1
            return y
        }
    """

    code = "W0101"
    title = "continued line"
    severity: ClassVar[Severity] = "warning"

    kind: Continues
    before: Span

    @property
    def message(self) -> str:
        return f"this line continues the one before it: it is {self.kind}"

    @property
    def help(self) -> str:
        return f"write `{self.span.text}` at the end of the line before, or put the whole in parentheses"
