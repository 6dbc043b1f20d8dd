"""What this backend cannot do, said as a diagnostic."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from seqc.backend import Scheduled
from seqc.diagnostics import SpecError
from seqc.diagnostics.targets import NotSupported
from seqc.source import Source


class Unsupported(Exception):
    """A part of the language that this backend has no loop for; `reason` says why."""

    def __init__(
        self, what: str, reason: str = "there is no loop over tokens for it: the target `torch` has it"
    ) -> None:
        super().__init__(what)
        self.reason = reason


@contextmanager
def diagnosed(program: Scheduled) -> Generator[None]:
    """Turns what cannot be emitted into a `SpecError`."""
    try:
        yield
    except Unsupported as error:
        source = program.source or Source("", program.name)
        raise SpecError([NotSupported(source.span(0, 0), "cpu", str(error), error.reason)]) from error
