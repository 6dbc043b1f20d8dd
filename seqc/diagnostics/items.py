"""E01xx, continued: what a file, a rule, a block or a model may contain."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic, Label
from seqc.diagnostics.words import listing
from seqc.source import Span


@dataclass(frozen=True)
class MisplacedStatement(Diagnostic):
    """A statement that does not belong in this kind of item.

    A rule is one token: memories, states and their equations. A block or a model is a sequence: bindings,
    `repeat` and `if`.

    Wrong:

        rule keep(x[d]) {
            y = x * x
            return y
        }

    Right:

        rule keep(x[d]) {
            let y = x * x
            return y
        }
    """

    code = "E0112"
    title = "misplaced statement"

    statement: str
    where: str
    belongs: str
    advice: str | None = None

    @property
    def message(self) -> str:
        article = "an" if self.where.strip("`")[0] in "aeiou" else "a"
        return f"{self.statement} has no place in {article} {self.where}"

    @property
    def label(self) -> str:
        return f"belongs in a {self.belongs}"

    @property
    def help(self) -> str | None:
        return self.advice


@dataclass(frozen=True)
class UnknownVersion(Diagnostic):
    """A version of the language that this compiler does not know.

    Wrong:

        language 2

        rule keep(x[d]) {
            return x
        }

    Right:

        language 1

        rule keep(x[d]) {
            return x
        }
    """

    code = "E0113"
    title = "unknown version of the language"

    version: str

    @property
    def message(self) -> str:
        return f"there is no version `{self.version}` of the language"

    @property
    def help(self) -> str:
        return "write `language 1`"


@dataclass(frozen=True)
class OutsideItem(Diagnostic):
    """A statement outside any rule, block or model.

    Wrong:

        let half = 0.5

        rule keep(x[d]) {
            return half * x
        }

    Right:

        rule keep(x[d]) {
            let half = 0.5
            return half * x
        }
    """

    code = "E0123"
    title = "statement outside an item"

    found: str

    @property
    def message(self) -> str:
        return f"expected {listing(['rule', 'block', 'model', 'use'], 'or')}, found {self.found}"


@dataclass(frozen=True)
class LateVersion(Diagnostic):
    """`language 1` is the first thing in a file, or it is not there.

    Wrong:

        rule keep(x[d]) {
            return x
        }

        language 1

    Right:

        language 1

        rule keep(x[d]) {
            return x
        }
    """

    code = "E0124"
    title = "misplaced version"

    @property
    def message(self) -> str:
        return "`language` stands once, before everything else in the file"


@dataclass(frozen=True)
class ReturnNotLast(Diagnostic):
    """`return` ends a rule, a block or a model: nothing can follow it.

    Wrong:

        rule keep(x[d]) {
            return x
            let y = x
        }

    Right:

        rule keep(x[d]) {
            let y = x
            return y
        }
    """

    code = "E0114"
    title = "statement after `return`"

    where: str
    returned: Span

    @property
    def message(self) -> str:
        return f"nothing can follow the `return` of a {self.where}"

    @property
    def also(self) -> tuple[Label, ...]:
        return (Label(self.returned, "returns here"),)
