"""The CPU backend: one fused loop over time in C++ for every rule, beside the PyTorch module that calls it.

    from seqc.backends.cpu import BACKEND

    module = BACKEND.module(program)     # torch.nn.Module: forward, step, init_state
    text = BACKEND.unit(recurrence)      # the translation unit of a rule: what runs is exactly this text

A unit is built by the system's C++ compiler when it is first run.  Importing this package does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from seqc.backend import Runner, Scheduled, Weights
    from seqc.ir.plan import Plan


@dataclass(frozen=True, slots=True)
class CpuBackend:
    """Writes a module and its units; makes one."""

    about: str = "a PyTorch module whose rules are fused C++ loops"
    on_request: bool = True  # conformance examines it where it is named: every rule is a compilation

    def write(
        self,
        program: Scheduled,
        folder: Path,
        *,
        weights: Weights | None,
        seed: int,
        options: Mapping[str, str],
    ) -> None:
        """Write what the target `torch` writes, and `kernels/`: a unit a rule, and what builds and calls them."""
        from .write import write

        write(program, folder, weights, seed, options)

    def unit(self, program: Scheduled) -> str:
        """The translation units of the rules that have one, one after another."""
        from ..torch.write import origin_of
        from .module import units

        return "\n".join(fused.text for fused in units(program, origin_of(program)).values())

    def module(
        self, program: Scheduled, seed: int = 0, patient: bool = False, every: bool = False
    ) -> torch.nn.Module:
        """A module with the interface of the PyTorch backend's; rules without a unit run as they do there.

        If `patient`, no unit is made before its calls have lost as much time as that takes; if `every`, parts of blocks
        have one that are never faster.
        """
        from ..torch.diagnose import diagnosed
        from ..torch.write import origin_of
        from .module import opened

        with diagnosed(program):
            return opened(program, origin_of(program), seed, patient, every)

    def predicted(self, plan: Plan) -> Mapping[str, Any]:
        """Whether a rule runs as a fused loop or in PyTorch, why, and what each is predicted to take."""
        from .predict import predicted

        return predicted(plan)

    def around(self, program: Scheduled) -> Mapping[str, Sequence[str]]:
        """What runs as fused loops around the rules, where that pays: the parts of each block."""
        from .chosen import described

        return described(program)

    def runner(self, folder: Path, threads: int | None) -> Runner:
        """The module with its weights and units."""
        from .run import CpuRunner

        return CpuRunner(folder, threads)


BACKEND = CpuBackend()
