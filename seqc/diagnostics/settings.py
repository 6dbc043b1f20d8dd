"""E04xx: settings and the sizes that they give to axes."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import by_nearness, did_you_mean, listing


@dataclass(frozen=True)
class UnknownSetting(Diagnostic):
    """A setting that this rule, block or model does not have.

    Wrong:

        block keep(x[d]; scale = 2) {
            return scale * x
        }

        model m(x[d]; d = 8) {
            return keep(x, scales = 3)
        }

    Right:

        block keep(x[d]; scale = 2) {
            return scale * x
        }

        model m(x[d]; d = 8) {
            return keep(x, scale = 3)
        }
    """

    code = "E0401"
    title = "unknown setting"

    name: str
    owner: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{self.owner} has no setting `{self.name}`"

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.known:
            return (f"{self.owner} has no settings",)
        return (f"its settings are {listing(by_nearness(self.name, self.known))}",)

    @property
    def help(self) -> str | None:
        return did_you_mean(self.name, self.known)


@dataclass(frozen=True)
class NotAWholeSize(Diagnostic):
    """A size that is not a whole number, or not positive.

    Wrong:

        model m(x[f]; f = 4, d = 10, h = 4, n = d / h) {
            let y[h, n] = linear(x)
            return linear(y) -> [f]
        }

    Right:

        model m(x[f]; f = 4, d = 12, h = 4, n = d / h) {
            let y[h, n] = linear(x)
            return linear(y) -> [f]
        }
    """

    code = "E0402"
    title = "not a size"

    name: str
    value: str
    because: str = ""

    @property
    def message(self) -> str:
        return f"the size `{self.name}` is {self.value}, which is not a positive whole number"

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.because,) if self.because else ()

    @property
    def help(self) -> str:
        return "choose settings that make it a whole number of at least 1, in the spec or with `--set`"


@dataclass(frozen=True)
class TooLarge(Diagnostic):
    """A size, a count or a tensor larger than the limit.

    Wrong:

        block wide(x[d]; w = 1000000000) {
            let y[w] = linear(x)
            return linear(y) -> [d]
        }

    Right:

        block wide(x[d]; w = 1000) {
            let y[w] = linear(x)
            return linear(y) -> [d]
        }
    """

    code = "E0403"
    title = "too large"

    what: str
    value: str
    limit: int

    @property
    def message(self) -> str:
        return f"{self.what} is {self.value}; the limit is {self.limit:,}"


@dataclass(frozen=True)
class TooMuchWork(Diagnostic):
    """A program that means more expressions than the limit, usually by repeating what repeats."""

    code = "E0404"
    title = "too much work"

    limit: int

    @property
    def message(self) -> str:
        return f"this program means more than {self.limit:,} expressions"


@dataclass(frozen=True)
class NotSettingsArithmetic(Diagnostic):
    """Something in settings arithmetic that is not made of numbers, settings, operators and `min`, `max`,
    `ceil`, `floor`, `round`, `sqrt`, `exp`, `log`, `abs`.

    Wrong:

        block wide(x[d]; w = silu(d)) {
            let y[w] = linear(x)
            return linear(y) -> [d]
        }

    Right:

        block wide(x[d]; w = 2 * d) {
            let y[w] = linear(x)
            return linear(y) -> [d]
        }
    """

    code = "E0405"
    title = "not settings arithmetic"

    @property
    def message(self) -> str:
        return "this cannot be worked out from numbers and settings"


@dataclass(frozen=True)
class NoNumber(Diagnostic):
    """Settings arithmetic without a result, such as a division by zero or the logarithm of a negative number.

    Wrong:

        block wide(x[d]; w = 8 / 0) {
            let y[w] = linear(x)
            return linear(y) -> [d]
        }

    Right:

        block wide(x[d]; w = 8 / 1) {
            let y[w] = linear(x)
            return linear(y) -> [d]
        }
    """

    code = "E0406"
    title = "no number"

    @property
    def message(self) -> str:
        return "this has no finite value"


@dataclass(frozen=True)
class SizesDiffer(Diagnostic):
    """Two axes that are to be the same and have different lengths.

    Wrong:

        model m(x[f]; f = 4, d = 8, e = 16) {
            let y[d] = linear(x)
            let z[e] = linear(x)
            return z * y[d -> e]
        }

    Right:

        model m(x[f]; f = 4, d = 8, e = 8) {
            let y[d] = linear(x)
            let z[e] = linear(x)
            return z * y[d -> e]
        }
    """

    code = "E0407"
    title = "sizes differ"

    one: str
    one_size: int
    other: str
    other_size: int

    @property
    def message(self) -> str:
        return f"`{self.one}` has the length {self.one_size}, and `{self.other}` has {self.other_size}"


@dataclass(frozen=True)
class PartsDoNotAddUp(Diagnostic):
    """Parts of a split or a concatenation whose lengths do not sum to the length of the whole.

    Wrong:

        model m(x[f]; f = 4, d = 8, e = 3) {
            let y[d] = linear(x)
            let a[e], b[e] = split(y)
            return a * b
        }

    Right:

        model m(x[f]; f = 4, d = 8, e = 4) {
            let y[d] = linear(x)
            let a[e], b[e] = split(y)
            return a * b
        }
    """

    code = "E0408"
    title = "parts do not add up"

    axis: str
    size: int
    found: int

    @property
    def message(self) -> str:
        return f"`{self.axis}` has the length {self.size}, and the parts together have {self.found}"


@dataclass(frozen=True)
class OutOfRange(Diagnostic):
    """A number outside the range that makes sense for it, such as a position beyond the end of an axis or
    a dropout rate of 2.

    Wrong:

        block keep(x[d]) {
            return dropout(x, rate = 2)
        }

    Right:

        block keep(x[d]) {
            return dropout(x, rate = 0.2)
        }
    """

    code = "E0409"
    title = "out of range"

    value: str
    what: str

    @property
    def message(self) -> str:
        return f"{self.value} is not {self.what}"


@dataclass(frozen=True)
class MissingSetting(Diagnostic):
    """A setting without a default that the caller does not give.

    Wrong:

        block wide(x[d]; w) {
            let y[w] = linear(x)
            return linear(y) -> [d]
        }

        block keep(x[d]) {
            return wide(x)
        }

    Right:

        block wide(x[d]; w) {
            let y[w] = linear(x)
            return linear(y) -> [d]
        }

        block keep(x[d]) {
            return wide(x, 64)
        }
    """

    code = "E0410"
    title = "missing setting"

    names: tuple[str, ...]
    owner: str
    outside: bool = False  # wanted by the command line or by Python, not by a call in the text

    @property
    def message(self) -> str:
        return f"{self.owner} needs the setting{'s' * (len(self.names) > 1)} {listing(self.names)}"

    @property
    def help(self) -> str:
        if not self.outside:
            return f"add `{self.names[0]} = ...`"
        options = " ".join(f"--set {name}=64" for name in self.names)
        return f"give sizes: `{options}`; or write defaults behind the inputs, as in `; {self.names[0]} = 64`"
