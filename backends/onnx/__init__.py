"""ONNX: two graphs, `prefill` and `step`, with named states in and out."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqc.errors import UserError

from .quantize import FORMATS

if TYPE_CHECKING:
    from seqc.backend import Quantized, Recipe, Runner, Scheduled, Weights
    from seqc.ir.plan import Plan


@dataclass(frozen=True, slots=True)
class OnnxBackend:
    """Writes graphs for ONNX Runtime and whatever else reads ONNX."""

    about: str = "prefill.onnx and step.onnx, standard operators by default"

    def write(
        self,
        program: Scheduled,
        folder: Path,
        *,
        weights: Weights | None,
        seed: int,
        options: Mapping[str, str],
    ) -> None:
        """Write both graphs and `manifest.json`; `options` has `profile`."""
        from .diagnose import diagnosed
        from .write import write

        with diagnosed(program) as profile_of:
            profile = profile_of(options)
            write(program.whole, folder, weights, program.plan, seed, profile)

    def operators(self, plan: Plan) -> tuple[str, ...]:
        """ONNX's own cells."""
        from seqc.passes.cells import WIDEST, find_cells

        return tuple(f"ai.onnx.{cell.op}" for cell in find_cells(plan, WIDEST).values())

    @property
    def formats(self) -> Mapping[str, str]:
        return FORMATS

    def quantize(self, folder: Path, out: Path, recipe: Recipe) -> Quantized:
        """The same graphs with matrices of fewer bits."""
        with _installed():
            from .quantize.quantizer import quantize
        return quantize(folder, out, recipe)

    def runner(self, folder: Path, threads: int | None) -> Runner:
        """Both graphs in ONNX Runtime, on the CPU."""
        with _installed():
            from .session import Session
        session = Session(folder, threads)
        if session.manifest.step is None:
            raise UserError(f"`{session.manifest.name}` reads the future: it has no step")
        for file in (session.manifest.prefill, session.manifest.step):
            session.graph(file)
        return session


@contextmanager
def _installed() -> Generator[None]:
    """A missing package is the user's to install."""
    try:
        yield
    except ImportError:
        raise UserError("ONNX Runtime is not installed", "pip install 'seqc[onnx]'") from None


BACKEND = OnnxBackend()
