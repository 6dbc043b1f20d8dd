"""What runs beside emitted units: it imports only torch and the standard library.

In a folder that was written for the target `cpu`, it attaches the units that lie in it to the module beside it:

    model = attached(Griffin())
"""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from .rule import Fused


def attached(module: nn.Module, folder: Path | None = None) -> nn.Module:
    """The same module, its rules and parts of its blocks run as the units of a folder: by default of this one."""
    from .around import Call, attach_around
    from .attach import attach

    place = folder or Path(__file__).parent
    facts = json.loads((place / "units.json").read_text(encoding="utf-8"))
    attach(module, {name: _read(fact, place) for name, fact in facts["rules"].items()})
    if "blocks" not in facts:
        return module
    calls = {
        block: {name: Call(_read(fact, place), fact["windows"], fact["delays"]) for name, fact in own.items()}
        for block, own in facts["blocks"].items()
    }
    return attach_around(module, _loaded(place / "blocks.py"), calls)


def _loaded(path: Path) -> Any:
    """A file as a module of its own."""
    spec = spec_from_file_location(f"{__name__}.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def _read(fact: Any, place: Path) -> Fused:
    from .attach import Signature, Value
    from .cost import read
    from .kernel import Interface, Port
    from .rule import Fused

    face, sign = dict(fact["interface"]), dict(fact["signature"])
    for key in ("inputs", "outputs", "states", "constants", "parameters"):
        face[key] = [
            Port(name, tuple(order), tuple(shape), tuple(has), is_real)
            for name, order, shape, has, is_real in face[key]
        ]
    for key in ("inputs", "outputs", "states"):
        sign[key] = [Value(name, tuple(shape), is_complex) for name, shape, is_complex in sign[key]]
    text = (place / fact["unit"]).read_text(encoding="utf-8")
    face["rows"] = tuple(face["rows"])
    return Fused(fact["name"], Signature(**sign), read(fact["work"]), lambda: (text, Interface(**face)))


__all__ = ["attached"]
