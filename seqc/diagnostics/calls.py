"""E01xx, continued: calls and their arguments."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic, Label
from seqc.source import Span


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
class PositionalAfterKeyword(Diagnostic):
    """In a call, the arguments that are named come last.

    Wrong:

        block keep(x[d]) {
            return causal_conv(width = 4, x)
        }

    Right:

        block keep(x[d]) {
            return causal_conv(x, width = 4)
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
            return causal_conv(x, width = 4, width = 3)
        }

    Right:

        block keep(x[d]) {
            return causal_conv(x, width = 4)
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
