"""Texts to diagnostics, all the way through the checker."""

from __future__ import annotations

from pathlib import Path

from seqc.check import check_source
from seqc.diagnostics import Diagnostic
from seqc.source import Source


def diagnose(text: str, name: str = "example.seq") -> tuple[Diagnostic, ...]:
    _, diagnostics = check_source(Source(text, name))
    return tuple(diagnostics)


def check_in(folder: Path, text: str) -> tuple[Diagnostic, ...]:
    """The same for a text that lies in a folder and may use the files beside it."""
    _, diagnostics = check_source(Source(text, "main.seq", folder / "main.seq"))
    return tuple(diagnostics)
