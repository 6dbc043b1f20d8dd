"""Texts to diagnostics, all the way through the checker."""

from __future__ import annotations

from seqc.check import check_source
from seqc.diagnostics import Diagnostic
from seqc.source import Source


def diagnose(text: str, name: str = "example.seq") -> tuple[Diagnostic, ...]:
    _, diagnostics = check_source(Source(text, name))
    return tuple(diagnostics)
