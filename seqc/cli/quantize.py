"""`seqc quantize`: compiled graphs in fewer bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from seqc.cli.common import (
    Json,
    Name,
    Settings,
    chosen,
    complete_spec,
    console,
    find_spec,
    parse_settings,
    plural,
    print_json,
    progress,
)

if TYPE_CHECKING:
    from seqc.quantization import Quantization


def complete_format(incomplete: str) -> list[str]:
    from seqc.backend import Quantizes, backends

    formats = [name for own in backends().values() if isinstance(own, Quantizes) for name in own.formats]
    return [name for name in formats if name.startswith(incomplete)]


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR|SPEC",
            help="A folder that `seqc compile --target onnx` wrote, or a spec.",
            autocompletion=complete_spec,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")],
    format: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="int8, 8bit, 4bit, float16 or bfloat16.", autocompletion=complete_format
        ),
    ] = "int8",
    block: Annotated[
        int | None,
        typer.Option(metavar="N", help="For 8bit and 4bit: how many inputs share a scale; 32 by default."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text to choose the rounding by; its rest judges the result."),
    ] = None,
    evaluate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text to judge the result by.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A tokenizer.json; without one, tokens are bytes.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE", help="For a SPEC: trained weights.")
    ] = None,
    name: Name = None,
    settings: Settings = None,
    threads: Annotated[int, typer.Option(min=1, help="How many threads may compute.")] = 1,
    json: Json = False,
) -> None:
    """Write ONNX graphs in fewer bits, and say what that costs and gains.

    The matrices that tokens are multiplied by are rounded; states, gates, norms and convolutions stay in single
    precision. int8 is the fastest for prompts, 4bit for single tokens; 8bit is the most exact of the three. --calibrate
    moves outliers out of what is rounded, and in 4bit makes up for what rounding loses.

    Example:

      seqc quantize built -o small --format 4bit --calibrate book.txt
      seqc quantize griffin --weights griffin.safetensors -o small --json
      seqc run small --prompt "def "
    """
    from seqc.quantization import quantize

    given = {"--weights": weights, "--name": name, "--set": settings}
    only_of_specs = [option for option, value in given.items() if value]
    with (
        _compiled(source, weights, name, settings, only_of_specs) as folder,
        progress(f"quantising {source} to {format}"),
    ):
        done = quantize(
            folder,
            out,
            format,
            block=block,
            calibrate=calibrate,
            evaluate=evaluate,
            tokenizer=tokenizer,
            threads=threads,
        )
    if json:
        print_json({"folder": str(out), **done.report()})
        return
    _print(out, done)


@contextmanager
def _compiled(
    source: str, weights: Path | None, name: str | None, settings: list[str] | None, given: list[str]
) -> Generator[Path]:
    """The folder itself, or one that a spec is compiled into for as long as it is needed."""
    from seqc.weights import read_weights

    if Path(source).is_dir():
        if given:
            raise typer.BadParameter(f"`{source}` is compiled already", param_hint=given[0])
        yield Path(source)
        return
    handle = chosen(find_spec(source), name, parse_settings(settings))
    tensors = None if weights is None else read_weights(weights, handle.whole)
    with TemporaryDirectory(prefix="seqc-quantize-") as place:
        folder = Path(place) / "built"
        with progress(f"compiling {handle.name} for onnx"):
            handle.write("onnx", folder, weights=tensors)
        yield folder


def _print(out: Path, done: Quantization) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("before", done.format):
        table.add_column(heading, justify="right")
    before, after = done.before, done.after
    if before.perplexity is not None and after.perplexity is not None:
        table.add_row("perplexity", f"{before.perplexity:,.4g}", f"{after.perplexity:,.4g}")
        table.add_row("error of the logits", "", f"{done.logits_error:.1e}")
        table.add_row("same likeliest token", "", f"{done.same_choice:.1%}")
    table.add_row("size, MB", f"{before.bytes / 1e6:,.1f}", f"{after.bytes / 1e6:,.1f}")
    if before.prefill is not None and after.prefill is not None:
        table.add_row("prefill, tokens/s", f"{before.prefill:,.0f}", f"{after.prefill:,.0f}")
        table.add_row("decode, tokens/s", f"{before.decode:,.0f}", f"{after.decode:,.0f}")
    kinds = ", ".join(f"{count} in {kind}" for kind, count in sorted(Counter(done.held.values()).items()))
    print(f"wrote {out}/: {kinds or 'nothing to quantise'}")
    if done.calibrated:
        print(
            f"calibrated by {plural(done.calibrated, 'token')}, outliers moved {plural(done.smoothed, 'time')}"
        )
    console().print(table)
    if done.judged:
        print(f"judged by {plural(done.judged, 'token')} of {done.judged_by}")
