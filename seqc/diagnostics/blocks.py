"""E06xx: blocks and models."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import axes, by_nearness, did_you_mean, listing


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


@dataclass(frozen=True)
class ArgumentCount(Diagnostic):
    """A call with too many or too few arguments.

    Wrong:

        rule keep(x[d]) {
            return exp(x, x)
        }

    Right:

        rule keep(x[d]) {
            return exp(x)
        }
    """

    code = "E0603"
    title = "number of arguments"

    callee: str
    wanted: str
    found: int

    @property
    def message(self) -> str:
        return f"`{self.callee}` takes {self.wanted}, and {self.found} {'is' if self.found == 1 else 'are'} given"


@dataclass(frozen=True)
class UnknownArgument(Diagnostic):
    """A named argument that the call does not have.

    Wrong:

        block keep(x[d]) {
            return causal_conv(x, with = 4)
        }

    Right:

        block keep(x[d]) {
            return causal_conv(x, width = 4)
        }
    """

    code = "E0604"
    title = "unknown argument"

    name: str
    callee: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"`{self.callee}` has no argument `{self.name}`"

    @property
    def notes(self) -> tuple[str, ...]:
        return (
            (f"its named arguments are {listing(by_nearness(self.name, self.known))}",) if self.known else ()
        )

    @property
    def help(self) -> str | None:
        return did_you_mean(self.name, self.known)


@dataclass(frozen=True)
class MissingArgument(Diagnostic):
    """A call without an argument that it needs.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v)
            learner gd()
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v)
            learner gd(rate = 0.5)
            return S'(k)
        }
    """

    code = "E0605"
    title = "missing argument"

    callee: str
    name: str
    example: str

    @property
    def message(self) -> str:
        return f"`{self.callee}` needs `{self.name}`"

    @property
    def help(self) -> str:
        return f"write `{self.example}`"


@dataclass(frozen=True)
class GivenTwice(Diagnostic):
    """An argument that is given twice, by its position and by its name.

    Wrong:

        rule scaled(x[d], g) {
            return g * x
        }

        block keep(x[d]) {
            return scaled(x, 2, g = 3)
        }

    Right:

        rule scaled(x[d], g) {
            return g * x
        }

        block keep(x[d]) {
            return scaled(x, g = 3)
        }
    """

    code = "E0606"
    title = "argument given twice"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` is given twice"


@dataclass(frozen=True)
class NotInRule(Diagnostic):
    """Something in a rule that only makes sense for a whole sequence. A rule says what happens at one
    token: a block calls the convolution, the rule and the next operation.

    Wrong:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + causal_conv(x, width = 4)
            return h'
        }

    Right:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + x
            return h'
        }

        block smooth(x[d]) {
            return ema(causal_conv(x, width = 4))
        }
    """

    code = "E0607"
    title = "not in a rule"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` works on whole sequences, and a rule sees one token"

    @property
    def help(self) -> str:
        return "call it in a block and pass the result to the rule"


@dataclass(frozen=True)
class OutputCount(Diagnostic):
    """A call whose results are more or fewer than the names for them.

    Wrong:

        rule two(x[d]) {
            return x, 2 * x
        }

        block keep(x[d]) {
            let a, b, c = two(x)
            return a + b + c
        }

    Right:

        rule two(x[d]) {
            return x, 2 * x
        }

        block keep(x[d]) {
            let a, b = two(x)
            return a + b
        }
    """

    code = "E0608"
    title = "number of results"

    wanted: int
    found: int

    @property
    def message(self) -> str:
        values = "value is" if self.wanted == 1 else "values are"
        return f"{self.wanted} {values} wanted here, and this gives {self.found}"


@dataclass(frozen=True)
class ReboundAxes(Diagnostic):
    """A name that is given a new value with other axes. A name keeps its axes.

    Wrong:

        block keep(x[d]; w = 16) {
            x = linear(x) -> [w]
            return x
        }

    Right:

        block keep(x[d]; w = 16) {
            let y[w] = linear(x)
            return y
        }
    """

    code = "E0609"
    title = "rebound with other axes"

    name: str
    old: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"`{self.name}` has {axes(self.old)}, and this value has {axes(self.new)}"

    @property
    def help(self) -> str:
        return "give it a name of its own with `let`"


@dataclass(frozen=True)
class Recursive(Diagnostic):
    """A block that calls itself, directly or by way of others. What repeats is written with `repeat`.

    Wrong:

        block twice(x[d]) {
            return twice(2 * x)
        }

    Right:

        block twice(x[d]) {
            repeat 2 {
                x = 2 * x
            }
            return x
        }
    """

    code = "E0610"
    title = "recursive block"

    chain: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"`{self.chain[0]}` calls itself"

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"by way of {listing(self.chain[1:])}",) if len(self.chain) > 1 else ()


@dataclass(frozen=True)
class RepeatsNothing(Diagnostic):
    """A `repeat` whose body gives no new value to a name from outside it: nothing would come of it.

    Wrong:

        block keep(x[d]) {
            repeat 2 {
                let y = 2 * x
            }
            return x
        }

    Right:

        block keep(x[d]) {
            repeat 2 {
                x = 2 * x
            }
            return x
        }
    """

    code = "E0611"
    title = "nothing is repeated"

    @property
    def message(self) -> str:
        return "this body changes nothing outside it"

    @property
    def help(self) -> str:
        return "give a new value to a name from outside, as in `x = x + ...`"


@dataclass(frozen=True)
class NotAModelCall(Diagnostic):
    """A model that is called. Blocks are what models are made of.

    Wrong:

        model inner(x[d]; d = 8) {
            return x
        }

        block keep(x[d]) {
            return inner(x)
        }

    Right:

        block inner(x[d]) {
            return x
        }

        block keep(x[d]) {
            return inner(x)
        }
    """

    code = "E0612"
    title = "call of a model"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` is a model and cannot be called"

    @property
    def help(self) -> str:
        return "make it a block"


@dataclass(frozen=True)
class StatefulInRule(Diagnostic):
    """A rule, or a block with parameters or a state of its own, called inside a rule. A rule may use
    blocks that only compute, and that repeat nothing more than 64 times.

    Wrong:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + rms_norm(x)
            return h'
        }

    Right:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + l2_norm(x)
            return h'
        }
    """

    code = "E0613"
    title = "call inside a rule"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` does more than compute, and cannot be called inside a rule"

    @property
    def help(self) -> str:
        return "call it in a block and pass the result to the rule"
