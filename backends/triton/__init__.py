"""The Triton backend: every rule as kernels over time for the GPU, beside the PyTorch module that calls them.

    from seqc.backends.triton import BACKEND

    module = BACKEND.module(program)     # torch.nn.Module: forward, step, init_state
    text = BACKEND.unit(recurrence)      # the kernels of a rule: what runs is exactly this text

On the CPU, in double precision and where there is no Triton, the module runs as the PyTorch backend schedules it.
Importing this package does not import torch or Triton.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from seqc.backend import Runner, Scheduled, Weights


@dataclass(frozen=True, slots=True)
class TritonBackend:
    """Writes a module and its kernels; makes one."""

    about: str = "a PyTorch module whose rules are Triton kernels on a GPU"
    on_request: bool = (
        True  # conformance examines it where it is named: without a GPU kernels are interpreted
    )

    def write(
        self,
        program: Scheduled,
        folder: Path,
        *,
        weights: Weights | None,
        seed: int,
        options: Mapping[str, str],
    ) -> None:
        """Write what the target `torch` writes, and `kernels/`: a unit a rule, and what calls them."""
        from .write import write

        write(program, folder, weights, seed, options)

    def unit(self, program: Scheduled) -> str:
        """The units of a program's rules, one after another."""
        from ..torch.write import origin_of
        from .module import reads, units

        origin = origin_of(program)
        texts = [rule.texts for rule in units(program, origin).values()]
        texts.append([stage.kernels.text for stage in reads(program, origin).values()])
        return "\n".join(text for own in texts for text in own)

    def module(self, program: Scheduled, seed: int = 0) -> torch.nn.Module:
        """A module with the interface of the PyTorch backend's; rules without a unit run as they do there."""
        from ..torch.write import origin_of
        from .module import opened

        return opened(program, origin_of(program), seed)

    def runner(self, folder: Path, threads: int | None) -> Runner:
        """The module with its weights and kernels."""
        from .run import TritonRunner

        return TritonRunner(folder, threads)


BACKEND = TritonBackend()
