"""E05xx: memories, states and stores."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic


@dataclass(frozen=True)
class MemoryStructure(Diagnostic):
    """A memory whose structure does not fit its axes, or an option of it that makes no sense.

    Wrong:

        rule keep(k[n], v[m]) {
            memory M: n -> m = mlp(activation = silu)
            objective sumsq(M(k) - v)
            learner gd(rate = 0.5)
            return M'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory M: n -> m = mlp(hidden = 16, activation = silu)
            objective sumsq(M(k) - v)
            learner gd(rate = 0.5)
            return M'(k)
        }
    """

    code = "E0516"
    title = "structure of a memory"

    reason: str

    @property
    def message(self) -> str:
        return f"{self.reason}"


@dataclass(frozen=True)
class StoreOption(Diagnostic):
    """An option of a store that makes no sense. A store takes `window`, the number of tokens that it
    shows, and `sinks`, the number of first tokens that it shows besides.

    Wrong:

        rule attend(q[n], k[n], v[m]) {
            store K[s, n] = k, windows = 16
            store V[s, m] = v
            return sum[s](softmax[s](sum[n](q * K')) * V')
        }

    Right:

        rule attend(q[n], k[n], v[m]) {
            store K[s, n] = k, window = 16
            store V[s, m] = v, window = 16
            return sum[s](softmax[s](sum[n](q * K')) * V')
        }
    """

    code = "E0517"
    title = "option of a store"

    reason: str

    @property
    def message(self) -> str:
        return f"{self.reason}"


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
class InitialDependsOnToken(Diagnostic):
    """An initial value of a state or a parameter that depends on the token. There is no token yet: it is
    made of numbers, settings and parameters.

    Wrong:

        rule ema(x[d]) {
            state h[d] = x
            h' = 0.9 * h + x
            return h'
        }

    Right:

        rule ema(x[d]) {
            state h[d] = 0
            h' = 0.9 * h + x
            return h'
        }
    """

    code = "E0506"
    title = "initial value depends on the token"

    @property
    def message(self) -> str:
        return "an initial value cannot depend on the token"
