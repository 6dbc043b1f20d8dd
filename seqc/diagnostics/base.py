"""What every diagnostic is, and the error that carries several of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NoReturn

from seqc.source import Span

Severity = Literal["error", "warning"]

# More than this many in one run says nothing that the first ones did not.
MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Label:
    """A second place that a diagnostic points at, with what is to be seen there."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic(ABC):
    """One fault at one place.

    A subclass gives `code` and `title` on the class, its facts as typed fields after `span`, and the words as
    properties. Its docstring is the text of `seqc explain CODE` and must hold a *Wrong* and a *Right*
    example, which the tests compile. `span` is the smallest piece of text that shows the fault.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    severity: ClassVar[Severity] = "error"

    span: Span
    # The call in the user's text that led to a place in the standard library.
    call: Span | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    @abstractmethod
    def message(self) -> str:
        """One sentence, lowercase, no full stop, `code` in backticks."""

    @property
    def label(self) -> str:
        """A few words beside the underlined text; empty if the message says it all."""
        return ""

    @property
    def also(self) -> tuple[Label, ...]:
        return ()

    @property
    def labels(self) -> tuple[Label, ...]:
        """All further places: `also`, and the call."""
        return self.also if self.call is None else (*self.also, Label(self.call, "in this call"))

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def help(self) -> str | None:
        """The exact text to write, where that can be guessed."""
        return None

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    def __str__(self) -> str:
        return f"{self.span}: {self.severity}[{self.code}]: {self.message}"


class SpecError(Exception):
    """The user's text is at fault. `str()` of it is what a terminal would show, without colour."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        from seqc.diagnostics.render import render_all

        return render_all(self.diagnostics)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(diagnostic.code for diagnostic in self.diagnostics)


class Bag:
    """Collects diagnostics over a run; the same fault at the same place is kept once."""

    def __init__(self, diagnostics: Iterable[Diagnostic] = ()) -> None:
        self._kept: dict[tuple[str, int, int, int], Diagnostic] = {}
        for diagnostic in diagnostics:
            self.add(diagnostic)

    def add(self, diagnostic: Diagnostic) -> None:
        span = diagnostic.span
        self._kept.setdefault((diagnostic.code, id(span.source), span.start, span.end), diagnostic)

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            self.add(diagnostic)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """In the order of the text; files in the order in which they first came up."""
        order: dict[int, int] = {}
        for diagnostic in self._kept.values():
            order.setdefault(id(diagnostic.span.source), len(order))
        return tuple(
            sorted(
                self._kept.values(),
                key=lambda d: (order[id(d.span.source)], d.span.start, d.span.end, d.code),
            )
        )

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(diagnostic for diagnostic in self.diagnostics if diagnostic.is_error)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(diagnostic for diagnostic in self.diagnostics if not diagnostic.is_error)

    @property
    def has_errors(self) -> bool:
        return any(diagnostic.is_error for diagnostic in self._kept.values())

    def fail(self, diagnostic: Diagnostic) -> NoReturn:
        """Add one that nothing can follow, and raise everything that was collected."""
        self.add(diagnostic)
        raise SpecError(self.diagnostics)

    def raise_errors(self) -> None:
        """Raise if there is an error; the warnings go along."""
        if self.has_errors:
            raise SpecError(self.diagnostics)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.diagnostics)

    def __len__(self) -> int:
        return len(self._kept)
