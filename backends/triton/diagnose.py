"""What this backend cannot do, said as a diagnostic."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from seqc.backend import Scheduled
from seqc.diagnostics import SpecError
from seqc.diagnostics.targets import NotSupported
from seqc.source import Source

from ..cpu.diagnose import Unsupported


@contextmanager
def diagnosed(program: Scheduled) -> Generator[None]:
    """Turns what cannot be emitted into a `SpecError`."""
    try:
        yield
    except Unsupported as error:
        source = program.source or Source("", program.name)
        raise SpecError([NotSupported(source.span(0, 0), "triton", str(error), error.reason)]) from error
