"""Exporting a program, running it in ONNX Runtime, and the definition beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seqc.ir.expr import DType
from seqc.ir.plan import Plan
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence
from seqc.oracle import initial_parameters, run_whole
from seqc.passes.schedule import schedule

from .parts import Session, State, writing

Array = npt.NDArray[Any]
Inputs = dict[str, Array]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def sigmoid(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 1 / (1 + np.exp(-2 * rng.standard_normal(shape)))


def unit(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    x = rng.standard_normal(shape)
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def half_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 0.5 * rng.standard_normal(shape)


DRAWS: dict[str, Draw] = {
    "a": sigmoid,
    "g": sigmoid,
    "beta": sigmoid,
    "slope": sigmoid,
    "small": lambda rng, shape: 0.1 * sigmoid(rng, shape),
    "k": unit,
    "l": unit,
}


@dataclass(frozen=True)
class Exported:
    """A program in both forms."""

    owner: Recurrence | Function
    parameters: Mapping[str, torch.Tensor]
    session: Session

    def inputs(self, batch: int, time: int, draws: Mapping[str, Draw] | None = None, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        how = {**DRAWS, **(draws or {})}
        made: Inputs = {}
        for leaf in self.owner.inputs:
            shape = (batch, time, *(self.owner.sizes[a] for a in leaf.axes))
            if leaf.dtype is DType.INT:
                made[leaf.name] = rng.integers(0, 16, shape)
            else:
                draw = how.get(leaf.name, half_normal)
                made[leaf.name] = draw(rng, shape).astype(np.float32)
        return made

    def expected(self, inputs: Inputs, reset: Array | None = None) -> list[Array]:
        """What the definition says."""
        given = {
            k: torch.from_numpy(np.asarray(x, np.float64 if x.dtype.kind == "f" else x.dtype))
            for k, x in inputs.items()
        }
        mask = None if reset is None else torch.from_numpy(reset)
        outputs, _ = run_whole(self.owner, given, self.parameters, None, mask)
        return [x.numpy() for x in outputs]

    def whole(
        self, inputs: Inputs, reset: Array | None = None, state: State | None = None
    ) -> tuple[list[Array], State]:
        outputs, after = self.session.prefill(inputs, state, reset)
        return list(outputs.values()), after

    def split(self, inputs: Inputs, places: list[int], reset: Array | None = None) -> list[Array]:
        """The outputs of several calls, one after another, joined along time."""
        state: State | None = None
        pieces: list[list[Array]] = []
        time = len(next(iter(inputs.values()))[0])
        for start, stop in zip([0, *places], [*places, time], strict=True):
            here = {k: x[:, start:stop] for k, x in inputs.items()}
            outputs, state = self.whole(here, None if reset is None else reset[:, start:stop], state)
            pieces.append(outputs)
        return [np.concatenate(series, 1) for series in zip(*pieces, strict=True)]

    def steps(self, inputs: Inputs, start: int, reset: Array | None = None) -> list[Array]:
        """The outputs from token `start` on, a token at a time after a prefill."""
        state: State | None = None
        if start:
            before = {k: x[:, :start] for k, x in inputs.items()}
            _, state = self.whole(before, None if reset is None else reset[:, :start])
        pieces: list[list[Array]] = []
        for t in range(start, len(next(iter(inputs.values()))[0])):
            here = {k: x[:, t] for k, x in inputs.items()}
            outputs, state = self.session.step(here, state, None if reset is None else reset[:, t])
            pieces.append(list(outputs.values()))
        return [np.stack(series, 1) for series in zip(*pieces, strict=True)]


def export(
    whole: Recurrence | Function | Model, folder: Path, mode: str | None = None, profile: str = "portable"
) -> Exported:
    """Write a program with its initial parameters and load it again."""
    parameters = {name: x.float() for name, x in initial_parameters(whole, 1).items()}

    def plan(recurrence: Recurrence) -> Plan:
        return schedule(recurrence, mode)

    writing.write(whole, folder, parameters, plan, profile=profile)
    owner = whole.body if isinstance(whole, Model) else whole
    return Exported(owner, parameters, Session(folder))


def error(found: Array, wanted: Array) -> float:
    """The relative 2-norm of a difference; an absolute one where nothing is wanted."""
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    return float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-3))
