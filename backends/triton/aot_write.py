"""Writing the kernels of a rule, compiled ahead of time, into a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .aot import LOOP, Source, Target, fitted, sources
from .runtime.chunk import bare
from .runtime.rule import Looped


def compile_all(rule: Looped, target: Target, folder: Path, stem: str) -> None:
    """Write a rule's kernels for a target: machine code, assembly, and `….json`, which says how to launch them.

    A launch has a program for each sequence, row and tile; the arguments are the pointers of each tuple in order, then
    the numbers.  Of kernels that have `scratch`, so many numbers for each program, it may have some of these programs,
    from `start` on; those of its name with `_1`, `_2`, … go on for the same programs, in the same memory.
    """
    facts = list[dict[str, Any]]()
    rooms = {stage.kernels.name: dict(stage.kernels.face.room) for stage in rule.stages}
    for given in sources(rule, target, "float32"):
        of_loop = given.kernel in LOOP
        found = write_source(given, target, folder, stem if of_loop else f"{stem}_{given.name}")
        room = None if of_loop else rooms[given.name].get(bare(given.kernel))
        facts.append(found if room is None else {**found, "scratch": room})
    write_facts(facts, target, folder, stem)


def write_facts(facts: list[dict[str, Any]], target: Target, folder: Path, stem: str) -> None:
    (folder / f"{stem}_{target.name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def write_source(source: Source, target: Target, folder: Path, stem: str) -> dict[str, Any]:
    """Write a kernel's machine code and assembly; how to launch it."""
    given, made = fitted(source, target)
    name = f"{stem}_{made.kernel}_{target.name}"
    binary, text = (".cubin", ".ptx") if target.backend == "cuda" else (".hsaco", ".s")
    (folder / f"{name}{binary}").write_bytes(made.code)
    (folder / f"{name}{text}").write_text(made.assembly, encoding="utf-8")
    return {
        "function": made.kernel,
        "file": f"{name}{binary}",
        "grid": given.grid,
        "threads": made.choice.warps * target.warp,
        "shared": made.shared,
        "registers": made.registers,
        "spills": made.spills,
        "arguments": {key: value for key, value in given.types.items() if key not in given.fixed},
        "constants": {key: value for key, value in given.fixed.items() if value is not None},
    }
