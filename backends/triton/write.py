"""From a scheduled program to a folder: the module, its weights, the kernels of its rules and what calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seqc.errors import UserError

from ..cpu.write import RUNTIME as SHARED
from ..torch import BACKEND as TORCH
from ..torch.names import Names, identifier
from ..torch.write import origin_of
from .aot import typed_targets
from .aot_reads import compile_reads
from .aot_write import compile_all
from .module import bounded, reads, units
from .runtime.chunk import BlockKernels, BlockStage
from .runtime.rule import Looped

if TYPE_CHECKING:
    from seqc.backend import Scheduled, Weights

KERNELS = "kernels"  # the package beside the module
RUNTIME = Path(__file__).parent / "runtime"


def write(
    program: Scheduled, folder: Path, weights: Weights | None, seed: int, options: Mapping[str, str]
) -> None:
    """Write everything into an existing folder: what the target `torch` writes, and the package `kernels`.

    The option `aot` names GPUs (`sm_90`, or several with commas) whose machine code is written as well, for inputs in
    single precision or of the type behind a colon (`sm_90:bfloat16`).
    """
    for name in options:
        if name != "aot":
            raise UserError(f"the target `triton` has no option `{name}`", "it has `aot`")
    wanted = typed_targets(options["aot"]) if "aot" in options else []
    program, origin = bounded(program), origin_of(program)
    rules = units(program, origin)
    TORCH.write(program, folder, weights=weights, seed=seed, options={})
    kernels = folder / KERNELS
    kernels.mkdir()
    for path in sorted(RUNTIME.glob("*.py")):
        source = SHARED / path.name if path.name == "attach.py" else path
        (kernels / path.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    facts, names = dict[str, object](), Names()
    for name, looped in rules.items():
        stem = names.fresh(identifier(looped.name))
        loop = looped.kernel
        if loop is not None:
            (kernels / f"{stem}.py").write_text(loop.text, encoding="utf-8")
        facts[name] = {
            "name": looped.name,
            "unit": f"{stem}.py" if loop is not None else "",
            "interface": loop.interface._asdict() if loop is not None else {},
            "signature": looped.signature._asdict(),
            "kept": sorted(looped.kept),
            "stages": [_stage(stage, kernels, names, stem) for stage in looped.stages],
            "around": _around(looped, kernels, names, stem),
            "others": _others(looped, kernels, names, stem),
        }
        for target, dtype in wanted:
            compile_all(looped, target, kernels, stem, dtype)
    for name, read in reads(program, origin).items():
        stem = names.fresh(identifier(f"{read.kernels.name}_reads"))
        (kernels / f"{stem}.py").write_text(read.kernels.text, encoding="utf-8")
        facts[name] = {
            "name": read.kernels.name,
            "operator": read.operator,
            "owner": read.owner,
            "unit": f"{stem}.py",
            "reads": read.kernels.face._asdict(),
            "given": {name: getattr(read.given, name) for name in ("inputs", "stores", "stages")},
        }
        for target, dtype in wanted:
            compile_reads(read.kernels, target, kernels, stem, dtype)
    (kernels / "units.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {"target": "triton", "kernels": KERNELS}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _around(looped: Looped, folder: Path, names: Names, stem: str) -> str:
    """Write what PyTorch does around the kernels of stages; its file, if that is not what the module does."""
    if looped.course is None:
        return ""
    file = f"{names.fresh(f'{stem}_around')}.py"
    (folder / file).write_text(looped.course.text, encoding="utf-8")
    return file


def _others(looped: Looped, folder: Path, names: Names, stem: str) -> dict[int, object]:
    """Write the units of the stages with blocks of other lengths; what the runtime has to know of them, by length."""
    found = {block: made for block, others in looped.others.items() if (made := others()) is not None}
    return {
        block: [
            _unit(each, folder, names, f"{stem}_{identifier(stage.owner).lower()}_{block}")
            for stage, each in zip(looped.stages, made, strict=True)
        ]
        for block, made in found.items()
    }


def _stage(stage: BlockStage, folder: Path, names: Names, stem: str) -> dict[str, object]:
    """Write the unit of a stage; what the runtime has to know of it."""
    unit = _unit(stage.kernels, folder, names, f"{stem}_{identifier(stage.owner).lower()}")
    return {"operator": stage.operator, "owner": stage.owner, **unit}


def _unit(kernels: BlockKernels, folder: Path, names: Names, stem: str) -> dict[str, object]:
    file = f"{names.fresh(stem)}.py"
    (folder / file).write_text(kernels.text, encoding="utf-8")
    return {"name": kernels.name, "unit": file, "face": kernels.face._asdict()}
