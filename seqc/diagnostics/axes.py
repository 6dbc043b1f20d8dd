"""E03xx: axes that are unknown, missing or too many."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import axes, did_you_mean, listing


@dataclass(frozen=True)
class AxisNotThere(Diagnostic):
    """A sum, a softmax or a rename over an axis that the value does not have.

    Wrong:

        rule total(x[d]; n) {
            return sum[n](x)
        }

    Right:

        rule total(x[d]) {
            return sum[d](x)
        }
    """

    code = "E0301"
    title = "no such axis in this value"

    axis: str
    has: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"this value has no axis `{self.axis}`"

    @property
    def label(self) -> str:
        return f"it has {axes(self.has)}"

    @property
    def help(self) -> str | None:
        return did_you_mean(self.axis, self.has)


@dataclass(frozen=True)
class AxesDiffer(Diagnostic):
    """A value whose axes are not the declared ones.

    Elementwise operations broadcast by name; a binding, a state or a result never does: it has exactly
    the axes that are written.

    Wrong:

        rule outer(k[n], v[m]) {
            let a[n] = k * v
            return sum[n](a)
        }

    Right:

        rule outer(k[n], v[m]) {
            let a[m, n] = k * v
            return sum[n](a)
        }
    """

    code = "E0302"
    title = "axes differ"

    what: str
    declared: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"{self.what} has {axes(self.declared)}, but the value has {axes(self.found)}"

    @property
    def help(self) -> str | None:
        extra = [axis for axis in self.found if axis not in self.declared]
        missing = [axis for axis in self.declared if axis not in self.found]
        if len(extra) == 1 and len(missing) == 1:
            return f"rename the axis with `[{extra[0]} -> {missing[0]}]`"
        if extra and not missing:
            return f"reduce over {listing(extra)}, or declare {axes(self.found)}"
        return None
