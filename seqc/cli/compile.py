"""`seqc compile`: a spec as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqc.cli.common import (
    Json,
    Name,
    Schedule,
    Settings,
    Spec,
    chosen,
    find_spec,
    parse_settings,
    print_json,
    progress,
)


def complete_target(incomplete: str) -> list[str]:
    from seqc.backend import backends

    return [name for name in backends() if name.startswith(incomplete)]


def command(
    spec: Spec,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")],
    target: Annotated[
        str,
        typer.Option(
            "--target", "-t", help="torch, onnx, … (`seqc list targets`).", autocompletion=complete_target
        ),
    ] = "torch",
    name: Name = None,
    settings: Settings = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE", help="Trained weights, as safetensors.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Initialises the weights when there is no --weights.")] = 0,
    schedule: Schedule = None,
    profile: Annotated[str | None, typer.Option(help="For onnx: portable, ort or opset27.")] = None,
    aot: Annotated[
        str | None,
        typer.Option(help="For triton: GPUs whose machine code is written too, as sm_80,sm_90:bfloat16."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a PyTorch module or ONNX graphs, with weights, a manifest and a README.

    The folder appears complete, or, after an error, not at all.

    Example:

      seqc compile griffin --target torch --set d=256 -o built
      seqc compile griffin --target onnx --weights w.safetensors -o graphs
      seqc compile para_gru --schedule newton -o parallel
    """
    from seqc.weights import read_weights

    handle = chosen(find_spec(spec), name, parse_settings(settings))
    given = {"profile": profile, "aot": aot}
    options = {name: value for name, value in given.items() if value is not None}
    tensors = None if weights is None else read_weights(weights, handle.whole)
    with progress(f"compiling {handle.name} for {target}"):
        handle.write(target, out, weights=tensors, seed=seed, mode=schedule, **options)
    written = [{"file": path.name, "bytes": path.stat().st_size} for path in sorted(out.iterdir())]
    if json:
        print_json({"folder": str(out), "target": target, "files": written})
        return
    print(f"wrote {out}/")
    for file in written:
        print(f"  {file['file']:<24} {file['bytes']:>12,} bytes")
