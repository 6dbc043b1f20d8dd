"""What runs beside emitted kernels: it imports only torch, the standard library and, where a kernel runs, Triton.

In a folder that was written for the target `triton`, it attaches the kernels that lie in it to the module beside it:

    model = attached(Griffin())
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from .attach import Signature, Value, attach
from .attention import Given, Reading, ReadKernels, ReadStage
from .chunk import BlockKernels, Blocks, BlockStage, place
from .forms import stage_kernels
from .kernel import Interface, Kernel, Port
from .pack import boundaries, packed
from .rule import Looped


def attached(module: nn.Module, folder: Path | None = None) -> nn.Module:
    """The same module, its rules run as the kernels of a folder, by default of this one, where there is a GPU."""
    found = folder or Path(__file__).parent
    facts = json.loads((found / "units.json").read_text(encoding="utf-8"))
    rules = {name: _read(fact, found) for name, fact in facts.items() if "reads" not in fact}
    reads = {name: _reads(fact, found) for name, fact in facts.items() if "reads" in fact}
    for part in module.modules():
        kind = type(part)
        rule = rules.get(kind.__name__)
        for stage in rule.stages if rule is not None and rule.course is None else ():
            place(vars(sys.modules[kind.__module__]), stage)
        if kind.__name__ in reads:
            reads[kind.__name__].place(vars(sys.modules[kind.__module__]))
            reads[kind.__name__].attach(part)
    return attach(module, rules)


def _read(fact: Any, folder: Path) -> Looped:
    sign = dict(fact["signature"])
    for key in ("inputs", "outputs", "states"):
        sign[key] = [Value(name, tuple(shape), is_complex) for name, shape, is_complex in sign[key]]
    stages = [BlockStage(x["operator"], x["owner"], _kernels(x, folder)) for x in fact["stages"]]
    kernel = None
    if fact["unit"]:
        text = (folder / fact["unit"]).read_text(encoding="utf-8")
        kernel = Kernel(text, Interface(**_ported(fact["interface"])), fact["name"])
    around = (folder / fact["around"]).read_text(encoding="utf-8") if fact["around"] else ""
    others = {int(block): partial(_each, facts, folder) for block, facts in fact["others"].items()}
    return Looped(fact["name"], kernel, Signature(**sign), None, stages, fact["kept"], around, others)


def _each(facts: Any, folder: Path) -> list[BlockKernels]:
    return [_kernels(fact, folder) for fact in facts]


def _kernels(fact: Any, folder: Path) -> BlockKernels:
    text = (folder / fact["unit"]).read_text(encoding="utf-8")
    return stage_kernels(text, Blocks(**_ported(fact["face"])), fact["name"])


def _reads(fact: Any, folder: Path) -> ReadStage:
    text = (folder / fact["unit"]).read_text(encoding="utf-8")
    kernels = ReadKernels(text, Reading(**_ported(fact["reads"])), fact["name"])
    return ReadStage(fact["operator"], fact["owner"], kernels, Given(**fact["given"]))


def _ported(fact: Any) -> dict[str, Any]:
    face = dict(fact)
    for key in ("inputs", "outputs", "states", "constants", "sides", "queries", "entries", "found"):
        if key in face:
            face[key] = [Port(name, tuple(shape), *facts) for name, shape, *facts in face[key]]
    for key in ("made", "later", "common", "parts"):
        if key in face:
            face[key] = [tuple(shape) for shape in face[key]]
    return face


__all__ = ["attached", "boundaries", "packed"]
