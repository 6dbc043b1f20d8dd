"""Running a folder that this backend wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from seqc.output import read_manifest

from .load import load_module

Arrays = dict[str, Any]


class TorchRunner:
    """The emitted module of a model of tokens, with the weights that lie beside it; numpy arrays in and out."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        manifest = read_manifest(folder)
        name = str(manifest["class"])
        module = load_module((folder / str(manifest["module"])).read_text(encoding="utf-8"), name)
        self.model: Any = getattr(module, name)()
        try:
            self.model.load_state_dict(load_file(folder / str(manifest["weights"])))
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        self.model.eval()

    @torch.inference_mode()
    def prefill(self, inputs: Any) -> tuple[Arrays, Any]:
        logits, state = self.model(torch.from_numpy(inputs.copy()))
        return {"logits": logits.float().numpy()}, state

    @torch.inference_mode()
    def step(self, inputs: Any, state: Any) -> tuple[Arrays, Any]:
        logits, state = self.model.step(torch.from_numpy(inputs.copy()), state)
        return {"logits": logits.float().numpy()}, state
