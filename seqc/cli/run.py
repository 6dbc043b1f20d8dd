"""`seqc run`: continue a text with a compiled model of bytes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from seqc.cli.common import Json, is_colourful, print_json


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `seqc compile` wrote.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The text to continue.")],
    length: Annotated[int, typer.Option("--length", "-l", min=1, help="How many bytes to add.")] = 200,
    threads: Annotated[int | None, typer.Option(min=1, help="How many threads may compute.")] = None,
    json: Json = False,
) -> None:
    """Continue a text, byte by byte, in ONNX Runtime or PyTorch (whichever DIR was compiled for).

    The next byte is always the likeliest one; of equally likely ones the lowest.

    Example:

      seqc compile griffin --target onnx --weights griffin.safetensors -o built
      seqc run built --prompt "def main("
    """
    from seqc.runtime import continued, load_runner

    if not prompt:
        raise typer.BadParameter("the prompt is empty", param_hint="--prompt")
    runner = load_runner(folder, threads)
    start = time.perf_counter()
    made = bytearray()
    for byte in continued(runner, os.fsencode(prompt), length):
        if not made and not json:
            _write(os.fsencode(prompt))
        made.append(byte)
        if not json:
            _write(bytes([byte]))
    spent = time.perf_counter() - start
    if json:
        text = made.decode(errors="replace")
        print_json({"prompt": prompt, "text": text, "bytes": list(made), "seconds": round(spent, 3)})
        return
    _write(b"\n")
    dim, off = ("\x1b[2m", "\x1b[0m") if is_colourful(sys.stderr) else ("", "")
    print(f"{dim}{length} bytes in {spent:.2f} s{off}", file=sys.stderr)


def _write(data: bytes) -> None:
    """Bytes as they come; a terminal gets those that could drive it as a replacement mark."""
    if sys.stdout.isatty():
        data = bytes(byte if byte >= 32 or byte in b"\n\t" else ord("?") for byte in data)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
