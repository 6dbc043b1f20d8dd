"""`seqc fmt`: one way to lay out a spec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from seqc.cli.common import find_file
from seqc.errors import UserError
from seqc.output import write_file


def command(
    specs: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Files to format; - reads standard input.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a file would change.")
    ] = False,
) -> None:
    """Lay out specs in the one standard way; comments stay.

    One statement a row, four spaces for every brace, aligned columns. A file that is laid out already is not written.

    Example:

      seqc fmt griffin.seq
      seqc fmt --check *.seq
    """
    if specs == ["-"]:
        sys.stdout.write(_formatted(sys.stdin.read(), "<stdin>"))
        return
    paths = [find_file(text) for text in specs]
    changed = [(path, new) for path in paths if (new := _formatted(_read(path), str(path))) != _read(path)]
    for path, new in changed:
        if not check:
            write_file(path, new)
        print(f"{'would format' if check else 'formatted'} {path}")
    raise typer.Exit(1 if check and changed else 0)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"`{path}` is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"cannot read `{path}`: {error.strerror}") from error


def _formatted(text: str, name: str) -> str:
    from seqc.syntax.format import format_text

    return format_text(text, name)
