"""Blocks whose elementwise operations, norms and convolutions run as units: their second `forward`, and its units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seqc.backend import Scheduled
from seqc.ir.recurrence import Recurrence

from ..torch.module import assemble
from .chosen import chosen
from .freed import freed
from .regions import Region, called
from .runtime.around import Call
from .runtime.cost import Work
from .runtime.rule import Fused

Made = Callable[[Recurrence, Work], Fused]


@dataclass(frozen=True, slots=True)
class Around:
    """The blocks of a model that have units: a module with their classes, and what these call, by class and name."""

    text: str
    calls: dict[str, dict[str, Call]]


def around(program: Scheduled, origin: str, made: Made, every: bool = False) -> Around | None:
    """The blocks of a program of which parts run as units, each as `made` makes it; None if there are none.

    Parts that are never faster are left out, unless `every` one is asked for.
    """
    texts, calls = list[str](), dict[str, dict[str, Call]]()
    for block in chosen(program, every):
        known = [region for region, _ in block.parts]
        text = block.printed(called(block.function, known), {region.rule for region in known})
        texts.append(freed(text))
        calls[block.name] = {r.rule.name: _call(r, made(r.rule, work)) for r, work in block.parts}
    if not calls:
        return None
    about = f"The blocks of the model `{program.name}`, parts of which run as compiled loops."
    return Around(assemble("\n\n\n".join(texts), origin, about, []), calls)


def _call(region: Region, fused: Fused) -> Call:
    windows = {window.name: list(window.states) for window in region.windows if window.stacked}
    return Call(fused, windows, [window.name for window in region.windows if not window.stacked])
