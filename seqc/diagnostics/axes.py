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


@dataclass(frozen=True)
class UnknownAxis(Diagnostic):
    """An axis that nothing gives a length. Axes come from the parameters of a rule or block and from the settings after
    the `;` of its header.

    Wrong:

        rule ema(x[d]) {
            state h[e] = 0
            h' = 0.9 * h
            return h' * x
        }

    Right:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + x
            return h'
        }
    """

    code = "E0303"
    title = "unknown axis"

    axis: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"there is no axis `{self.axis}` here"

    @property
    def notes(self) -> tuple[str, ...]:
        return (f"the axes here are {listing(self.known)}",) if self.known else ()

    @property
    def help(self) -> str:
        return (
            did_you_mean(self.axis, self.known) or f"add a setting `{self.axis}` after the `;` of the header"
        )


@dataclass(frozen=True)
class AxisTaken(Diagnostic):
    """A rename onto an axis that the value already has, or a memory whose keys and values share an axis.
    Two axes of one value have two names.

    Wrong:

        rule outer(k[n], v[m]) {
            let a = k * v
            return a[m -> n]
        }

    Right:

        rule outer(k[n], v[m]) {
            let a = k * v
            return sum[m](a)
        }
    """

    code = "E0304"
    title = "two axes with one name"

    axis: str
    has: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"there already is an axis `{self.axis}` in this value"

    @property
    def label(self) -> str:
        return f"it has {axes(self.has)}"


@dataclass(frozen=True)
class AxisToName(Diagnostic):
    """An operation along one axis, applied to a value with several, without saying which; or a bracket on
    an operation that works entry by entry.

    Wrong:

        block normed(x[h, n]) {
            return softmax(x)
        }

    Right:

        block normed(x[h, n]) {
            return softmax[n](x)
        }
    """

    code = "E0305"
    title = "axis not named"

    callee: str
    has: tuple[str, ...]
    elementwise: bool = False

    @property
    def message(self) -> str:
        if self.elementwise:
            return f"`{self.callee}` works entry by entry and takes no axis"
        return f"`{self.callee}` works along one axis, and this value has {axes(self.has)}"

    @property
    def help(self) -> str | None:
        return f"write `{self.callee}[{self.has[-1]}](...)`" if self.has else None


@dataclass(frozen=True)
class ConcatAxes(Diagnostic):
    """Parts whose axes do not say along which one they are joined: each part has one axis of its own, and
    the result has one that no part has.

    Wrong:

        block joined(x[d]; n = 2 * d) {
            return concat(x, x)
        }

    Right:

        block joined(x[d]; n = 2 * d) {
            return concat[n](x, x)
        }
    """

    code = "E0306"
    title = "unclear concatenation"

    has: tuple[str, ...]
    wanted: tuple[str, ...] | None

    @property
    def message(self) -> str:
        return "it is not clear along which axis this is joined"

    @property
    def label(self) -> str:
        return f"it has {axes(self.has)}"

    @property
    def help(self) -> str:
        return "name the axis of the result, as in `let y[n] = concat(a, b)` or `concat[n](a, b)`"


@dataclass(frozen=True)
class SplitAxes(Diagnostic):
    """A part of a split that is not the whole with one axis replaced. Every part says its own axis, whose
    size is a setting.

    Wrong:

        block halves(x[d]; e = d / 2) {
            let a, b = split(x)
            return a * b
        }

    Right:

        block halves(x[d]; e = d / 2) {
            let a[e], b[e] = split(x)
            return a * b
        }
    """

    code = "E0307"
    title = "unclear split"

    has: tuple[str, ...]
    wanted: tuple[str, ...]

    @property
    def message(self) -> str:
        return "this part must have the axes of the whole, with one of them replaced"

    @property
    def label(self) -> str:
        return f"the whole has {axes(self.has)}"

    @property
    def help(self) -> str:
        return "write the axes of every part, as in `let a[e], b[e] = split(x)`"


@dataclass(frozen=True)
class AmbiguousAxis(Diagnostic):
    """An argument whose axes do not say which is meant. Equal names match; if then one declared axis and
    one axis of the argument are left over, they are the same; otherwise the argument is renamed.
    Positions never matter.

    Wrong:

        rule weighed(x[d], w[d]) {
            return sum[d](w * x)
        }

        block totals(x[a, b]) {
            return weighed(x, x)
        }

    Right:

        rule weighed(x[d], w[d]) {
            return sum[d](w * x)
        }

        block totals(x[a, b]) {
            return weighed(x[b -> d], x[b -> d])
        }
    """

    code = "E0308"
    title = "unclear axis"

    callee: str
    parameter: str
    axis: str
    has: tuple[str, ...]

    @property
    def message(self) -> str:
        owner = f"`{self.parameter}` of `{self.callee}`"
        return f"{owner} has the axis `{self.axis}`, and the argument does not say which axis that is"

    @property
    def label(self) -> str:
        return f"it has {axes(self.has)}"

    @property
    def help(self) -> str | None:
        return f"rename one: `[{self.has[-1]} -> {self.axis}]`" if self.has else None


@dataclass(frozen=True)
class ResultAxisTaken(Diagnostic):
    """A result with an axis that the caller already uses for something else.

    Wrong:

        block heads(x[d]; h, n) {
            let y[h, n] = linear(x)
            return y
        }

        block keep(x[d, h]) {
            let y = heads(sum[h](x), 4, 16)
            return y * x
        }

    Right:

        block heads(x[d]; h, n) {
            let y[h, n] = linear(x)
            return y
        }

        block keep(x[d, h]; g = 4, n = 16) {
            let y = heads(sum[h](x), g, n)
            return y * x
        }
    """

    code = "E0309"
    title = "axis of a result already taken"

    callee: str
    axis: str

    @property
    def message(self) -> str:
        return f"the result of `{self.callee}` has an axis `{self.axis}`, and here that is another axis"

    @property
    def help(self) -> str:
        return f"pass the axis by name: give a setting of this block for `{self.axis}`"
