"""`seqc check`: what is wrong with a spec."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from seqc.cli.common import (
    Json,
    Settings,
    complete_spec,
    find_spec,
    parse_settings,
    plural,
    print_diagnostics,
    print_json,
)
from seqc.diagnostics.base import Diagnostic, SpecError
from seqc.diagnostics.render import to_json

if TYPE_CHECKING:
    from pathlib import Path


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"


def command(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC",
            help="One or more .seq files, or names of specs of `seqc list`.",
            autocompletion=complete_spec,
        ),
    ],
    settings: Settings = None,
    format: Annotated[Format, typer.Option(help="How to print the diagnostics.")] = Format.TEXT,
    json: Json = False,
) -> None:
    """Say whether specs are right, and if not, what is wrong and where.

    Every model and every rule is checked with its default settings, or with those of --set.

    Example:

      seqc check griffin.seq
      seqc check griffin.seq --set d=512 --json
    """
    chosen = parse_settings(settings)
    found = {path: _check(path, chosen) for path in map(find_spec, specs)}
    wrong = any(diagnostic.is_error for diagnostics, _ in found.values() for diagnostic in diagnostics)
    if json or format is Format.JSON:
        print_json([to_json(diagnostic) for diagnostics, _ in found.values() for diagnostic in diagnostics])
    else:
        for path, (diagnostics, summary) in found.items():
            print_diagnostics(diagnostics)
            print(f"{path}: {summary}")
    raise typer.Exit(1 if wrong else 0)


def _check(path: Path, settings: dict[str, float]) -> tuple[tuple[Diagnostic, ...], str]:
    """The diagnostics of one file, and one line that sums them up."""
    from seqc.spec import load

    try:
        spec = load(path)
        for name in spec.models:
            spec.model(name, **settings)
        for name in () if spec.models or not settings else spec.rules:
            _ = spec.rule(name, **{**spec.checked.default_sizes(name), **settings}).whole
    except SpecError as error:
        errors = sum(diagnostic.is_error for diagnostic in error.diagnostics)
        return error.diagnostics, plural(errors, "error")
    return spec.warnings, f"right ({plural(len(spec.models), 'model')}, {plural(len(spec.rules), 'rule')})"
