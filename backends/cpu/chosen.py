"""Which parts of a model's blocks are worth a unit, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from seqc.backend import Scheduled
from seqc.ir.expr import Invoke, Reduce
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence
from seqc.ir.timing import reads_future
from seqc.ir.traverse import walk

from ..torch.cells import find_cell
from ..torch.diagnose import Unsupported
from ..torch.functions import PlanOf
from ..torch.module import classes_of
from .cost import region_work
from .regions import Region, regions
from .runtime.cost import Work, spared

LONG = 2**20  # tokens, of which what a call costs is no part


@dataclass(frozen=True, slots=True)
class Chosen:
    """A block and its parts in order; `name` is that of its class, and `printed` prints another class of that name."""

    name: str
    function: Function
    parts: Sequence[tuple[Region, Work]]
    printed: Callable[[Function, Set[Recurrence]], str]


def chosen(program: Scheduled, every: bool, printed: PlanOf | None = None) -> Iterator[Chosen]:
    """The blocks of a program that have such parts; rules are printed as `printed` says, by default as they run.

    Parts for which PyTorch is predicted to be faster however long a sequence is are left out, unless `every` one is
    asked for.
    """
    whole = program.whole
    if not isinstance(whole, Model) or reads_future(whole):
        return
    classes, _ = classes_of(whole, printed or program.plan)
    for name, printer in classes.printers.items():
        if any(printer.static) or _has_cell(printer.function, program.plan):
            continue
        counted = [(region, region_work(region.rule)) for region in regions(printer.function)]
        parts = [(r, work) for r, work in counted if every or spared(work, 1, LONG, training=False) > 0]
        if parts:
            yield Chosen(name, printer.function, parts, partial(classes.forward, name))


def described(program: Scheduled) -> dict[str, list[str]]:
    """What each part computes, by the names of the blocks."""
    found: dict[str, list[str]] = {}
    with suppress(Unsupported):  # there is no module then, which whoever asks for one is told
        for block in chosen(program, every=False, printed=lambda _: None):
            said = found.setdefault(block.function.name, [])
            said += [words for words in (_words(region) for region, _ in block.parts) if words not in said]
    return found


def _words(region: Region) -> str:
    """`u: convolution, elementwise`, or without `u` where no name is given to it."""
    rule = region.rule
    kinds = {
        "convolution": any(window.stacked for window in region.windows),
        "token shift": any(not window.stacked for window in region.windows),
        "sums": any(isinstance(node, Reduce) for node in walk([*rule.outputs, *rule.updates])),
    }
    words = ", ".join([*(kind for kind, has in kinds.items() if has), "elementwise"])
    return f"{rule.name}: {words}" if rule.name in dict(rule.names) else words


def _has_cell(function: Function, plan: PlanOf) -> bool:
    """Whether a rule that PyTorch has an operator for is called, which takes maps of its inputs along."""
    callees = [node.callee for node in walk(function.outputs) if isinstance(node, Invoke)]
    return any(isinstance(c, Recurrence) and find_cell(c, plan(c)) is not None for c in callees)
