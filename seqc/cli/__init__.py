"""The command line: one file a command, each with a function `command` whose docstring is the help text.

Exit codes are part of the interface:

    0    done
    1    the user's mistake: a diagnostic, a missing file, a conformance check that failed
    2    a wrong option or argument
    70   our mistake: a traceback, and the request to report it
    130  interrupted
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

import seqc
from seqc.cli.common import print_spec_error, print_user_error
from seqc.diagnostics.base import SpecError
from seqc.errors import UserError

# In this order in the help.
COMMANDS = (
    "new",
    "check",
    "fmt",
    "explain",
    "trace",
    "compile",
    "quantize",
    "run",
    "conform",
    "bench",
    "list",
)

OUR_MISTAKE = 70
REPORT = "This is a mistake in seqc, not in your spec: please report it, with the lines above and the spec."


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the program and leave with its exit code."""
    _fit_streams()
    # Threads that spin while they wait make a busy machine slower than one thread; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        # Not list(args): the command `list` is a name of this package once it has been imported.
        application()(None if args is None else [*args], prog_name="seqc")
        code = 0
    except SpecError as error:
        print_spec_error(error)
        code = 1
    except UserError as error:
        print_user_error(error)
        code = 1
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except KeyboardInterrupt:
        code = 130
    except Exception:
        traceback.print_exc()
        print(f"\n{REPORT}", file=sys.stderr)
        code = OUR_MISTAKE
    sys.exit(code)


def application() -> typer.Typer:
    """The program with all its commands."""
    app = typer.Typer(
        name="seqc",
        help="A compiler for sequence models: one readable spec in, PyTorch and ONNX out.",
        epilog="Exit codes: 0 done, 1 your mistake, 2 usage, 70 our bug.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in COMMANDS:
        command = import_module(f"seqc.cli.{name}").command
        app.command(name, help=_help(command))(command)
    return app


def _help(command: Callable[..., None]) -> str:
    """The docstring with every paragraph on one line, for the terminal to break; indented lines are as they stand."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(text if text.startswith(" ") else " ".join(text.splitlines()) for text in paragraphs)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"seqc {seqc.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


def _fit_streams() -> None:
    """No colour where there is no terminal, and no failure where a stream lacks a letter of what we quote."""
    if not sys.stdout.isatty():
        # Typer would otherwise colour its help on a continuous-integration machine.
        os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
