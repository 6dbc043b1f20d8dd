"""What the commands share: how they read a spec and settings, and how they speak."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from seqc import bundled
from seqc.diagnostics.base import Diagnostic, SpecError
from seqc.diagnostics.render import printable, render_all
from seqc.diagnostics.words import by_nearness
from seqc.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from seqc.spec import Handle


def complete_spec(incomplete: str) -> list[str]:
    """Shell completion: the specs that come with seqc by name; the shell itself completes paths."""
    return [path.stem for path in bundled.specs() if path.stem.startswith(incomplete)]


Spec = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A .seq file, or the name of a spec of `seqc list`.",
        autocompletion=complete_spec,
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", "-n", help="Which model or rule, when the file has several.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="NAME=NUMBER", help="Override a setting; may be repeated."),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        "--schedule", metavar="MODE", help="Another form of the rules: scan, chunk, newton, loop, attention."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for another program to read.")]


def find_spec(text: str) -> Path:
    """The file that `text` names: a path, or a spec that comes with seqc."""
    known = {spec.stem: spec for spec in bundled.specs()}
    if text in known and not os.path.isfile(text):
        return known[text]
    near = ", ".join(f"`{name}`" for name in by_nearness(Path(text).stem, known)[:5])
    return find_file(text, f"specs that come with seqc: {near}, … (`seqc list`)")


def find_file(text: str, help: str | None = None) -> Path:
    """The file at a path; `help` is for one that is not there."""
    # Unlike those of `Path`, these say no to a name that no file can have.
    if os.path.isfile(text):
        return Path(text)
    if os.path.isdir(text):
        raise UserError(f"`{text}` is a folder, not a .seq file")
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    raise UserError(f"there is no file `{shown}`", help)


def parse_settings(given: Iterable[str] | None) -> dict[str, float]:
    """`["d=256", "theta=1e4"]` as numbers; whole numbers stay whole."""
    settings: dict[str, float] = {}
    for text in given or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise typer.BadParameter(f"`{text}` is not NAME=NUMBER, such as d=256", param_hint="--set")
        if name in settings:
            raise typer.BadParameter(f"`{name}` is set twice", param_hint="--set")
        settings[name] = _number(name, value)
    return settings


def _number(name: str, text: str) -> float:
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise typer.BadParameter(f"the value of `{name}`, `{text}`, is not a number", param_hint="--set")


def is_colourful(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def console(stream: TextIO | None = None) -> Console:
    """A console on standard output, or on `stream`; plain text unless that is a terminal."""
    from rich.console import Console

    target = sys.stdout if stream is None else stream
    colour = is_colourful(target)
    # A file or a pipe has no width of its own: nothing is cut or wrapped there.
    width = None if target.isatty() else 200
    return Console(file=target, force_terminal=colour, no_color=not colour, highlight=False, width=width)


def print_json(data: object) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def print_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    if diagnostics:
        print(render_all(diagnostics, colour=is_colourful(sys.stderr)), file=sys.stderr)


def print_spec_error(error: SpecError) -> None:
    print_diagnostics(error.diagnostics)
    errors = sum(diagnostic.is_error for diagnostic in error.diagnostics)
    print(f"\n{errors} error{'s' if errors != 1 else ''}", file=sys.stderr)


def print_user_error(error: UserError) -> None:
    red, off = ("\x1b[1;31m", "\x1b[0m") if is_colourful(sys.stderr) else ("", "")
    print(f"{red}error{off}: {printable(str(error))}", file=sys.stderr)
    if error.help:
        print(f"  help: {printable(error.help)}", file=sys.stderr)


@contextmanager
def progress(text: str) -> Generator[Callable[[str], None]]:
    """A line on the terminal that says what is being done, for as long as it is; nothing where there is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with console(sys.stderr).status(text) as status:
        yield status.update


def plural(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def chosen(path: Path, name: str | None, settings: dict[str, float], *, made_up: bool = False) -> Handle:
    """The model, block or rule that a command is about: the named one, else the only model, else the only rule.

    With `made_up`, a rule gets lengths for the axes that have none.
    """
    from seqc.spec import load

    spec = load(path)
    print_diagnostics(spec.warnings)
    if name in spec.blocks:
        return spec.block(name, **settings)
    if name in spec.rules or (name is None and not spec.models):
        only = name or (spec.rules[0] if len(spec.rules) == 1 else None)
        defaults = spec.checked.default_sizes(only) if made_up and only else {}
        return spec.rule(name, **{**defaults, **settings})
    return spec.model(name, **settings)


def everything(path: Path, name: str | None, settings: dict[str, float]) -> list[Handle]:
    """What a command shows that takes a whole file: the named item, else all models, else all rules."""
    from seqc.spec import load

    spec = load(path)
    names = [name] if name is not None else [*spec.models] or [*spec.rules]
    if len(names) < 2:
        return [chosen(path, name, settings, made_up=True)]
    return [chosen(path, each, settings, made_up=True) for each in names]
