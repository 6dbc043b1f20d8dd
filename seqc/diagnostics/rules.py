"""E05xx: what the statements of a rule compute."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic


@dataclass(frozen=True)
class WrongKind(Diagnostic):
    """A number, a condition, a complex number or tokens where another of these is wanted. Comparisons
    give conditions, for `where`; tokens are embedded first; only some operations take complex numbers.

    Wrong:

        rule positive(x[d]) {
            return x * (x > 0)
        }

    Right:

        rule positive(x[d]) {
            return where(x > 0, x, 0)
        }
    """

    code = "E0504"
    title = "wrong kind of value"

    wanted: str
    found: str

    @property
    def message(self) -> str:
        return f"expected {self.wanted}, found {self.found}"


@dataclass(frozen=True)
class RandomOutsideParameter(Diagnostic):
    """A random draw outside the initial value of a parameter. What a rule or a block computes is never random.

    Wrong:

        rule noisy(x[d]) {
            return x + normal(0, 1)
        }

    Right:

        rule biased(x[d]) {
            param b[d] = normal(0, 1)
            return x + b
        }
    """

    code = "E0505"
    title = "random draw"

    op: str

    @property
    def message(self) -> str:
        return f"`{self.op}` draws at random, which only the initial value of a parameter may"


@dataclass(frozen=True)
class RepeatTooLong(Diagnostic):
    """A `repeat` of a rule with more repetitions than the limit. What a rule repeats happens at every token, one step
    after the other, and is written out.

    Wrong:

        rule settle(x[d]) {
            let y = x
            repeat 1000 {
                y = 0.5 * (y + x / y)
            }
            return y
        }

    Right:

        rule settle(x[d]) {
            let y = x
            repeat 10 {
                y = 0.5 * (y + x / y)
            }
            return y
        }
    """

    code = "E0519"
    title = "too many repetitions in a rule"

    times: str
    limit: int

    @property
    def message(self) -> str:
        return f"{self.times} repetitions at one token; a rule may have {self.limit}"


@dataclass(frozen=True)
class NotRebindable(Diagnostic):
    """A `repeat` of a rule that binds a name again which no `let` introduced. States have one equation, and what
    the rule is given stays what it is.

    Wrong:

        rule settle(x[d]) {
            repeat 10 {
                x = tanh(x)
            }
            return x
        }

    Right:

        rule settle(x[d]) {
            let y = x
            repeat 10 {
                y = tanh(y)
            }
            return y
        }
    """

    code = "E0520"
    title = "name that cannot be bound again"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` cannot be bound again: no `let` introduced it"

    @property
    def help(self) -> str:
        return f"write `let` with a new name for `{self.name}` before `repeat`, and bind that again"


@dataclass(frozen=True)
class WeightsInRepeat(Diagnostic):
    """An operation with weights in a `repeat` of a rule. The repetitions are steps of one computation: weights
    are made before it.

    Wrong:

        rule settle(x[d]) {
            let y = x
            repeat 3 {
                y = tanh(linear(y) -> [d])
            }
            return y
        }

    Right:

        rule settle(x[d]; e = d) {
            param W[d, e] = normal(0, 0.1)
            let   y = x
            repeat 3 {
                y = tanh(sum[e](W * y[d -> e]))
            }
            return y
        }
    """

    code = "E0521"
    title = "weights inside `repeat` of a rule"

    name: str

    @property
    def message(self) -> str:
        return f"`{self.name}` would be made anew in every repetition"

    @property
    def help(self) -> str:
        return "declare a `param` before `repeat`"
