"""From a scheduled program to a module of the PyTorch backend whose rules run as kernels on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from seqc.backend import Scheduled
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence

from ..cpu.diagnose import Unsupported
from ..cpu.mapped import mapped
from ..cpu.module import rules_of, signature_of
from ..cpu.runtime.attach import Flags, attach
from ..torch import module_text
from ..torch.load import load_module
from ..torch.names import identifier
from .runtime.rule import Looped
from .unit import emit


def build(program: Scheduled, origin: str, seed: int = 0) -> nn.Module:
    """The module of a program; rules that have no kernels run as the PyTorch backend schedules them."""
    rules = units(program, origin)
    text, name = module_text(program.whole, program.plan, origin)
    made: nn.Module = getattr(load_module(text, name), name)(seed)
    return attach(made, rules)


def units(program: Scheduled, origin: str) -> dict[str, Looped]:
    """The unit of every rule that has one, by the name of its class.  Raises `Unsupported` for a rule on its own."""
    found: dict[str, Looped] = {}
    for name, recurrence, given in rules_of(program):
        try:
            found[name] = looped(recurrence, origin, given)
        except Unsupported:
            if not isinstance(program.whole, Model):
                raise
    return found


def looped(recurrence: Recurrence, origin: str, given: Sequence[str] = ()) -> Looped:
    made = emit(recurrence, origin)

    def over(lengths: tuple[int, ...], has: Flags) -> Looped:
        return looped(mapped(recurrence, lengths, has), origin)

    return Looped(
        identifier(recurrence.name), made.text, made.interface, signature_of(recurrence, given), over
    )
