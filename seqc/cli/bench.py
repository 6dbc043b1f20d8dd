"""`seqc bench`: how fast a model or a rule runs on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
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
from seqc.diagnostics.base import SpecError
from seqc.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from seqc.spec import Handle
    from seqc.speed import Time

Row = dict[str, Any]
ALL = "all"
DEFAULT = "default"
# The columns by what is measured.
COLUMNS = {"forward": "forward", "backward": "with backward", "step": "one token"}


def command(
    spec: Spec,
    name: Name = None,
    settings: Settings = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            metavar="TARGET[:PROFILE]",
            help="torch, cpu, onnx, onnx:ort, …; may be repeated; by default all that run, in their usual profile.",
        ),
    ] = None,
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            "--schedule",
            metavar="MODE",
            help="A parallel form of the rules, `default`, or `all` that there are; may be repeated.",
        ),
    ] = None,
    length: Annotated[
        int, typer.Option("--length", "-l", min=1, help="How many tokens a sequence has.")
    ] = 512,
    batch: Annotated[int, typer.Option("--batch", "-b", min=1, help="How many sequences there are.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="How many threads may compute.")] = 1,
    json: Json = False,
) -> None:
    """Measure a model or a rule on the CPU, with random weights: a sequence forward, with backward, and single tokens.

    Models of tokens are shown in tokens a second, everything else in milliseconds. Axes of a rule that have no length
    get 64 entries. Every number is the median of five, after one to warm up, and how far half of them lie apart.
    Numbers of two runs compare only if the machine was equally quiet.

    Example:

      seqc bench griffin
      seqc bench mine.seq --target onnx --target onnx:ort --length 2048 --threads 2 --json
      seqc bench gated_delta --name gated_delta --target torch --target cpu --schedule all --batch 8
    """
    handle = chosen(find_spec(spec), name, parse_settings(settings), made_up=True)
    wanted = list(product(target or _running(), _modes(handle, schedule)))
    rows: list[Row] = []
    for each, mode in wanted:
        try:
            rows.append(_measured(handle, each, mode, length, batch, threads))
        except SpecError as error:
            # What a target does not do is said, and the others are measured; asked for alone, it is a mistake.
            if len(wanted) == 1:
                raise
            reason = error.diagnostics[0].title
            print(f"not measured: {each}, {mode or DEFAULT}: {reason}", file=sys.stderr)
    facts = {"name": handle.name, "length": length, "batch": batch, "threads": threads}
    if json:
        print_json({"version": 2, **facts, "unit": "ms", "rows": rows})
        return
    console().print(_table(rows, length * batch if _reads_tokens(handle) else None, batch))


def _running() -> list[str]:
    """The targets whose folders run."""
    from seqc.backend import Runs, backends

    return [name for name, own in backends().items() if isinstance(own, Runs)]


def _modes(handle: Handle, asked: Sequence[str] | None) -> list[str | None]:
    """The schedules to measure; None is the scheduler's choice."""
    words = [
        word
        for each in asked or (DEFAULT,)
        for word in ((DEFAULT, *handle.modes) if each == ALL else (each,))
    ]
    return [None if word == DEFAULT else word for word in dict.fromkeys(words)]


def _reads_tokens(handle: Handle) -> bool:
    from seqc.ir.program import Model

    return isinstance(handle.whole, Model) and handle.whole.kind == "tokens"


def _measured(handle: Handle, target: str, mode: str | None, length: int, batch: int, threads: int) -> Row:
    from seqc.backend import Runs, backend
    from seqc.ir.timing import reads_future
    from seqc.speed import times

    target_name, _, profile = target.partition(":")
    maker = backend(target_name)
    if not isinstance(maker, Runs):
        raise UserError(f"the target `{target_name}` cannot be run", f"these can: {', '.join(_running())}")
    options: dict[str, Any] = {"profile": profile} if profile else {}
    with TemporaryDirectory(prefix="seqc-bench-") as place:
        folder = Path(place) / "built"
        with progress(f"compiling {handle.name} for {target}") as show:
            handle.write(target_name, folder, mode=mode, **options)
            show(f"running {handle.name} in {target}")
            runner = maker.runner(folder, threads)
            found = times(runner, handle.whole, length, batch, steps=not reads_future(handle.whole))
    shown = {kind: _rounded(time) for kind, time in found.items()}
    return {"target": target, "schedule": mode or DEFAULT, **shown}


def _rounded(time: Time) -> dict[str, float]:
    return {"median": float(f"{time.median:.4g}"), "spread": float(f"{time.spread:.2g}")}


def _table(rows: Sequence[Row], tokens: int | None, batch: int) -> Table:
    """Tokens a second where a sequence is `tokens` of them, else milliseconds."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    kinds = [kind for kind in COLUMNS if any(kind in row for row in rows)]
    unit = "ms" if tokens is None else "tokens/s"
    for heading in ("target", "schedule"):
        table.add_column(heading)
    for kind in kinds:
        table.add_column(f"{COLUMNS[kind]}, {unit}", justify="right")
    for row in rows:
        read = {kind: batch if kind == "step" else tokens for kind in kinds}
        cells = [_cell(row[kind], read[kind] if tokens else None) if kind in row else "" for kind in kinds]
        table.add_row(str(row["target"]), str(row["schedule"]), *cells)
    return table


def _cell(time: dict[str, float], tokens: int | None) -> str:
    median, spread = time["median"], time["spread"]
    if tokens is None:
        return f"{median:,.3g} ± {spread:.2g}" if median < 100 else f"{median:,.0f} ± {spread:,.0f}"
    rate = 1e3 * tokens / median
    return f"{rate:,.0f} ± {rate * spread / median:,.0f}"
