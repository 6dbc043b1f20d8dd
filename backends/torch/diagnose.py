"""What this backend cannot do, said as a diagnostic."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from seqc.backend import Scheduled
from seqc.diagnostics import SpecError
from seqc.diagnostics.targets import ModeNotAllowed, NotSupported
from seqc.passes.influence import NotElementwise
from seqc.passes.schedule import modes_of


class Unsupported(Exception):
    """A part of the language that this backend has no form for."""


@contextmanager
def diagnosed(program: Scheduled) -> Generator[None]:
    """Turns what cannot be emitted into a `SpecError`."""
    try:
        yield
    except Unsupported as error:
        reason = "the emitted module has no form for it"
        raise SpecError([NotSupported(program.origin, "torch", str(error), reason)]) from error
    except NotElementwise as error:
        from . import LOOPS, ONLINE

        allowed = (*modes_of(program.whole), *LOOPS)
        raise SpecError([ModeNotAllowed(program.origin, ONLINE, allowed, str(error))]) from error


def refusal(program: Scheduled, what: str) -> Callable[..., None]:
    """A function that says, when called, that there is no such thing for this program."""

    def refuse(*_: object, **__: object) -> None:
        raise SpecError([NotSupported(program.origin, "torch", what, "an output may depend on every token")])

    return refuse
