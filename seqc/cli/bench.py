"""`seqc bench`: how fast a model of tokens runs on this machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from seqc.cli.common import (
    Json,
    Name,
    Schedule,
    Settings,
    Spec,
    chosen,
    console,
    find_spec,
    parse_settings,
    print_json,
    progress,
)
from seqc.errors import UserError
from seqc.ir.program import Model

if TYPE_CHECKING:
    from seqc.spec import Handle


def command(
    spec: Spec,
    name: Name = None,
    settings: Settings = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="torch or onnx; may be repeated; both by default."),
    ] = None,
    schedule: Schedule = None,
    length: Annotated[
        int, typer.Option("--length", "-l", min=1, help="How many tokens the prompt has.")
    ] = 512,
    threads: Annotated[int, typer.Option(min=1, help="How many threads may compute.")] = 1,
    json: Json = False,
) -> None:
    """Measure prefill and decode, in tokens a second, on the CPU with random weights.

    Every number is the median of three rounds after one to warm up. Numbers of two runs compare only if the machine was
    equally quiet.

    Example:

      seqc bench griffin
      seqc bench mine.seq --target onnx --length 2048 --threads 2 --json
    """
    handle = chosen(find_spec(spec), name, parse_settings(settings))
    if not isinstance(handle.whole, Model) or handle.whole.kind != "tokens":
        raise UserError(
            f"`{handle.name}` is not a model of tokens", "name one with `--name`, or write one around it"
        )
    rows = [_measured(handle, each, schedule, length, threads) for each in target or ("torch", "onnx")]
    if json:
        print_json(
            {"version": 1, "model": handle.name, "length": length, "threads": threads, "targets": rows}
        )
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("target", "prefill, tokens/s", "decode, tokens/s"):
        table.add_column(heading, justify="left" if heading == "target" else "right")
    for row in rows:
        table.add_row(str(row["target"]), f"{row['prefill']:,.0f}", f"{row['decode']:,.0f}")
    console().print(table)


def _measured(
    handle: Handle, target: str, mode: str | None, length: int, threads: int
) -> dict[str, str | float]:
    from seqc.runtime import load_runner, throughput

    with TemporaryDirectory(prefix="seqc-bench-") as place:
        folder = Path(place) / "built"
        with progress(f"compiling {handle.name} for {target}") as show:
            handle.write(target, folder, mode=mode)
            show(f"running {handle.name} in {target}")
            prefill, decode = throughput(load_runner(folder, threads), length)
    return {"target": target, "prefill": round(prefill, 1), "decode": round(decode, 1)}
