"""From a scheduled program to a folder: the module, its weights, the units of its rules and what runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqc.errors import UserError

from ..torch import BACKEND as TORCH
from ..torch.names import Names, identifier
from ..torch.write import origin_of
from .around import around
from .module import between, units
from .runtime.rule import Fused

if TYPE_CHECKING:
    from seqc.backend import Scheduled, Weights

KERNELS = "kernels"  # the package beside the module
RUNTIME = Path(__file__).parent / "runtime"


def write(
    program: Scheduled, folder: Path, weights: Weights | None, seed: int, options: Mapping[str, str]
) -> None:
    """Write everything into an existing folder: what the target `torch` writes, and the package `kernels`."""
    for name in options:
        raise UserError(f"the target `cpu` has no option `{name}`", "it has none")
    origin = origin_of(program)
    rules, blocks = units(program, origin), around(program, origin, partial(between, origin, 0.0))
    TORCH.write(program, folder, weights=weights, seed=seed, options={})
    kernels = folder / KERNELS
    kernels.mkdir()
    for path in sorted(RUNTIME.glob("*.py")):
        (kernels / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    names = Names()
    facts: dict[str, Any] = {"rules": {name: _unit(fused, kernels, names) for name, fused in rules.items()}}
    if blocks is not None:
        (kernels / "blocks.py").write_text(blocks.text, encoding="utf-8")
        facts["blocks"] = {
            block: {
                name: {
                    **_unit(call.fused, kernels, names, f"{block}_{name}"),
                    "windows": call.windows,
                    "delays": call.delays,
                }
                for name, call in calls.items()
            }
            for block, calls in blocks.calls.items()
        }
    (kernels / "units.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {"target": "cpu", "kernels": KERNELS}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _unit(fused: Fused, kernels: Path, names: Names, name: str = "") -> dict[str, Any]:
    """Write a unit; what is needed to call it."""
    file = f"{names.fresh(identifier(name or fused.name))}.cpp"
    (kernels / file).write_text(fused.text, encoding="utf-8")
    return {
        "name": fused.name,
        "unit": file,
        "interface": fused.kernel.interface._asdict(),
        "signature": fused.signature._asdict(),
        "work": fused.work,
    }
