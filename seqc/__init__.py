"""seqc: a compiler for sequence models.

    spec = seqc.load("specs/hybrid/griffin.seq")
    print(spec.explain())
    model = spec.model(d=256).torch()

Importing this package is cheap: each public name is fetched when it is first asked for, and torch is imported
only when a torch module is made.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqc.conformance import conform as conform
    from seqc.diagnostics.base import SpecError as SpecError
    from seqc.pipeline import compile as compile
    from seqc.quantization import quantize as quantize
    from seqc.spec import load as load
    from seqc.spec import loads as loads

__version__ = "0.1.0"
__all__ = ["SpecError", "__version__", "compile", "conform", "load", "loads", "quantize"]

_HOMES = {
    "SpecError": "seqc.diagnostics.base",
    "compile": "seqc.pipeline",
    "conform": "seqc.conformance",
    "load": "seqc.spec",
    "loads": "seqc.spec",
    "quantize": "seqc.quantization",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'seqc' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# A wheel holds grammar/, backends/ and specs/ inside this package; a checkout holds them beside it.
_checkout = Path(__file__).resolve().parents[1]
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))
