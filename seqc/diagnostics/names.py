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
