"""`seqc list`: what comes with seqc."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from seqc import bundled
from seqc.cli.common import Json, console, print_json

_ITEM = re.compile(r"^(rule|model) +(\w+)", re.MULTILINE)


class What(StrEnum):
    SPECS = "specs"
    TARGETS = "targets"
    CODES = "codes"


def command(
    what: Annotated[What, typer.Argument(help="What to list.", show_default=True)] = What.SPECS,
    json: Json = False,
) -> None:
    """List the specs that come with seqc, the targets, or the codes of all diagnostics.

    The JSON of a spec has the names of its models and rules too.

    Example:

      seqc list
      seqc list codes --json
    """
    rows = {What.SPECS: _specs, What.TARGETS: _targets, What.CODES: _codes}[what]()
    if json:
        print_json(rows)
        return
    from rich.table import Table

    shown = [{key: value for key, value in row.items() if isinstance(value, str)} for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    *first, last = shown[0]
    for heading in first:
        table.add_column(heading, no_wrap=True, min_width=max(len(row[heading]) for row in shown))
    table.add_column(last, no_wrap=True, overflow="ellipsis")
    for row in shown:
        table.add_row(*row.values())
    console().print(table)


def _specs() -> list[dict[str, str | list[str]]]:
    return [_describe(path) for path in bundled.specs()]


def _describe(path: Path) -> dict[str, str | list[str]]:
    text = path.read_text(encoding="utf-8")
    items = _ITEM.findall(text)
    return {
        "name": path.stem,
        "family": path.parent.name,
        "models": [name for kind, name in items if kind == "model"],
        "rules": [name for kind, name in items if kind == "rule"],
        "about": _first_sentence(text),
    }


def _first_sentence(text: str) -> str:
    """Of the header: the comment that the file begins with, up to an empty line of it."""
    header: list[str] = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        header.append(words)
    return " ".join(header).split(". ")[0].rstrip(".")


def _targets() -> list[dict[str, str | list[str]]]:
    from seqc.backend import backends

    return [{"target": name, "about": backend.about} for name, backend in backends().items()]


def _codes() -> list[dict[str, str | list[str]]]:
    from seqc.diagnostics.catalogue import catalogue

    return [{"code": code, "title": page.diagnostic.title} for code, page in catalogue().items()]
