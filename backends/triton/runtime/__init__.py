"""What runs beside emitted kernels: it imports only torch, the standard library and, where a kernel runs, Triton.

In a folder that was written for the target `triton`, it attaches the kernels that lie in it to the module beside it:

    model = attached(Griffin())
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from .attach import Signature, Value, attach
from .kernel import Interface, Port
from .rule import Looped


def attached(module: nn.Module, folder: Path | None = None) -> nn.Module:
    """The same module, its rules run as the kernels of a folder, by default of this one, where there is a GPU."""
    place = folder or Path(__file__).parent
    facts = json.loads((place / "units.json").read_text(encoding="utf-8"))
    return attach(module, {name: _read(fact, place) for name, fact in facts.items()})


def _read(fact: Any, place: Path) -> Looped:
    face, sign = dict(fact["interface"]), dict(fact["signature"])
    for key in ("inputs", "outputs", "states", "constants"):
        face[key] = [Port(name, tuple(shape), *facts) for name, shape, *facts in face[key]]
    for key in ("inputs", "outputs", "states"):
        sign[key] = [Value(name, tuple(shape), is_complex) for name, shape, is_complex in sign[key]]
    text = (place / fact["unit"]).read_text(encoding="utf-8")
    return Looped(fact["name"], text, Interface(**face), Signature(**sign))


__all__ = ["attached"]
