"""E05xx: the four choices of a rule."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic, Label
from seqc.diagnostics.words import axes, did_you_mean
from seqc.source import Span


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


@dataclass(frozen=True)
class ObjectiveNotScalar(Diagnostic):
    """An objective that is not one number. It is summed over its axes first.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective (S(k) - v) ^ 2
            learner gd(rate = 0.5)
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

    code = "E0507"
    title = "objective is not one number"

    has: tuple[str, ...]

    @property
    def message(self) -> str:
        return f"an objective is one number, and this has {axes(self.has)}"

    @property
    def help(self) -> str:
        return "sum it, as in `sum(...)` or `sumsq(...)`"


@dataclass(frozen=True)
class MissingChoice(Diagnostic):
    """A memory with some of its four choices and without one that they need: an objective needs a
    learner, and a learner an objective.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v)
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

    code = "E0508"
    title = "missing choice"

    memory: str
    choice: str
    example: str

    @property
    def message(self) -> str:
        return f"the memory `{self.memory}` has no {self.choice}"

    @property
    def help(self) -> str:
        return f"write `{self.example}`"


@dataclass(frozen=True)
class ChosenTwice(Diagnostic):
    """A second objective, or a second retention or learner for the same memory.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v)
            objective sumsq(S(k))
            learner gd(rate = 0.5)
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v) + sumsq(S(k))
            learner gd(rate = 0.5)
            return S'(k)
        }
    """

    code = "E0509"
    title = "chosen twice"

    choice: str
    first: Span

    @property
    def message(self) -> str:
        return f"there already is {'an' if self.choice == 'objective' else 'a'} {self.choice}"

    @property
    def also(self) -> tuple[Label, ...]:
        return (Label(self.first, "the first one"),)


@dataclass(frozen=True)
class NameTheMemory(Diagnostic):
    """A retention or a proximal operator that does not say which of several memories it is about.

    Wrong:

        rule two(k[n], v[m]) {
            memory A: n -> m
            memory B: n -> m
            objective sumsq(A(k) + B(k) - v)
            retention 0.9 * A + 0.1 * B
            learner gd(rate = 0.5)
            return A'(k) + B'(k)
        }

    Right:

        rule two(k[n], v[m]) {
            memory A: n -> m
            memory B: n -> m
            objective sumsq(A(k) + B(k) - v)
            retention A: 0.9 * A + 0.1 * B
            learner gd(rate = 0.5)
            return A'(k) + B'(k)
        }
    """

    code = "E0510"
    title = "which memory"

    known: tuple[str, ...]

    @property
    def message(self) -> str:
        return "it is not clear which memory this is about" if self.known else "this rule has no memory"

    @property
    def help(self) -> str | None:
        return f"say which: `retention {self.known[0]}: ...`" if self.known else None


@dataclass(frozen=True)
class HeldAtRetained(Diagnostic):
    """A gradient that is held for several tokens and yet taken at the retained memory, which changes with every token.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v)
            retention 0.9 * S
            learner gd(rate = 0.5, at = retained, every = 16)
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v)
            retention 0.9 * S
            learner gd(rate = 0.5, every = 16)
            return S'(k)
        }
    """

    code = "E0511"
    title = "held gradient at the retained memory"

    @property
    def message(self) -> str:
        return "`every` holds the gradient at an earlier memory, and `at = retained` takes it at this one"

    @property
    def help(self) -> str:
        return "leave one of them out"


@dataclass(frozen=True)
class HeldImplicit(Diagnostic):
    """An implicit step that is held for several tokens. An implicit step is taken at the memory that it leads to.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner implicit(rate = 0.5, every = 16)
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner implicit(rate = 0.5)
            return S'(k)
        }
    """

    code = "E0512"
    title = "held implicit step"

    @property
    def message(self) -> str:
        return "an implicit step cannot be held"

    @property
    def help(self) -> str:
        return "leave out `every`"


@dataclass(frozen=True)
class NoClosedForm(Diagnostic):
    """An implicit step without a closed form. There is one for an objective that is quadratic, entry by
    entry, in what a linear memory answers to one key.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sum(abs(S(k) - v))
            learner implicit(rate = 0.5)
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner implicit(rate = 0.5)
            return S'(k)
        }
    """

    code = "E0513"
    title = "no closed form"

    memory: str
    reason: str

    @property
    def message(self) -> str:
        return f"the implicit step of `{self.memory}` has no closed form: {self.reason}"

    @property
    def help(self) -> str:
        return "take a gradient step, as in `learner gd(rate = ...)`"


@dataclass(frozen=True)
class NotDifferentiableHere(Diagnostic):
    """An operation without a derivative between the memory and the objective."""

    code = "E0514"
    title = "no derivative"

    @property
    def message(self) -> str:
        return "this has no derivative with respect to the memory"


@dataclass(frozen=True)
class GradientPoint(Diagnostic):
    """`at` says where the gradient is taken: at the memory before the token (`previous`, which is what
    happens without it) or at what is kept of it (`retained`). Several steps start from one memory: with a
    retention they need `at = retained`.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v)
            learner gd(rate = 0.5, at = kept)
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective sumsq(S(k) - v)
            learner gd(rate = 0.5, at = retained)
            return S'(k)
        }
    """

    code = "E0515"
    title = "unclear gradient point"

    @property
    def message(self) -> str:
        return "it is not clear at which memory the gradient is taken"

    @property
    def help(self) -> str:
        return "write `at = retained` or `at = previous`"


@dataclass(frozen=True)
class DoesNotCombine(Diagnostic):
    """Two choices that each make sense and that have no meaning together. The message says why.

    Wrong:

        rule keep(k[n], v[m], q[n]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            retention 0.9 * S
            learner rls(rate = 1, ridge = 1)
            return S'(q)
        }

    Right:

        rule keep(k[n], v[m], q[n]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner rls(rate = 1, ridge = 1, decay = 0.9)
            return S'(q)
        }
    """

    code = "E0522"
    title = "choices that do not combine"

    one: str
    other: str
    reason: str

    @property
    def message(self) -> str:
        return f"{self.one} does not go with {self.other}: {self.reason}"


@dataclass(frozen=True)
class NotAMap(Diagnostic):
    """A mirror map, a proximal operator or a direction that does not give a tensor like the one it takes. It is a
    function whose first argument is left out: `softmax[n]`, `soft_threshold(0.1)`.

    Wrong:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner gd(rate = 0.5, direction = 2 * k)
            return S'(k)
        }

    Right:

        rule keep(k[n], v[m]) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner gd(rate = 0.5, direction = sign)
            return S'(k)
        }
    """

    code = "E0523"
    title = "not a function of the memory"

    reason: str

    @property
    def message(self) -> str:
        return self.reason

    @property
    def help(self) -> str:
        return "name a function and leave out its first argument, as in `softmax[n]` or `soft_threshold(0.1)`"
