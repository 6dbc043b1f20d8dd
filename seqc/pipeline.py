"""The whole way through the compiler, on one page.

    text ─ parse, check ─▶ program ─ derive ─▶ recurrences and functions ─ classify, schedule ─▶ plans ─ emit ─▶ files

`seqc.spec` and the command line go the same way, a stage at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqc.backend import Scheduled, backend
from seqc.check import Checked
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.spec import Spec, load, plans


def compile(
    spec: str | Path | Spec, name: str | None = None, *, mode: str | None = None, **settings: float
) -> Any:
    """The model or rule of a spec as a `torch.nn.Module`, made of exactly the file that would be written.

    `spec` is the path of a `.seq` file, or what `seqc.load` gave; `name` chooses where it has several models or rules;
    `mode` is the parallel form of its rules, by default the scheduler's choice. Raises `SpecError`.
    """
    read = spec if isinstance(spec, Spec) else load(spec)
    whole = elaborate(read.checked, name, settings)
    program = plan(whole, read, mode)
    # Only torch has modules: this is no part of what every backend does.
    return getattr(backend("torch"), "module")(program)  # noqa: B009


def elaborate(program: Checked, name: str | None, settings: Mapping[str, float]) -> Recurrence | Model:
    """One model or rule with its sizes: objectives are differentiated, calls mapped over their axes."""
    if name in program.rules or (name is None and not program.models):
        return program.elaborate_rule(name, settings)
    return program.elaborate_model(name, settings)


def plan(whole: Recurrence | Model, spec: Spec, mode: str | None = None) -> Scheduled:
    """What a backend is handed; each recurrence is classified and planned when it is asked for.

    A rule whose class does not allow `mode` takes the scheduler's choice; some rule has to allow it.
    """
    place = spec.place(whole.name)
    return Scheduled(whole, plans(whole, mode, place), place)
