"""Blocks whose elementwise operations, norms and convolutions run as units: their second `forward`, and its units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seqc.backend import Scheduled
from seqc.ir.expr import Invoke, walk
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence
from seqc.ir.timing import reads_future

from ..torch.functions import Classes
from ..torch.module import assemble, classes_of
from .cost import region_work
from .freed import freed
from .regions import Region, called, regions
from .runtime.around import Call
from .runtime.cost import Work, spared
from .runtime.rule import Fused

Made = Callable[[Recurrence, Work], Fused]
LONG = 2**20  # tokens, of which what a call costs is no part


@dataclass(frozen=True, slots=True)
class Around:
    """The blocks of a model that have units: a module with their classes, and what these call, by class and name."""

    text: str
    calls: dict[str, dict[str, Call]]


def around(program: Scheduled, origin: str, made: Made, every: bool = False) -> Around | None:
    """The blocks of a program of which parts run as units, each as `made` makes it; None if there are none.

    Parts for which PyTorch is predicted to be faster however long a sequence is are left out, unless `every` one is
    asked for.
    """
    whole = program.whole
    if not isinstance(whole, Model) or reads_future(whole):
        return None
    classes, _ = classes_of(whole, program.plan)
    texts, calls = list[str](), dict[str, dict[str, Call]]()
    for name, printer in classes.printers.items():
        if any(printer.static) or _has_cell(printer.function, classes):
            continue
        found = _units(printer.function, made, every)
        if found:
            function = called(printer.function, list(found))
            texts.append(freed(classes.forward(name, function, {region.rule for region in found})))
            calls[name] = {region.rule.name: call for region, call in found.items()}
    if not calls:
        return None
    about = f"The blocks of the model `{whole.name}`, parts of which run as compiled loops."
    return Around(assemble("\n\n\n".join(texts), origin, about, []), calls)


def _units(function: Function, made: Made, every: bool) -> dict[Region, Call]:
    """The parts of a block that are worth a unit."""
    found: dict[Region, Call] = {}
    for region in regions(function):
        work = region_work(region.rule)
        if every or spared(work, 1, LONG, training=False) > 0:
            windows = {window.name: list(window.states) for window in region.windows if window.stacked}
            delays = [window.name for window in region.windows if not window.stacked]
            found[region] = Call(made(region.rule, work), windows, delays)
    return found


def _has_cell(function: Function, classes: Classes) -> bool:
    """Whether a rule that PyTorch has an operator for is called, which takes maps of its inputs along."""
    callees = [node.callee for node in walk(function.outputs) if isinstance(node, Invoke)]
    return any(isinstance(callee, Recurrence) and classes.is_cell(callee) for callee in callees)
