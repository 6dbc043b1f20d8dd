"""Short ways to check a text and look at what came of it."""

from __future__ import annotations

from seqc.check import Checked, check_source
from seqc.diagnostics import Diagnostic
from seqc.ir.paths import parameter_table
from seqc.ir.program import Function, Model
from seqc.source import Source


def checked(text: str) -> Checked:
    """A program that must be right."""
    program, diagnostics = check_source(Source(text, "test.seq"))
    assert not diagnostics, "\n".join(map(str, diagnostics))
    return program


def faults(text: str) -> list[Diagnostic]:
    return check_source(Source(text, "test.seq"))[1]


def codes(text: str) -> list[str]:
    return [diagnostic.code for diagnostic in faults(text)]


def parameters(whole: Function | Model) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters by full name."""
    return {name: named.shape for name, named in parameter_table(whole).items()}
