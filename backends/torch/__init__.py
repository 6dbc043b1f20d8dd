"""The PyTorch backend: a self-contained, readable module that imports only torch.

    module = rule(recurrence)                 # torch.nn.Module: forward, step, init_state
    module = rule(recurrence, mode="step")    # "reference", "step", or a mode of the scheduler: "scan", "chunk", "loop"
    text = emit_rule(recurrence)              # what runs is exactly this text

Importing this package does not import torch; making a module does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqc.ir.plan import Plan
from seqc.ir.recurrence import Recurrence

from .load import load_module

if TYPE_CHECKING:
    import torch

LOOPS = ("reference", "step")


def emit_rule(recurrence: Recurrence, plan: Plan | None = None, mode: str | None = None) -> str:
    """The text of a module for a rule."""
    return _rule_text(recurrence, plan, mode)[0]


def rule(
    recurrence: Recurrence, plan: Plan | None = None, mode: str | None = None, seed: int = 0
) -> torch.nn.Module:
    """A rule as a module, loaded from its emitted text."""
    text, name = _rule_text(recurrence, plan, mode)
    made: Any = getattr(load_module(text, name), name)(seed)
    return made  # type: ignore[no-any-return]


def _rule_text(recurrence: Recurrence, plan: Plan | None, mode: str | None) -> tuple[str, str]:
    from .module import emit_rule as emit

    if mode in LOOPS:
        return emit(recurrence, None)
    if plan is None:
        from seqc.passes.schedule import schedule

        plan = schedule(recurrence, mode)
    return emit(recurrence, plan)
