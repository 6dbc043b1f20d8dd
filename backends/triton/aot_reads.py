"""Compiling the kernels of what rules with growing stores read, ahead of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .aot import Source, Target
from .aot_write import write_facts, write_source
from .runtime.attention import STAGES, Reading, ReadKernels
from .runtime.kernel import Port
from .runtime.launch import Choice

BLOCKS = {"read": "time / {queries}", "back_queries": "time / {queries}", "back_entries": "total / {entries}"}
ARGUMENTS = {
    "read": ("queries", "entries", "starts", "found", "outputs", "total", "time"),
    "back_queries": (
        *("queries", "entries", "starts", "found", "d_outputs", "flow", "d_queries"),
        *("tokens", "total", "time"),
    ),
    "back_entries": (
        *("queries", "entries", "starts", "found", "flow", "d_entries"),
        *("tokens", "total", "time"),
    ),
}


def kernels(face: Reading) -> list[str]:
    """The names of the kernels of a unit."""
    return ["read", "back_queries", *(f"back_entries{k}" for k in range(len(face.groups)))]


def signature(face: Reading, kernel: str, precision: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The types of a kernel's arguments, and the values of those that are known when it is compiled."""

    def pointers(ports: Sequence[Port]) -> tuple[str, ...]:
        return ("*fp32",) * len(ports)

    name = kernel.rstrip("0123456789")
    group = face.groups[int(kernel[len(name) :] or 0)]
    known: dict[str, Any] = {
        "queries": pointers(face.queries),
        "entries": pointers(face.entries),
        "starts": "*i64",
        "found": pointers(face.found),
        "outputs": pointers(face.outputs),
        "d_outputs": pointers(face.outputs),
        "flow": pointers(face.found[-face.sums :]),
        "d_queries": pointers([port for port in face.queries if port.differentiable]),
        "d_entries": pointers([face.entries[k] for k in group]),
        "tokens": "i32",
        "total": "i32",
        "time": "i32",
    }
    fixed: dict[str, Any] = {
        "KEEPS": True,
        "WINDOW": face.window,
        "SINKS": face.sinks,
        "QUERIES": face.queries_at_once,
        "ENTRIES": face.entries_at_once,
        "TILE": 1,
        "PRECISION": precision,
    }
    if name != "read":
        del fixed["KEEPS"]
    return {**{key: known[key] for key in ARGUMENTS[name]}, **dict.fromkeys(fixed, "constexpr")}, fixed


def source(
    made: ReadKernels,
    kernel: str,
    target: Target,
    precision: str | None = None,
    choice: Choice | None = None,
) -> Source:
    """A kernel of a unit; products are exact unless `precision` is `tf32`."""
    face = made.face
    types, fixed = signature(face, kernel, precision or _exact(target))
    per = BLOCKS[kernel.rstrip("0123456789")].format(
        queries=face.queries_at_once, entries=face.entries_at_once
    )
    grid, choice = f"batch * {face.rows} * ceil({per})", choice or Choice(face.warps, STAGES)
    again = partial(source, made, kernel, target, precision)
    return Source(made.text, made.name, kernel, types, fixed, choice, "float32", grid, 0, again)


def sources(made: ReadKernels, target: Target) -> Iterator[Source]:
    """All kernels of a unit."""
    for kernel in kernels(made.face):
        yield source(made, kernel, target)


def _exact(target: Target) -> str:
    return "tf32x3" if target.backend == "cuda" else "ieee"


def compile_reads(made: ReadKernels, target: Target, folder: Path, stem: str) -> None:
    """Write the kernels of a unit for a target, as `compile_all` writes those of a rule."""
    facts = [write_source(given, target, folder, stem) for given in sources(made, target)]
    write_facts(facts, target, folder, stem)
