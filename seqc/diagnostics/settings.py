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
