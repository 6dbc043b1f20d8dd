"""What conformance examines: one form of a program in one backend, behind one face.

A backend offers its forms in a module `conform` of its own package, with one function:

    def subjects(request: Request) -> Iterable[Subject]

Tensors are torch's on both sides, whatever the backend computes with.  A backend without the module has
nothing to examine, which is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from seqc.backend import GROUP, Scheduled, backend
from seqc.ir.plan import Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence

Tensors = Mapping[str, Tensor]
State = Any


@dataclass(frozen=True)
class Request:
    """What is to be examined: `weights` are float64, by full name; `folder` is empty and the backend's own.

    `scheduled(mode)` is the program with every rule in that parallel form, None for the scheduler's choice;
    `modes` are the forms that the program's rules allow.  Where one is `asked` for there is no other.
    """

    whole: Recurrence | Model
    weights: Tensors
    folder: Path
    modes: tuple[str, ...]
    fast: bool
    asked: str | None = None

    @property
    def chosen(self) -> str | None:
        """The form that the scheduler chooses for a rule."""
        from seqc.passes.schedule import schedule

        return schedule(self.whole).mode if isinstance(self.whole, Recurrence) else None

    def scheduled(self, mode: str | None = None) -> Scheduled:
        from seqc.passes.schedule import schedule

        mode = mode or self.asked

        def plan(recurrence: Recurrence) -> Plan:
            chosen = schedule(recurrence)
            return (
                chosen
                if mode in (None, chosen.mode) or mode not in chosen.modes
                else schedule(recurrence, mode)
            )

        return Scheduled(self.whole, plan)


class Subject(Protocol):
    """One form of a program.  `run` and `step` may be called with `state` None for the initial state."""

    @property
    def backend(self) -> str: ...

    @property
    def mode(self) -> str: ...

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """What it computes in, widest first."""
        ...

    @property
    def differentiable(self) -> bool: ...

    @property
    def resets(self) -> bool: ...

    @property
    def maps(self) -> bool:
        """Whether inputs may have further axes, after batch and time."""
        ...

    def run(
        self, inputs: Tensors, dtype: torch.dtype, state: State = None, reset: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], State]:
        """Whole sequences: inputs and outputs `[batch, time, *axes]`."""
        ...

    def step(
        self, inputs: Tensors, dtype: torch.dtype, state: State = None
    ) -> tuple[tuple[Tensor, ...], State]:
        """One token: inputs and outputs `[batch, *axes]`."""
        ...

    def states(self, state: State) -> dict[str, Tensor]:
        """The tensors of a state that have the oracle's names and shapes (not how a store is kept)."""
        ...

    def bytes_of(self, state: State) -> int:
        """How much memory a state takes."""
        ...

    def touched(self, inputs: Tensors, dtype: torch.dtype, state: State) -> int:
        """How many numbers the operands and the results of all operations of one step have."""
        ...

    def parameters(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The tensors that `run` computes with, by full name, to take gradients by."""
        ...


def subjects(name: str, request: Request) -> Iterable[Subject]:
    """The forms that a backend offers, possibly none."""
    own = type(backend(name)).__module__
    for package in (f"{GROUP}.{name}", own, own.rpartition(".")[0]):
        if package and _exists(f"{package}.conform"):
            offered: Iterable[Subject] = import_module(f"{package}.conform").subjects(request)
            return offered
    return ()


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
