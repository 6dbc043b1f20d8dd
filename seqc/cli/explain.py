"""`seqc explain`: a spec, or the code of a diagnostic."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from seqc.cli.common import (
    Json,
    Name,
    Settings,
    complete_spec,
    console,
    everything,
    find_spec,
    parse_settings,
    print_json,
)
from seqc.errors import UserError

_CODE = re.compile(r"[EW][0-9]{4}", re.IGNORECASE)


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|CODE", help="A .seq file, or a code such as E0201.", autocompletion=complete_spec
        ),
    ],
    name: Name = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Show what a spec was understood to mean, or what a diagnostic's code means.

    For a spec: the derived recurrence, its class and why, the schedule, the parameters, the state and its growth,
    and the cost of a token; of all models if no --name is given, of all rules if there is no model. For a code: its
    page, with a wrong and a right example.

    Example:

      seqc explain griffin
      seqc explain mine.seq --name my_rule --set n=64 --json
      seqc explain E0201
    """
    if _CODE.fullmatch(what):
        _explain_code(what)
        return
    from seqc.explain import text
    from seqc.spec import reports

    handles = everything(find_spec(what), name, parse_settings(settings))
    facts = reports(handles)
    if json:
        print_json(facts[0] if len(facts) == 1 else facts)
    else:
        console().print("\n\n\n".join(map(text, facts)), markup=False, soft_wrap=True)


def _explain_code(code: str) -> None:
    from rich.markdown import Markdown

    from seqc.diagnostics.catalogue import explain_code, similar_codes

    page = explain_code(code)
    if page is None:
        near = ", ".join(similar_codes(code))
        raise UserError(
            f"there is no diagnostic `{code.upper()}`", f"the nearest are {near} (`seqc list codes`)"
        )
    screen = console()
    screen.print(Markdown(page) if screen.is_terminal else page, markup=False)
