"""E01xx, continued: faults that are recognised by example.

Whenever the parser stops in the same situation, before the same kind of word, as it does in one of the `cases`
of a class, that class says what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seqc.diagnostics.base import Diagnostic


@dataclass(frozen=True)
class SituationFault(Diagnostic):
    """A fault that is recognised by example.

    Each case stops the parser at its last word. `@` stands for the beginning of any statement.
    """

    cases: ClassVar[tuple[str, ...]] = ()


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
            exp(x)
            return x
        }

    Right:

        block keep(x[d]) {
            x = exp(x)
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
