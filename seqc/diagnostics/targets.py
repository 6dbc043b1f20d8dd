"""E09xx: what a backend cannot do, or cannot do for this spec."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import listing


@dataclass(frozen=True)
class NotSupported(Diagnostic):
    """Something that is part of the language and that this backend cannot do. The reason says which part
    and why.
    """

    code = "E0901"
    title = "not supported by the target"

    target: str
    what: str
    reason: str

    @property
    def message(self) -> str:
        return f"the backend `{self.target}` cannot do {self.what}"

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.reason,)


@dataclass(frozen=True)
class ModeNotAllowed(Diagnostic):
    """A mode of execution (`--schedule`, in Python `mode=`) that the class of this rule does not have. In Python `step`
    and `reference` always exist: a token at a time, from the definition.
    """

    code = "E0902"
    title = "no such mode for this rule"

    mode: str
    allowed: tuple[str, ...]
    reason: str

    @property
    def message(self) -> str:
        return f"there is no mode `{self.mode}` for this rule"

    @property
    def notes(self) -> tuple[str, ...]:
        known = f"its modes are {listing(self.allowed)}" if self.allowed else "it has none"
        return tuple(note for note in (self.reason, known) if note)


@dataclass(frozen=True)
class NoParallelForm(Diagnostic):
    """A rule that no form of the scheduler covers. It has a meaning, which `seqc trace` shows a token at a time; no
    backend can run it.
    """

    code = "E0903"
    title = "no parallel form"

    name: str
    reason: str

    @property
    def message(self) -> str:
        return f"there is no parallel form of the rule `{self.name}`"

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.reason,)
