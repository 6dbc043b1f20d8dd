"""From a scheduled program to a folder: the module, its weights, a manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import seqc
from seqc.errors import UserError
from seqc.ir.paths import parameter_table, state_table
from seqc.ir.program import Model
from seqc.ir.timing import reads_future

from .diagnose import diagnosed
from .names import identifier

if TYPE_CHECKING:
    from seqc.backend import Scheduled, Weights


def origin_of(program: Scheduled) -> str:
    """`griffin.seq`, for the first line of the file: no path of this machine."""
    return PurePath(program.origin.source.name).name


def write(
    program: Scheduled, folder: Path, weights: Weights | None, seed: int, options: Mapping[str, str]
) -> None:
    """Write everything into an existing folder."""
    from safetensors.torch import save_file

    from . import module_text
    from .load import load_module

    for name in options:
        raise UserError(f"the target `torch` has no option `{name}`", "it has none")
    with diagnosed(program):
        text, name = module_text(program.whole, program.plan, origin_of(program))
    file = f"{identifier(program.name)}.py"
    (folder / file).write_text(text, encoding="utf-8")
    module = getattr(load_module(text, name), name)(seed)
    if weights is not None:
        module.load_state_dict({key: _tensor(value) for key, value in weights.items()})
    state = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    manifest = _manifest(program, file, name)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _tensor(value: Any) -> Any:
    import torch

    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)


def _manifest(program: Scheduled, file: str, name: str) -> dict[str, Any]:
    whole = program.whole
    is_model = isinstance(whole, Model)
    return {
        "version": 1,
        "generator": f"seqc {seqc.__version__}",
        "target": "torch",
        "name": whole.name,
        "kind": whole.kind if isinstance(whole, Model) else "rule",
        "module": file,
        "class": name,
        "weights": "weights.safetensors",
        "step": not (is_model and reads_future(whole)),
        "parameters": {key: list(entry.shape) for key, entry in parameter_table(whole).items()},
        "states": {key: ["batch", *entry.shape] for key, entry in state_table(whole).items()},
    }
