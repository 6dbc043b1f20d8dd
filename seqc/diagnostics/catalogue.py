"""All diagnostics there are, found by walking this folder, and the pages made of their docstrings."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Literal

import seqc.diagnostics as package
from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import by_nearness

_HEADING = re.compile(r"^(Wrong|Right):$", re.MULTILINE)


_INTRODUCTION = """\
# Errors and warnings

Everything that the compiler can say about a text, by code. `seqc explain E0102` shows a single page. A code never
changes its meaning. This file is made from the compiler's sources (`make accept`); do not edit it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A `.seq` text from the docstring of a diagnostic."""

    kind: Literal["wrong", "right"]
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """What `seqc explain CODE` shows."""

    diagnostic: type[Diagnostic]
    prose: str
    examples: tuple[Example, ...]

    @property
    def code(self) -> str:
        return self.diagnostic.code

    def markdown(self) -> str:
        parts = [f"## {self.code}: {self.diagnostic.title}", self.prose]
        for example in self.examples:
            parts.append(f"{example.kind.capitalize()}:\n\n```seq\n{example.text}```")
        return "\n\n".join(parts)


@cache
def catalogue() -> dict[str, Page]:
    """The page of every code, in the order of the codes."""
    found: dict[str, Page] = {}
    for diagnostic in _classes():
        if diagnostic.code in found:
            other = found[diagnostic.code].diagnostic
            raise AssertionError(f"{diagnostic.code} is used by {other.__name__} and {diagnostic.__name__}")
        found[diagnostic.code] = _page(diagnostic)
    return dict(sorted(found.items()))


def explain_code(code: str) -> str | None:
    """The page of a code as Markdown, or None if there is no such code."""
    page = catalogue().get(code.strip().upper())
    return None if page is None else page.markdown()


def reference() -> str:
    """`docs/errors.md`: the pages of all codes, after a table of them."""
    rows = [f"| [{page.code}](#{_anchor(page)}) | {page.diagnostic.title} |" for page in catalogue().values()]
    table = "\n".join(["| code | |", "| --- | --- |", *rows])
    pages = [page.markdown() for page in catalogue().values()]
    return "\n\n".join([_INTRODUCTION, table, *pages]) + "\n"


def _anchor(page: Page) -> str:
    """The anchor that GitHub gives to the heading of a page."""
    kept = re.sub(r"[^a-z0-9 _-]", "", f"{page.code}: {page.diagnostic.title}".lower())
    return kept.replace(" ", "-")


def similar_codes(code: str) -> list[str]:
    return by_nearness(code.strip().upper(), catalogue())[:5]


def _classes() -> Iterator[type[Diagnostic]]:
    for module_info in iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{module_info.name}")
        for _, value in inspect.getmembers(module, inspect.isclass):
            if (
                issubclass(value, Diagnostic)
                and value.__module__ == module.__name__
                and "code" in vars(value)
            ):
                yield value


def _page(diagnostic: type[Diagnostic]) -> Page:
    doc = inspect.cleandoc(diagnostic.__doc__ or "")
    pieces = _HEADING.split(doc)
    examples: list[Example] = []
    for heading, text in zip(pieces[1::2], pieces[2::2], strict=True):
        kind: Literal["wrong", "right"] = "wrong" if heading == "Wrong" else "right"
        examples.append(Example(kind, textwrap.dedent(text).strip("\n") + "\n"))
    return Page(diagnostic, pieces[0].strip(), tuple(examples))
