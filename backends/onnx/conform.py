"""The graphs that conformance examines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from seqc.conformance.subject import Request, Tensors
from seqc.ir.paths import NamedState, state_table

from . import BACKEND
from .export import PORTABLE, PROFILES
from .session import Session


def subjects(request: Request) -> Iterator[Graphs]:
    """The graphs that any runtime reads; with time, those of the other profiles that use other operators."""
    known = state_table(request.whole)
    program = request.scheduled()
    portable: set[tuple[str, str]] = set()
    for profile in (PORTABLE,) if request.fast else PROFILES:
        folder = request.folder / profile
        folder.mkdir()
        BACKEND.write(program, folder, weights=request.weights, seed=0, options={"profile": profile})
        operators = _operators(folder)
        if operators != portable:
            yield Graphs(profile, Session(folder), known)
        portable = portable or operators


def _operators(folder: Path) -> set[tuple[str, str]]:
    """The operators of both graphs, with their domains."""
    files = sorted(folder.glob("*.onnx"))
    graphs = [ir.from_proto(onnx.load(path, load_external_data=False)).graph for path in files]
    return {(node.domain, node.op_type) for graph in graphs for node in graph.all_nodes()}


@dataclass(eq=False)
class Graphs:
    """`prefill.onnx` and `step.onnx` in ONNX Runtime."""

    mode: str
    session: Session
    known: Mapping[str, NamedState] = field(default_factory=dict[str, "NamedState"])
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
        """With the axes in the oracle's order; a complex state is two real numbers along a last axis."""
        found: dict[str, Tensor] = {}
        for info in self.session.manifest.states:
            if state is None or info.name not in state:
                continue
            x = torch.from_numpy(np.ascontiguousarray(state[info.name]))
            x = torch.view_as_complex(x) if info.layout == "complex" else x
            found[info.name] = self._ordered(x, info.axes[1:], self.known.get(info.name))
        return found

    def _ordered(self, x: Tensor, axes: tuple[str, ...], own: NamedState | None) -> Tensor:
        """A state with the axes in the oracle's order; in the graph a dimension may join several."""
        apart = " ".join(axes).split()
        if own is None or set(own.axes) != set(apart):
            return x
        sizes = dict(zip(own.axes, own.shape, strict=True))
        if len(apart) > len(axes):
            x = x.reshape(len(x), *(sizes[axis] for axis in apart))
        return x.permute(0, *(1 + apart.index(axis) for axis in own.axes))

    def bytes_of(self, state: Mapping[str, Any]) -> int:
        return sum(value.nbytes for value in state.values())

    def touched(self, inputs: Tensors, dtype: torch.dtype, state: Any) -> int:
        profiled = Profiled(self.session.folder)
        profiled.step(_numpy(inputs), state)
        return profiled.touched()

    def parameters(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {}


class Profiled(Session):
    """A session that says of every operation what shapes it was given and gave."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._options.enable_profiling = True
        self._options.profile_file_prefix = str(folder / "profile")

    def touched(self) -> int:
        """The numbers in the operands and the results of all operations of the steps so far."""
        assert self.manifest.step is not None
        events = json.loads(Path(self.graph(self.manifest.step).end_profiling()).read_text(encoding="utf-8"))
        return sum(
            prod(shape)
            for event in events
            for key in ("input_type_shape", "output_type_shape")
            for typed in event.get("args", {}).get(key, ())
            for shape in typed.values()
        )


def _numpy(inputs: Tensors) -> dict[str, Any]:
    return {name: x.detach().numpy() for name, x in inputs.items()}


def _torch(result: tuple[Mapping[str, Any], Any]) -> tuple[tuple[Tensor, ...], Any]:
    outputs, state = result
    return tuple(torch.from_numpy(np.ascontiguousarray(x)) for x in outputs.values()), state
