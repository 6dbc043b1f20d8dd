"""One file a check, found by walking this folder.

A module has a docstring (its first line says what is proved), `ORDER` (the place of its column) and two
functions:

    def applies(case: Case, subject: Subject) -> str      # why not, or "" when it does
    def check(case: Case, subject: Subject) -> Iterator[Finding]
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

from seqc.conformance.case import Case
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject


class Check(Protocol):
    ORDER: int

    def applies(self, case: Case, subject: Subject) -> str: ...

    def check(self, case: Case, subject: Subject) -> Iterator[Finding]: ...


@cache
def checks() -> dict[str, Check]:
    """Every check by name, in order."""
    found = {
        info.name: cast(Check, import_module(f"{__name__}.{info.name}")) for info in iter_modules(__path__)
    }
    return dict(sorted(found.items(), key=lambda item: item[1].ORDER))
