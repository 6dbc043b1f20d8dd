"""Compiling the kernels of what rules with growing stores read, ahead of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .aot import KINDS, NAMES, Source, Target
from .aot_write import write_facts, write_source
from .runtime.attention import STAGES, Reading, ReadKernels, products
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


def signature(
    face: Reading, kernel: str, dtype: str, products: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The types of a kernel's arguments, and the values of those that are known when it is compiled.

    What is the rule's input as it is, or a result, is of the type `dtype`; all else is single precision.
    """

    def pointers(ports: Sequence[Port], shared: bool = False) -> tuple[str, ...]:
        return tuple(
            f"*{dtype if port.given and (port.shares == 1 or not shared) else 'fp32'}" for port in ports
        )

    size = face.size(kernel, products)
    narrow = any(port.given for port in (*face.queries, *face.entries))
    results = (f"*{dtype if narrow else 'fp32'}",) * len(face.outputs)
    known: dict[str, Any] = {
        "queries": pointers(face.queries),
        "entries": pointers(face.entries),
        "starts": "*i64",
        "found": pointers(face.found),
        "outputs": results,
        "d_outputs": results,
        "flow": pointers(face.found[-face.sums :]),
        "d_queries": pointers([port for port in face.queries if port.differentiable], True),
        "d_entries": pointers(face.entries, True),
        "tokens": "i32",
        "total": "i32",
        "time": "i32",
    }
    fixed: dict[str, Any] = {
        "KEEPS": True,
        "WINDOW": face.window,
        "SINKS": face.sinks,
        "QUERIES": size.queries,
        "ENTRIES": size.entries,
        "TILE": 1,
        **products,
    }
    if kernel != "read":
        del fixed["KEEPS"]
    return {**{key: known[key] for key in ARGUMENTS[kernel]}, **dict.fromkeys(fixed, "constexpr")}, fixed


def source(
    made: ReadKernels,
    kernel: str,
    target: Target,
    dtype: str = "float32",
    asked: str = "highest",
    choice: Choice | None = None,
) -> Source:
    """A kernel of a unit; `asked` is the precision that PyTorch is told for products of matrices."""
    face = made.face
    kind = KINDS[NAMES[dtype]] if face.factors else KINDS["fp32"]
    rounded = products(kind, target.backend != "cuda", asked)
    types, fixed = signature(face, kernel, NAMES[dtype], rounded)
    per = BLOCKS[kernel].format(queries=fixed["QUERIES"], entries=fixed["ENTRIES"])
    grid, choice = (
        f"batch * {face.rows} * ceil({per})",
        choice or Choice(face.size(kernel, rounded).warps, STAGES),
    )
    again = partial(source, made, kernel, target, dtype, asked)
    return Source(made.text, made.name, kernel, types, fixed, choice, dtype, grid, 0, again)


def sources(made: ReadKernels, target: Target, dtype: str = "float32") -> Iterator[Source]:
    """All kernels of a unit whose inputs are of a type."""
    for kernel in ARGUMENTS:
        yield source(made, kernel, target, dtype)


def compile_reads(made: ReadKernels, target: Target, folder: Path, stem: str, dtype: str = "float32") -> None:
    """Write the kernels of a unit for a target, as `compile_all` writes those of a rule."""
    facts = [write_source(given, target, folder, stem) for given in sources(made, target, dtype)]
    write_facts(facts, target, dtype, folder, stem)
