"""E02xx: a name that nothing introduces, or that is introduced twice."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic, Label
from seqc.diagnostics.words import by_nearness, did_you_mean, listing
from seqc.source import Span


@dataclass(frozen=True)
class UnknownName(Diagnostic):
    """A value that nothing here introduces.

    An expression sees the parameters in the header, what `let`, `param`, `state` and `memory` introduce,
    and the settings; nothing from other items.

    Wrong:

        rule keep(decay, x[d]) {
            return dacay * x
        }

    Right:

        rule keep(decay, x[d]) {
            return decay * x
        }
    """

    code = "E0201"
    title = "unknown name"

    name: str
    known: tuple[str, ...]
    where: str

    @property
    def message(self) -> str:
        return f"there is no value `{self.name}` in {self.where}"

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.known or self.help is not None:
            return ()
        return (f"the values here are {listing(by_nearness(self.name, self.known))}",)

    @property
    def help(self) -> str | None:
        return did_you_mean(self.name, self.known)


@dataclass(frozen=True)
class UnknownCallee(Diagnostic):
    """A call of something that is neither an operation, nor a rule, nor a block, nor a memory of this rule.

    Wrong:

        block keep(x[d]) {
            return rmsnorm(x)
        }

    Right:

        block keep(x[d]) {
            return rms_norm(x)
        }
    """

    code = "E0202"
    title = "unknown operation"

    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"there is no operation, rule or block `{self.name}`"

    @property
    def help(self) -> str | None:
        return did_you_mean(self.name, self.known)


@dataclass(frozen=True)
class NameTaken(Diagnostic):
    """Two things of one kind with the same name in the same place.

    Axes and settings are one kind, values another: a state may be called `m` beside an axis `m`.

    Wrong:

        rule keep(x[d]) {
            let y = x
            let y = 2 * x
            return y
        }

    Right:

        rule keep(x[d]) {
            let y = x
            let z = 2 * x
            return y + z
        }
    """

    code = "E0203"
    title = "name already taken"

    name: str
    first: Span

    @property
    def message(self) -> str:
        return f"`{self.name}` already has a meaning here"

    @property
    def also(self) -> tuple[Label, ...]:
        return (Label(self.first, "first introduced here"),)


@dataclass(frozen=True)
class NotAState(Diagnostic):
    """A prime on the left of an equation whose name is not a state or a memory of one tensor.

    Wrong:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + x
            x' = h'
            return h'
        }

    Right:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + x
            return h'
        }
    """

    code = "E0204"
    title = "not a state"

    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"`{self.name}` is not a state: it has no next value to write"

    @property
    def help(self) -> str | None:
        return did_you_mean(self.name, self.known)


@dataclass(frozen=True)
class NotPrimed(Diagnostic):
    """A prime on a value that has no next value: only states, memories and stores change from one token to the next.

    Wrong:

        rule keep(x[d]) {
            return x'
        }

    Right:

        rule keep(x[d]) {
            return x
        }
    """

    code = "E0205"
    title = "prime on a value"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` has no next value: it is not a state, a memory or a store"

    @property
    def help(self) -> str:
        return f"write `{self.name}`"


@dataclass(frozen=True)
class NotWritten(Diagnostic):
    """The next value of a state before the equation that gives it. Equations are read in their order, and
    a bare name is the value before the token.

    Wrong:

        rule ema(x[d]) {
            state h[d] = 0
            let y = 2 * h'
            h' = 0.9 * h + x
            return y
        }

    Right:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + x
            let y = 2 * h'
            return y
        }
    """

    code = "E0206"
    title = "used before its equation"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}'` is used before the equation that gives it"

    @property
    def help(self) -> str:
        return f"move this below the equation of `{self.name}`, or write `{self.name}` for the value before the token"


@dataclass(frozen=True)
class WrittenTwice(Diagnostic):
    """A second equation for a state, or an equation for a memory that the four choices write.

    Wrong:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h
            h' = h + x
            return h'
        }

    Right:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + x
            return h'
        }
    """

    code = "E0207"
    title = "second equation"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` already has an equation"

    @property
    def help(self) -> str:
        return "give the first part a name with `let`"


@dataclass(frozen=True)
class NotAFunction(Diagnostic):
    """A value with parentheses behind it. Only memories that map keys to values, operations, rules and
    blocks are called.

    Wrong:

        rule keep(x[d], g) {
            return g(x)
        }

    Right:

        rule keep(x[d], g) {
            return g * x
        }
    """

    code = "E0208"
    title = "not a function"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` is a value and cannot be called"

    @property
    def help(self) -> str:
        return f"write `{self.name} * (...)` for a product"


@dataclass(frozen=True)
class NotAValue(Diagnostic):
    """The name of an operation, a rule, a block or a memory of several tensors where one value is wanted.

    Wrong:

        rule keep(x[d]) {
            return exp * x
        }

    Right:

        rule keep(x[d]) {
            return exp(x)
        }
    """

    code = "E0209"
    title = "not a value"

    name: str
    what: str

    @property
    def message(self) -> str:
        return f"`{self.name}` is not a value here: it is {self.what}"


@dataclass(frozen=True)
class UnknownSettingName(Diagnostic):
    """A name in settings arithmetic that is no setting. Sizes, counts and conditions are worked out
    before anything runs, from numbers and settings alone.

    Wrong:

        block twice(x[d]; times = 2) {
            repeat tims {
                x = 2 * x
            }
            return x
        }

    Right:

        block twice(x[d]; times = 2) {
            repeat times {
                x = 2 * x
            }
            return x
        }
    """

    code = "E0210"
    title = "unknown setting in arithmetic"

    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"there is no setting `{self.name}` here"

    @property
    def help(self) -> str | None:
        return did_you_mean(self.name, self.known)


@dataclass(frozen=True)
class UnknownWord(Diagnostic):
    """A word that is none of those that the language has for this place.

    Wrong:

        rule titans(q[n], k[n], v[m]) {
            memory M: n -> m = mpl(hidden = 16)
            objective 0.5 * sumsq(M(k) - v)
            learner gd(rate = 0.1)
            return M'(q)
        }

    Right:

        rule titans(q[n], k[n], v[m]) {
            memory M: n -> m = mlp(hidden = 16)
            objective 0.5 * sumsq(M(k) - v)
            learner gd(rate = 0.1)
            return M'(q)
        }
    """

    code = "E0211"
    title = "unknown word"

    what: str
    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"there is no {self.what} `{self.name}`"

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"there is {listing(by_nearness(self.name, self.known))}",)

    @property
    def help(self) -> str | None:
        return did_you_mean(self.name, self.known)


@dataclass(frozen=True)
class BuiltinName(Diagnostic):
    """A rule or a block with the name of an operation of the language. One with the name of something in
    the standard library is allowed: it takes its place.

    Wrong:

        block linear(x[d]) {
            return 2 * x
        }

    Right:

        block double(x[d]) {
            return 2 * x
        }
    """

    code = "E0212"
    title = "name of an operation"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` is an operation of the language"
