"""`seqc list`: what comes with seqc."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqc import bundled
from seqc.cli.common import Json, console, print_json

if TYPE_CHECKING:
    from seqc.zoo import Row

_ITEM = re.compile(r"^(rule|model) +(\w+)", re.MULTILINE)

Cells = dict[str, object]
LEAST = 25  # columns of a terminal for what is said about something


class What(StrEnum):
    SPECS = "specs"
    TARGETS = "targets"
    CODES = "codes"


def command(
    what: Annotated[What, typer.Argument(help="What to list.", show_default=True)] = What.SPECS,
    json: Json = False,
) -> None:
    """List the specs that come with seqc, the targets, or the codes of all diagnostics.

    A spec is shown with the classes and schedules of its rules, the backends in which everything passed when it was
    last examined, and the worst error found, as far as the terminal is wide enough. The JSON has the names, sizes and
    costs of its models and rules too.

    Example:

      seqc list
      seqc list codes --json
    """
    rows = {What.SPECS: _specs, What.TARGETS: _targets, What.CODES: _codes}[what]()
    if json:
        print_json(rows)
        return
    screen = console()
    head, *lines = table(rows, screen.width if screen.is_terminal else None)
    screen.print(head, style="bold", soft_wrap=True)
    screen.print("\n".join(lines), markup=False, soft_wrap=True)


def table(rows: list[Cells], width: int | None) -> list[str]:
    """The texts of rows in columns, headings first, one line a row; in full if there is no `width`.

    The last column is cut to what is left; where that would be less than `LEAST`, those before it are left out.
    """
    headings = [key for key, value in rows[0].items() if isinstance(value, str)]
    cells = [
        dict(zip(headings, headings, strict=True)),
        *({key: str(row[key]) for key in headings} for row in rows),
    ]
    widths = {key: max(len(row[key]) for row in cells) for key in headings}
    while (
        width is not None
        and len(headings) > 2
        and sum(widths[key] + 2 for key in headings[:-1]) + LEAST > width
    ):
        del headings[-2]
    lines = ("  ".join(row[key].ljust(widths[key]) for key in headings).rstrip() for row in cells)
    return [line if width is None or len(line) <= width else f"{line[: width - 1]}…" for line in lines]


def _specs() -> list[Cells]:
    from seqc import zoo

    record = zoo.read()
    return [_describe(path, record.get(zoo.key(path))) for path in bundled.specs()]


def _describe(path: Path, row: Row | None) -> Cells:
    text = path.read_text(encoding="utf-8")
    items = _ITEM.findall(text)
    return {
        "name": path.stem,
        "family": path.parent.name,
        "models": [name for kind, name in items if kind == "model"],
        "rules": [name for kind, name in items if kind == "rule"],
        **_known(row),
        "about": _first_sentence(text),
    }


def _known(row: Row | None) -> Cells:
    """What `specs/zoo.json` says of a spec; the texts are what the table shows."""
    if row is None:
        return {"class": "", "schedule": "", "conform": "not examined", "error": "", "items": {}}
    facts, findings = row["facts"].values(), row["findings"].values()
    errors = [each["worst_error"] for each in findings if each["worst_error"]]
    return {
        "class": _words(found["code"] for each in facts for found in each["classes"]),
        "schedule": _words(each["mode"] for each in facts),
        "conform": _conforming(row),
        "error": f"{max(errors):.0e}" if errors else "",
        "items": {name: {**row["facts"][name], **row["findings"].get(name, {})} for name in row["facts"]},
    }


def _conforming(row: Row) -> str:
    """The backends in which everything passed; with a star those that refuse a rule or model of the spec."""
    from seqc.zoo import conforms

    findings = row["findings"].values()
    failing = {name for each in findings for name, said in each["backends"].items() if said["failed"]}
    passing = [set(conforms(each)) for each in findings]
    some: set[str] = set().union(*passing) - failing
    return _words(name if all(name in each for each in passing) else f"{name}*" for name in sorted(some))


def _words(found: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(word for word in found if word))


def _first_sentence(text: str) -> str:
    """Of the header: the comment that the file begins with, up to an empty line of it."""
    header: list[str] = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        header.append(words)
    return " ".join(header).split(". ")[0].rstrip(".")


def _targets() -> list[Cells]:
    from seqc.backend import backends

    return [{"target": name, "about": backend.about} for name, backend in backends().items()]


def _codes() -> list[Cells]:
    from seqc.diagnostics.catalogue import catalogue

    return [{"code": code, "title": page.diagnostic.title} for code, page in catalogue().items()]
