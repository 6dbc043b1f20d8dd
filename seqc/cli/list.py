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

    Example:

      seqc list
      seqc list codes --json
    """
    rows = {What.SPECS: _specs, What.TARGETS: _targets, What.CODES: _codes}[what]()
    if json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in rows[0]:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(", ".join(value) if isinstance(value, list) else value for value in row.values()))
    console().print(table)


def _specs() -> list[dict[str, str | list[str]]]:
    return [_describe(path) for path in bundled.specs()]


def _describe(path: Path) -> dict[str, str | list[str]]:
    text = path.read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    items = _ITEM.findall(text)
    return {
        "name": path.stem,
        "family": path.parent.name,
        "models": [name for kind, name in items if kind == "model"],
        "rules": [name for kind, name in items if kind == "rule"],
        "about": first.lstrip("# ").rstrip(".") if first.startswith("#") else "",
    }


def _targets() -> list[dict[str, str | list[str]]]:
    from seqc.backend import backends

    return [{"target": name, "about": backend.about} for name, backend in backends().items()]


def _codes() -> list[dict[str, str | list[str]]]:
    from seqc.diagnostics.catalogue import catalogue

    return [{"code": code, "title": page.diagnostic.title} for code, page in catalogue().items()]
