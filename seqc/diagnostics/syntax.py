"""E01xx: the text is not a program.

The parser finds the place; the class says what is wrong in the words of the language. A class with
`cases` is chosen by example: whenever the parser stops in the same situation, before the same kind of
word, as it does in one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seqc.diagnostics.base import Diagnostic, Label
from seqc.diagnostics.words import joined, listing
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
class SituationFault(Diagnostic):
    """A fault that is recognised by example.

    Each case stops the parser at its last word. `@` stands for the beginning of any statement.
    """

    cases: ClassVar[tuple[str, ...]] = ()


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


@dataclass(frozen=True)
class NotCallable(Diagnostic):
    """Only a name is called: an operation, a rule, a block or a memory.

    Wrong:

        rule keep(x[d]) {
            return (x + x)(x)
        }

    Right:

        rule keep(x[d]) {
            return (x + x) * x
        }
    """

    code = "E0109"
    title = "not something to call"

    begins_line: bool

    @property
    def message(self) -> str:
        return "only a name can be called"

    @property
    def notes(self) -> tuple[str, ...]:
        return ("a parenthesis continues the line before it",) if self.begins_line else ()

    @property
    def help(self) -> str:
        return "write `*` to multiply"


@dataclass(frozen=True)
class ResultWithoutCall(Diagnostic):
    """`-> [d]` says which axes a call produces, so it follows a call and nothing else.

    Wrong:

        rule keep(x[d]) {
            return (x + x) -> [d]
        }

    Right:

        rule keep(x[d]) {
            return x + x
        }
    """

    code = "E0110"
    title = "result axes without a call"

    @property
    def message(self) -> str:
        return "`-> [...]` may follow a call only"

    @property
    def help(self) -> str:
        return "to rename an axis, write `x[n -> m]`"


@dataclass(frozen=True)
class NameWithoutCall(Diagnostic):
    """`as` names the parameters of a call, so it follows a call and nothing else.

    Wrong:

        block keep(x[d]) {
            return x as y
        }

    Right:

        block keep(x[d]) {
            return linear(x) as y -> [d]
        }
    """

    code = "E0111"
    title = "`as` without a call"

    @property
    def message(self) -> str:
        return "`as` may follow a call only"

    @property
    def help(self) -> str:
        return "to name a value, write `let name = ...`"


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
        return f"{self.statement} has no place in a {self.where}"

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
class UnknownLibrary(Diagnostic):
    """`use` with a bare name that is not `std`. A file is used by its path, in quotation marks.

    Wrong:

        use blocks

    Right:

        use std
    """

    code = "E0114"
    title = "unknown library"

    library: str

    @property
    def message(self) -> str:
        return f"there is no library `{self.library}`"

    @property
    def help(self) -> str:
        return f'the only library is `std`; for a file, write `use "{self.library}.seq"`'


@dataclass(frozen=True)
class PositionalAfterKeyword(Diagnostic):
    """In a call, the arguments that are named come last.

    Wrong:

        block keep(x[d]) {
            return rms_norm(eps = 1e-6, x)
        }

    Right:

        block keep(x[d]) {
            return rms_norm(x, eps = 1e-6)
        }
    """

    code = "E0115"
    title = "argument out of order"

    keyword: Span

    @property
    def message(self) -> str:
        return "an argument without a name comes before the named ones"

    @property
    def also(self) -> tuple[Label, ...]:
        return (Label(self.keyword, "the first named argument"),)


@dataclass(frozen=True)
class RepeatedArgument(Diagnostic):
    """A named argument that is given twice.

    Wrong:

        block keep(x[d]) {
            return rms_norm(x, eps = 1e-6, eps = 1e-5)
        }

    Right:

        block keep(x[d]) {
            return rms_norm(x, eps = 1e-6)
        }
    """

    code = "E0116"
    title = "repeated argument"

    name: str
    first: Span

    @property
    def message(self) -> str:
        return f"`{self.name}` is given twice"

    @property
    def also(self) -> tuple[Label, ...]:
        return (Label(self.first, "first given here"),)


@dataclass(frozen=True)
class ChainedComparison(SituationFault):
    """Comparisons do not chain.

    Wrong:

        rule keep(x[d]) {
            return where(0 < x < 1, x, 0)
        }

    Right:

        rule keep(x[d]) {
            return where(0 < x and x < 1, x, 0)
        }
    """

    code = "E0117"
    title = "chained comparison"
    cases = tuple(f"rule r() {{ return a < b {op}" for op in ("<", "<=", ">", ">=", "==", "!="))

    @property
    def message(self) -> str:
        return "comparisons do not chain"

    @property
    def help(self) -> str:
        return "write `a < b and b < c`"


@dataclass(frozen=True)
class MissingComma(SituationFault):
    """Two things in a list with no comma between them.

    Wrong:

        rule add(x[d] y[d]) {
            return x + y
        }

    Right:

        rule add(x[d], y[d]) {
            return x + y
        }
    """

    code = "E0118"
    title = "missing comma"
    cases = (
        "rule r(x y",
        "rule r(x[d] y",
        "rule r(; n m",
        "rule r(; n = 1 m",
        "rule r(x[n m",
        "rule r() { return f(a b",
        "rule r() { return f(a 1",
        "rule r() { return f(a b'",
        "rule r() { return f(n = a b",
        "rule r() { return f(n = a 1",
        "rule r() { return f(n = a b'",
        "rule r() { return f[n m",
        "rule r() { let a[n m",
    )

    @property
    def message(self) -> str:
        return "expected a comma before this"

    @property
    def help(self) -> str:
        return "separate the entries of a list with `,`"


@dataclass(frozen=True)
class MissingEquals(SituationFault):
    """A name that is introduced without saying what it is.

    Wrong:

        rule keep(x[d]) {
            let y x * x
            return y
        }

    Right:

        rule keep(x[d]) {
            let y = x * x
            return y
        }
    """

    code = "E0119"
    title = "missing `=`"
    cases = tuple(
        f"rule r() {{ {start} {value}"
        for start in ("let a", "let a[n]", "param a", "param a[n]", "store a[n]")
        for value in ("b", "1", "b'", "(", "-", "return", "let", "}")
    ) + tuple(f"@ s' {value}" for value in ("b", "1", "b'"))

    @property
    def message(self) -> str:
        return "expected `=` before this"


@dataclass(frozen=True)
class MissingHeader(SituationFault):
    """A rule, a block or a model without its parentheses.

    Wrong:

        rule nothing {
            return 0
        }

    Right:

        rule nothing() {
            return 0
        }
    """

    code = "E0120"
    title = "missing parentheses"
    cases = ("rule r {", "block r {", "model r {", "rule r [", "block r [", "model r [")

    @property
    def message(self) -> str:
        return "expected the parameters in parentheses before this"

    @property
    def help(self) -> str:
        return "write `()` if there are none"


@dataclass(frozen=True)
class NotAnAxis(SituationFault):
    """A bracket holds the names of axes, and nothing else. There are no positions and no slices.

    Wrong:

        rule first(x[d]) {
            return x[0]
        }

    Right:

        rule first(x[d]) {
            return sum[d](x)
        }
    """

    code = "E0121"
    title = "not the name of an axis"
    cases = tuple(
        f"rule {start}{found}"
        for start in (
            "r() { return x[",
            "r() { return x[n, ",
            "r(x[",
            "r(x[n, ",
            "r() { let x[",
            "r() { return x[n -> ",
        )
        for found in ("1", "(", "-", "]", ":", "a'")
    ) + tuple(
        f"rule {start}{found}"
        for start in ("r() { return x[n ", "r(x[n ", "r() { let x[n ", "r() { return x[n -> e ")
        for found in ("+", "-", "*", "/", "(", "=", ":", "1")
    )

    @property
    def message(self) -> str:
        return "only names of axes stand between `[` and `]`"

    @property
    def notes(self) -> tuple[str, ...]:
        return ("a size is a setting: give it a name after the `;` of the header, such as `n = 2 * d`",)


@dataclass(frozen=True)
class UnusedValue(SituationFault):
    """A value on its own, which nothing would ever use.

    Wrong:

        block keep(x[d]) {
            rms_norm(x)
            return x
        }

    Right:

        block keep(x[d]) {
            x = rms_norm(x)
            return x
        }
    """

    code = "E0122"
    title = "unused value"
    cases = tuple(
        f"@ {start} {found}" for start in ("x", "s'") for found in ("(", "+", "-", "*", "/", "^", "}")
    ) + tuple(f"rule r() {{ {found}" for found in ("1", "(", "-", "not", "true", "false"))

    @property
    def message(self) -> str:
        return "this is not a statement: its value is not used"

    @property
    def help(self) -> str:
        return "give it a name with `let name = ...`, or `return` it"


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
class EqualsInExpression(SituationFault):
    """`=` gives a name to a value; `==` compares two values.

    Wrong:

        block keep(x[d]; depth = 1) {
            if depth = 1 {
                x = 2 * x
            }
            return x
        }

    Right:

        block keep(x[d]; depth = 1) {
            if depth == 1 {
                x = 2 * x
            }
            return x
        }
    """

    code = "E0125"
    title = "`=` in an expression"
    cases = (
        "rule r() { if a =",
        "rule r() { if a % 2 =",
        "rule r() { if a and b =",
        "rule r() { if a and b % 2 =",
        "rule r() { return (a =",
        "rule r() { if not a =",
    )

    @property
    def message(self) -> str:
        return "`=` does not compare"

    @property
    def help(self) -> str:
        return "write `==`"


@dataclass(frozen=True)
class NotALearner(Diagnostic):
    """A learner, a proximal operator and the structure of a memory are written as calls.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner 0.5
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner gd(rate = 0.5)
            return S'(k)
        }
    """

    code = "E0126"
    title = "not a call"

    what: str
    example: str

    @property
    def message(self) -> str:
        return f"{self.what} is written as a call"

    @property
    def help(self) -> str:
        return f"such as `{self.example}`"


@dataclass(frozen=True)
class RenameInCall(Diagnostic):
    """The bracket between a name and its arguments says over which axes to work; nothing is renamed there.

    Wrong:

        rule total(x[d]; e) {
            return sum[d -> e](x)
        }

    Right:

        rule total(x[d]) {
            return sum[d](x)
        }
    """

    code = "E0127"
    title = "rename in a call"

    @property
    def message(self) -> str:
        return "a call names the axes that it works over and renames none"

    @property
    def help(self) -> str:
        return "rename the argument or the result: `f(x[n -> e])`, `f(x)[n -> e]`"


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

    code = "E0128"
    title = "statement after `return`"

    where: str
    returned: Span

    @property
    def message(self) -> str:
        return f"nothing can follow the `return` of a {self.where}"

    @property
    def also(self) -> tuple[Label, ...]:
        return (Label(self.returned, "returns here"),)
