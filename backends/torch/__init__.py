"""The PyTorch backend: a self-contained, readable module that imports only torch.

    from seqc.backends.torch import emit_rule, emit_model, rule, model

    module = rule(recurrence)                 # torch.nn.Module: forward, step, init_state
    module = rule(recurrence, mode="step")    # "reference", "step", or a mode of the scheduler: "scan", "chunk", "loop"
    module = model(program)
    text = emit_rule(recurrence)              # what runs is exactly this text

Importing this package does not import torch; making a module does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqc.ir.plan import Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.ir.timing import reads_future

if TYPE_CHECKING:
    import torch

    from seqc.backend import Runner, Scheduled, Weights

LOOPS = ("reference", "step")
ONLINE = "rtrl"  # real-time recurrent learning
PlanOf = Callable[[Recurrence], Plan | None]


def emit_rule(recurrence: Recurrence, plan: Plan | None = None, mode: str | None = None) -> str:
    """The text of a module for a rule."""
    return module_text(recurrence, _plans(plan, mode))[0]


def emit_model(model: Model, mode: str | None = None) -> str:
    """The text of a module for a model."""
    return module_text(model, _plans(None, mode))[0]


def rule(
    recurrence: Recurrence, plan: Plan | None = None, mode: str | None = None, seed: int = 0
) -> torch.nn.Module:
    """A rule as a module, loaded from its emitted text."""
    return _loaded(recurrence, _plans(plan, mode), seed)


def model(model: Model, mode: str | None = None, seed: int = 0) -> torch.nn.Module:
    """A model as a module, loaded from its emitted text."""
    return _loaded(model, _plans(None, mode), seed)


def _plans(plan: Plan | None, mode: str | None) -> PlanOf:
    if mode in LOOPS:
        return lambda _: None
    if plan is not None:
        return lambda _: plan
    from seqc.passes.schedule import schedule

    return lambda recurrence: schedule(recurrence, mode)


def module_text(
    whole: Recurrence | Model, plans: PlanOf, origin: str = "", online: bool = False
) -> tuple[str, str]:
    """The text of a module and the name of its class; a rule may learn `online`."""
    from . import module

    if isinstance(whole, Model):
        return module.emit_model(whole, plans, origin)
    return module.emit_rule(whole, plans, origin, online)


def _loaded(
    whole: Recurrence | Model, plans: PlanOf, seed: int, origin: str = "", online: bool = False
) -> torch.nn.Module:
    from .load import load_module

    text, name = module_text(whole, plans, origin, online)
    made: torch.nn.Module = getattr(load_module(text, name), name)(seed)
    return made


@dataclass(frozen=True, slots=True)
class TorchBackend:
    """Writes a module; makes one."""

    about: str = "a self-contained PyTorch module, with its weights"

    def write(
        self,
        program: Scheduled,
        folder: Path,
        *,
        weights: Weights | None,
        seed: int,
        options: Mapping[str, str],
    ) -> None:
        """Write `<name>.py`, `weights.safetensors` and `manifest.json`."""
        from .write import write

        write(program, folder, weights, seed, options)

    def text(self, program: Scheduled) -> str:
        """What `write` puts into the module's file."""
        from .write import origin_of

        return module_text(program.whole, program.plan, origin_of(program))[0]

    def operators(self, plan: Plan) -> tuple[str, ...]:
        """`torch.gru` or `torch.lstm`."""
        from .cells import find_cell

        cell = find_cell(plan.recurrence, plan)
        return () if cell is None else (f"torch.{cell.kind}",)

    def module(self, program: Scheduled, mode: str | None = None, seed: int = 0) -> torch.nn.Module:
        """A module, made of exactly the text that `write` writes; `mode` may be "reference", "step" or
        "rtrl".
        """
        from seqc.passes.influence import NotElementwise

        from .diagnose import diagnosed, refusal
        from .write import origin_of

        online = mode == ONLINE
        with diagnosed(program):
            plans: PlanOf = (lambda _: None) if mode in LOOPS else program.plan
            origin = origin_of(program)
            if isinstance(program.whole, Recurrence):
                from .opened import Opened, open_axes

                if open_axes(program.whole):
                    return Opened(program.whole, lambda rule: _loaded(rule, plans, seed, origin, online))
            elif online:
                raise NotElementwise("a model does not learn online, a rule by itself may")
            made = _loaded(program.whole, plans, seed, origin, online)
        if isinstance(program.whole, Model) and reads_future(program.whole):
            object.__setattr__(made, "step", refusal(program, "a step of a model that reads the future"))
        return made

    def runner(self, folder: Path, threads: int | None) -> Runner:
        """The module with its weights, on the CPU."""
        from .run import TorchRunner

        return TorchRunner(folder, threads)


BACKEND = TorchBackend()
