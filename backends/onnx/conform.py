"""The graphs that conformance examines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqc.conformance.subject import Request, Tensors

from . import BACKEND
from .session import Session


def subjects(request: Request) -> Iterator[Graphs]:
    """The scheduler's choice, as any runtime reads it."""
    folder = request.folder / "portable"
    folder.mkdir()
    program = request.scheduled()
    BACKEND.write(program, folder, weights=request.weights, seed=0, options={"profile": "portable"})
    yield Graphs("portable", Session(folder))


@dataclass(eq=False)
class Graphs:
    """`prefill.onnx` and `step.onnx` in ONNX Runtime."""

    mode: str
    session: Session
    backend: str = "onnx"
    dtypes: tuple[torch.dtype, ...] = (torch.float32,)
    differentiable: bool = False
    maps: bool = False

    @property
    def resets(self) -> bool:
        return self.session.manifest.reset is not None

    def run(
        self, inputs: Tensors, dtype: torch.dtype, state: Any = None, reset: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], Any]:
        reset_ = None if reset is None else reset.numpy()
        return _torch(self.session.prefill(_numpy(inputs), state, reset_))

    def step(self, inputs: Tensors, dtype: torch.dtype, state: Any = None) -> tuple[tuple[Tensor, ...], Any]:
        return _torch(self.session.step(_numpy(inputs), state))

    def states(self, state: Mapping[str, Any] | None) -> dict[str, Tensor]:
        """A complex state is two real numbers along a last axis."""
        layouts = {info.name: info.layout for info in self.session.manifest.states}
        found: dict[str, Tensor] = {}
        for name, value in (state or {}).items():
            x = torch.from_numpy(np.ascontiguousarray(value))
            found[name] = torch.view_as_complex(x) if layouts[name] == "complex" else x
        return found

    def bytes_of(self, state: Mapping[str, Any]) -> int:
        return sum(value.nbytes for value in state.values())

    def parameters(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {}


def _numpy(inputs: Tensors) -> dict[str, Any]:
    return {name: x.detach().numpy() for name, x in inputs.items()}


def _torch(result: tuple[Mapping[str, Any], Any]) -> tuple[tuple[Tensor, ...], Any]:
    outputs, state = result
    return tuple(torch.from_numpy(np.ascontiguousarray(x)) for x in outputs.values()), state
