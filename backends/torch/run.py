"""Running a folder that this backend wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from seqc.output import read_manifest

from .load import load_module

Arrays = dict[str, Any]
Tensors = dict[str, torch.Tensor]


class TorchRunner:
    """The emitted module with the weights that lie beside it; numpy arrays in and out."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        manifest = read_manifest(folder)
        name = str(manifest["class"])
        module = load_module((folder / str(manifest["module"])).read_text(encoding="utf-8"), name)
        self.model: Any = getattr(module, name)()
        self.kind = manifest["kind"]
        try:
            self.model.load_state_dict(load_file(folder / str(manifest["weights"])))
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        self.model.eval()

    @torch.inference_mode()
    def prefill(self, inputs: Any, state: Any = None) -> tuple[Arrays, Any]:
        outputs, state = self._called(self.model, _tensors(inputs), state=state)
        return self._arrays(outputs), state

    @torch.inference_mode()
    def step(self, inputs: Any, state: Any) -> tuple[Arrays, Any]:
        outputs, state = self._called(self.model.step, _tensors(inputs), state=state)
        return self._arrays(outputs), state

    def train(self, inputs: Any) -> None:
        given = _tensors(inputs)
        for x in given.values():
            x.requires_grad_(x.is_floating_point())
        outputs, _ = self._called(self.model, given)
        found = [x for x in outputs if x.requires_grad]
        torch.autograd.backward(found, [torch.ones_like(x) for x in found])
        self.model.zero_grad()

    def _called(self, call: Any, inputs: Tensors, **more: Any) -> tuple[tuple[torch.Tensor, ...], Any]:
        """Rules take their inputs by name, models in their order."""
        outputs, state = call(**inputs, **more) if self.kind == "rule" else call(*inputs.values(), **more)
        return (outputs if isinstance(outputs, tuple) else (outputs,)), state

    def _arrays(self, outputs: tuple[torch.Tensor, ...]) -> Arrays:
        """By name, in single precision; a model of tokens has the logits alone."""
        names = ["logits"] if self.kind == "tokens" else [f"output_{i}" for i in range(len(outputs))]
        single = [x if x.is_complex() else x.float() for x in outputs]
        return {name: x.numpy() for name, x in zip(names, single, strict=True)}


def _tensors(inputs: Any) -> Tensors:
    given: Mapping[str, Any] = inputs if isinstance(inputs, Mapping) else {"": inputs}
    return {name: torch.from_numpy(x.copy()) for name, x in given.items()}
