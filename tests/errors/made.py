"""Faults that no short text shows: each is made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seqc.diagnostics import Diagnostic
from seqc.syntax.lexer import MAX_CHARACTERS, MAX_NAME
from tests.errors.compiled import diagnose

Made = Callable[[Path], tuple[Diagnostic, ...]]


def rule(value: str) -> Made:
    return lambda _: diagnose(f"rule r(x[d]) {{ return {value} }}")


MADE: dict[str, Made] = {
    "E0801": lambda _: diagnose("#" * (MAX_CHARACTERS + 1)),
    "E0802": rule("(" * 100 + "x" + ")" * 100),
    "E0804": rule("x" * (MAX_NAME + 1)),
}
