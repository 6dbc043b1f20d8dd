"""The short README that lies beside what a backend wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import seqc
from seqc.ir.program import Model

if TYPE_CHECKING:
    from seqc.backend import Scheduled

README = "README.md"
RUN = 'A model of bytes is continued with `seqc run <this folder> --prompt "def "`.'

# What a file is, by name or by ending, for the files that backends write.
_ABOUT = {
    "prefill.onnx": "the graph for a whole sequence",
    "step.onnx": "the graph for one token",
    "init.safetensors": "the states before the first token, where they are not a number",
    "weights.safetensors": "the parameters, by name",
    "kernels": "the rules as C++ units, and `attached`, which makes the module run them",
    "manifest.json": "inputs, outputs, states and their initial values, for programs",
    ".py": "the module: `forward`, `step`, `init_state`; it imports only torch",
    ".data": "weights that a graph refers to",
}


def write_readme(program: Scheduled, target: str, folder: Path, settings: Mapping[str, float]) -> None:
    """Describe a folder as it stands; says the same for the same input."""
    whole = program.whole
    kind = "model" if isinstance(whole, Model) else "rule"
    shown = ", ".join(f"{name} = {value:g}" for name, value in settings.items())
    source = "" if program.place is None else f" from `{Path(program.place.source.name).name}`"
    lines = [f"# {program.name} for {target}", ""]
    lines += [f"The {kind} `{program.name}`{source}, compiled by seqc {seqc.__version__}"]
    lines[-1] += f" with {shown}." if shown else "."
    _write(lines, folder, isinstance(whole, Model) and whole.kind == "tokens")


def write_quantized_readme(folder: Path, name: str, format: str, runs: bool) -> None:
    """Describe a folder that `seqc quantize` made; `runs` where `seqc run` takes it."""
    lines = [
        f"# {name} in {format}",
        "",
        f"The model `{name}`, quantised to {format} by seqc {seqc.__version__}.",
    ]
    _write(lines, folder, runs)


def _write(lines: list[str], folder: Path, runs: bool) -> None:
    lines += ["", "| file | what it is |", "| --- | --- |"]
    for path in sorted(folder.iterdir()):
        lines.append(f"| `{path.name}` | {_ABOUT.get(path.name) or _ABOUT.get(path.suffix, '')} |")
    if runs:
        lines += ["", RUN]
    (folder / README).write_text("\n".join(lines) + "\n", encoding="utf-8")
