"""E01xx: the text is not a program: characters, brackets, numbers, and words in the wrong place.

The parser finds the place; the class says what is wrong in the words of the language. More of E01xx is in
`situations`, `calls` and `items`.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic, Label
from seqc.diagnostics.words import joined
from seqc.source import Span

# Reserved everywhere. A test compares them with the grammar.
KEYWORDS = frozenset(
    {
        "language",
        "use",
        "rule",
        "block",
        "model",
        "memory",
        "objective",
        "retention",
        "learner",
        "proximal",
        "state",
        "store",
        "param",
        "let",
        "return",
        "repeat",
        "shared",
        "if",
        "else",
        "as",
        "complex",
        "and",
        "or",
        "not",
        "true",
        "false",
    }
)


@dataclass(frozen=True)
class UnexpectedCharacter(Diagnostic):
    """A character that nothing in the language begins with.

    Names are made of the letters `a` to `z` and `A` to `Z`, digits and `_`. Greek letters are spelled
    out. A prime follows its name at once, and there is never more than one.

    Wrong:

        rule keep(x[d]) {
            return x @ x
        }

    Right:

        rule keep(x[d]) {
            return x * x
        }
    """

    code = "E0101"
    title = "unexpected character"

    character: str

    @property
    def message(self) -> str:
        shown = f" {self.character}" if self.character.isprintable() and not self.character.isspace() else ""
        name = f"U+{ord(self.character):04X}"
        if shown and self.character.isascii():
            return f"unexpected character `{self.character}`"
        return f"unexpected character{shown} ({name})"

    @property
    def help(self) -> str | None:
        known = {
            "'": "a prime follows the name of a state at once, as in `S'`",
            "&": "write `and`",
            "|": "write `or`",
            "!": "write `not`, or `!=` for unequal",
            "\u2212": "write `-`",
            "\u00d7": "write `*`",
            "\u00b7": "write `*`",
            "\u2019": "write the prime as `'`",
            "\u2192": "write `->`",
            ".": "a number has digits on both sides of its point, as in `0.5`",
        }
        return known.get(self.character)


@dataclass(frozen=True)
class UnclosedBracket(Diagnostic):
    """A bracket that is opened and never closed.

    Wrong:

        rule keep(x[d]) {
            return exp(x
        }

    Right:

        rule keep(x[d]) {
            return exp(x)
        }
    """

    code = "E0102"
    title = "unclosed bracket"

    opening: str
    closing: str
    before: Span | None

    @property
    def message(self) -> str:
        return f"this `{self.opening}` is never closed"

    @property
    def also(self) -> tuple[Label, ...]:
        return () if self.before is None else (Label(self.before, f"expected `{self.closing}` before this"),)

    @property
    def help(self) -> str:
        return f"close it with `{self.closing}`"


@dataclass(frozen=True)
class UnmatchedBracket(Diagnostic):
    """A closing bracket for which none is open.

    Wrong:

        rule keep(x[d]) {
            return exp(x))
        }

    Right:

        rule keep(x[d]) {
            return exp(x)
        }
    """

    code = "E0103"
    title = "unmatched bracket"

    closing: str

    @property
    def message(self) -> str:
        return f"this `{self.closing}` closes nothing"


@dataclass(frozen=True)
class ReservedWord(Diagnostic):
    """A word of the language where a name must stand. Words are reserved everywhere.

    Wrong:

        rule keep(state[d]) {
            return 2
        }

    Right:

        rule keep(x[d]) {
            return x
        }
    """

    code = "E0104"
    title = "reserved word"

    word: str

    @property
    def message(self) -> str:
        return f"`{self.word}` is a word of the language and cannot be a name"

    @property
    def help(self) -> str:
        return f"choose another name, such as `{self.word}_`"


@dataclass(frozen=True)
class UnexpectedToken(Diagnostic):
    """Something stands where the language has no place for it.

    Wrong:

        rule keep(x[d]) {
            memory S n -> d
            return x
        }

    Right:

        rule keep(x[d]) {
            return x
        }
    """

    code = "E0105"
    title = "unexpected text"

    found: str
    expected: tuple[str, ...]

    @property
    def message(self) -> str:
        if not self.expected:
            return f"unexpected {self.found}"
        return f"expected {joined(list(self.expected), 'or')}, found {self.found}"


@dataclass(frozen=True)
class MissingValue(Diagnostic):
    """An expression that stops before it is complete.

    Wrong:

        rule keep(x[d]) {
            let y = x *
            return y
        }

    Right:

        rule keep(x[d]) {
            let y = x * x
            return y
        }
    """

    code = "E0106"
    title = "missing value"

    found: str
    after: str | None

    @property
    def message(self) -> str:
        after = "" if self.after is None else f" after `{self.after}`"
        return f"expected a value{after}, found {self.found}"


@dataclass(frozen=True)
class UnterminatedText(Diagnostic):
    """A path in quotation marks that does not end on its line.

    Wrong:

        use "blocks.seq

    Right:

        use std
    """

    code = "E0107"
    title = "unterminated text"

    @property
    def message(self) -> str:
        return "this quotation mark has no partner on its line"

    @property
    def help(self) -> str:
        return 'end the path with `"`'


@dataclass(frozen=True)
class InvalidNumber(Diagnostic):
    """A number that is not written as one: digits, optionally a point with digits on both sides, and an
    exponent.

    Wrong:

        rule half(x[d]) {
            return .5 * x
        }

    Right:

        rule half(x[d]) {
            return 0.5 * x
        }
    """

    code = "E0108"
    title = "invalid number"

    written: str
    suggestion: str | None

    @property
    def message(self) -> str:
        return f"`{self.written}` is not a number"

    @property
    def help(self) -> str | None:
        return None if self.suggestion is None else f"write `{self.suggestion}`"
