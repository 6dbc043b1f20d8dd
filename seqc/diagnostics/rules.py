"""E05xx: memories, states, and the four choices of a rule."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import axes, did_you_mean


@dataclass(frozen=True)
class StateWithoutEquation(Diagnostic):
    """A state for which nothing says what its next value is.

    Wrong:

        rule ema(x[d]) {
            state h[d] = 0
            return h
        }

    Right:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + 0.1 * x
            return h'
        }
    """

    code = "E0501"
    title = "state without an equation"

    name: str

    @property
    def message(self) -> str:
        return f"the state `{self.name}` has no equation"

    @property
    def help(self) -> str:
        return f"write `{self.name}' = ...`"


@dataclass(frozen=True)
class UnknownLearner(Diagnostic):
    """A learner that the language does not have.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner sgd(rate = 0.5)
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

    code = "E0502"
    title = "unknown learner"

    name: str
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"there is no learner `{self.name}`"

    @property
    def help(self) -> str | None:
        return did_you_mean(self.name, self.known)


@dataclass(frozen=True)
class GateHasForeignAxis(Diagnostic):
    """A rate or a gate with an axis that the memory lacks: it would turn one memory into many.

    Wrong:

        rule keep(k[n], v[m], g[e]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            retention g * S
            learner gd(rate = 0.5)
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m], g[n]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            retention g * S
            learner gd(rate = 0.5)
            return S'(k)
        }
    """

    code = "E0503"
    title = "gate with an axis that the memory lacks"

    memory: str
    axis: str
    has: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"the axis `{self.axis}` is not one of the memory `{self.memory}`"

    @property
    def label(self) -> str:
        return f"`{self.memory}` has {axes(self.has)}"
