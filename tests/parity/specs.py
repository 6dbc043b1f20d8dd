"""Specs by path, and what the oracle makes of them: the side of a parity test that is ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seqc.bundled import folder
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.oracle import Outputs, States, run_model, run_recurrence
from seqc.spec import AxesOf, Spec, load, loads

Values = Mapping[str, Tensor]


def spec(path: str) -> Spec:
    return load(folder("specs") / path)


def rule(path: str, name: str | None = None, axes: AxesOf | None = None, **sizes: float) -> Recurrence:
    """A rule of a bundled spec, mapped over the axes of its inputs where `axes` says so."""
    handle = spec(path).rule(name, **sizes)
    return handle.recurrence if axes is None else handle.mapped(axes)


def written(text: str, **sizes: float) -> Recurrence:
    """The rule in a text."""
    return loads(text).rule(**sizes).recurrence


def model(path: str, name: str | None = None, **settings: float) -> Model:
    return spec(path).model(name, **settings).model


def block(path: str, name: str, **settings: float) -> Model:
    return spec(path).block(name, **settings).model


def apply(recurrence: Recurrence, inputs: Values, parameters: Values | None = None) -> Tensor:
    """The first output of a rule, `[batch, time, *axes]`, from the oracle."""
    outputs, _ = run_recurrence(recurrence, inputs, parameters or {})
    return outputs[0]


def apply_model(whole: Model, inputs: Tensor | Values, parameters: Values) -> Tensor:
    return run_model(whole, inputs, parameters)[0][0]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(got: Tensor, want: Tensor, tolerance: float = 1e-12) -> None:
    """Equal up to rounding, relative to the largest entry."""
    assert got.shape == want.shape
    got, want = got.detach(), want.detach()
    scale = float(want.abs().max()) or 1.0
    error = float((got - want).abs().max()) / scale
    assert error <= tolerance, f"differs by {error:.1e}"


def step(
    whole: Recurrence | Model, inputs: Values, parameters: Values, state: Values | None
) -> tuple[Outputs, States]:
    """One part of a sequence, carried on from `state`."""
    if isinstance(whole, Recurrence):
        return run_recurrence(whole, inputs, parameters, state)
    return run_model(whole, inputs, parameters, state)
