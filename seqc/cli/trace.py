"""`seqc trace`: every name and state at a token, from the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqc.cli.common import (
    Json,
    Name,
    Settings,
    Spec,
    chosen,
    console,
    find_spec,
    parse_settings,
    print_json,
    progress,
)

if TYPE_CHECKING:
    from seqc.ir.program import Model
    from seqc.ir.recurrence import Recurrence
    from seqc.oracle.trace import Entry, NotANumber, Trace

MOST_SHOWN = 6


def command(
    spec: Spec,
    name: Name = None,
    settings: Settings = None,
    length: Annotated[int, typer.Option(min=1, max=4096, help="How many tokens to run.")] = 4,
    at: Annotated[int | None, typer.Option(help="Which token to show, from 0; the last by default.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="For a model of bytes: run this text instead of noise.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the inputs and the parameters.")] = 0,
    json: Json = False,
) -> None:
    """Run a spec token by token in the oracle; show every `let` and state at a token.

    The inputs are random, or the bytes of --prompt. Where a value is not a number, the first one is shown with its
    place in the text and the values that it was made of, and the exit code is 1.

    Example:

      seqc trace gated_delta --set n=4 --set m=4 --at 2
      seqc trace griffin --prompt "def f(x):" --json
    """
    whole = chosen(find_spec(spec), name, parse_settings(settings), made_up=True).whole
    with progress(f"running {whole.name} token by token"):
        found = _run(whole, length, at, prompt, seed)
    if json:
        print_json(_data(found))
    else:
        _show(found)
    raise typer.Exit(1 if found.fault else 0)


def _run(whole: Recurrence | Model, length: int, at: int | None, prompt: str | None, seed: int) -> Trace:
    from seqc.oracle import initial_parameters
    from seqc.oracle.trace import trace
    from seqc.views.samples import sample

    parameters = initial_parameters(whole, seed)
    inputs = sample(whole, parameters, length, prompt, seed)
    time = next(iter(inputs.values())).shape[1] if inputs else length
    token = time - 1 if at is None else at
    if not -time <= token < time:
        raise typer.BadParameter(f"there are {time} tokens, from 0 to {time - 1}", param_hint="--at")
    return trace(whole, inputs, parameters, token % time)


def _data(found: Trace) -> dict[str, Any]:
    entries = [
        {
            "token": entry.token,
            "kind": entry.kind,
            "name": entry.name,
            "axes": list(entry.axes),
            "value": entry.value[0].tolist()
            if not entry.value.is_complex()
            else str(entry.value[0].tolist()),
            "place": None if entry.span is None else str(entry.span),
        }
        for entry in found.entries
    ]
    fault = found.fault
    return {
        "entries": entries,
        "fault": None
        if fault is None
        else {"token": fault.token, "expression": repr(fault.expression), "place": str(fault.span or "")},
    }


def _show(found: Trace) -> None:
    from rich.table import Table

    from seqc.explain import short_place

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "name", "value", "norm", "place"):
        table.add_column(heading, overflow="fold")
    for entry in found.entries:
        axes = f"[{', '.join(entry.axes)}]" if entry.axes else ""
        value = entry.value if entry.value.is_complex() else entry.value.double()
        norm = f"{value.norm().item():.4g}"
        table.add_row(
            entry.kind,
            f"{entry.name}{axes}",
            _shown(entry),
            norm,
            short_place(str(entry.span)) if entry.span else "",
        )
    screen = console()
    if found.entries:
        screen.print(f"token {found.entries[0].token}", markup=False)
    screen.print(table, markup=False)
    if found.fault is not None:
        _show_fault(found.fault)


def _shown(entry: Entry) -> str:
    flat = entry.value[0].flatten()
    first = " ".join(f"{value:.4g}" for value in flat[:MOST_SHOWN].tolist())
    return first + (" …" if flat.numel() > MOST_SHOWN else "")


def _show_fault(fault: NotANumber) -> None:
    screen = console()
    where = f" in {fault.path}" if fault.path else ""
    screen.print(f"\nthe first value that is not a number is at token {fault.token}{where}:", markup=False)
    screen.print(f"  {fault.expression!r}  ({fault.span or 'no place'})", markup=False)
    for need, value in fault.needs:
        flat = value.flatten()[:MOST_SHOWN].tolist()
        screen.print(f"  from {need!r} = {' '.join(f'{v:.4g}' for v in flat)}", markup=False)
