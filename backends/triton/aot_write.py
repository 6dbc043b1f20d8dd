"""Writing the kernels of a rule, compiled ahead of time, into a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .aot import LOOP, Source, Target, fitted, sources, written
from .aot_shapes import of_loop, of_stage
from .runtime.chunk import bare
from .runtime.kernel import Interface
from .runtime.rule import Looped


def compile_all(rule: Looped, target: Target, folder: Path, stem: str, dtype: str = "float32") -> None:
    """Write a rule's kernels, whose inputs are of a type, for a target: machine code, assembly, and `….json`, which
    says how to launch them.

    A launch has a program for each sequence, row and tile; the arguments are the pointers of each tuple in order, then
    the numbers.  Of kernels that have `scratch`, so many numbers for each program, it may have some of these programs,
    from `start` on; those of its name with `_1`, `_2`, … go on for the same programs, in the same memory.  `shapes` has
    those of the tensors, see `aot_shapes.py`.  What `backward` of a loop leaves to others is in `products`: terms
    of the cotangents of constants, each by an equation of `einsum`, of two tensors by argument and number.
    """
    facts = list[dict[str, Any]]()
    faces = {stage.kernels.name: stage.kernels.face for stage in rule.stages}
    for given in sources(rule, target, dtype):
        in_loop = given.kernel in LOOP
        found = write_source(given, target, folder, stem if in_loop else f"{stem}_{given.name}")
        tile = found["constants"].get("TILE", 0)
        if rule.kernel is not None and in_loop:
            shapes = of_loop(rule.kernel.interface.cut(tile))
            if given.kernel == "backward":
                found["products"] = products(rule.kernel.interface)
        else:
            face = faces[given.name].cut(tile or faces[given.name].tile)
            shapes = of_stage(face, written(face, given.kernel))
            if (room := dict(face.room).get(bare(given.kernel))) is not None:
                found["scratch"] = room
        found["shapes"] = {name: shapes[name] for name in found["arguments"] if name in shapes}
        facts.append(found)
    write_facts(facts, target, dtype, folder, stem)


def products(face: Interface) -> list[dict[str, Any]]:
    """Where the terms of cotangents lie that are products."""
    inputs = [("inputs", k) for k in range(len(face.inputs))]
    first = sum(port.differentiable for port in face.inputs)
    operands = [*inputs, *(("d_inputs", first + k) for k in range(len(face.sides)))]
    return [
        {"constant": p.constant, "equation": p.equation, "of": [operands[p.left], operands[p.right]]}
        for p in face.products
    ]


def write_facts(facts: list[dict[str, Any]], target: Target, dtype: str, folder: Path, stem: str) -> None:
    (folder / f"{stem}_{_mark(target, dtype)}.json").write_text(
        json.dumps(facts, indent=1) + "\n", encoding="utf-8"
    )


def write_source(source: Source, target: Target, folder: Path, stem: str) -> dict[str, Any]:
    """Write a kernel's machine code and assembly; how to launch it."""
    given, made = fitted(source, target)
    name = f"{stem}_{made.kernel}_{_mark(target, given.dtype)}"
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


def _mark(target: Target, dtype: str) -> str:
    """What names of files end with."""
    return target.name if dtype == "float32" else f"{target.name}_{dtype}"
