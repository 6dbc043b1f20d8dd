"""Running a folder that this backend wrote."""

from __future__ import annotations

from pathlib import Path

from seqc.output import read_manifest

from ..torch.run import TorchRunner
from .runtime import attached


class TritonRunner(TorchRunner):
    """The emitted module of a model of tokens with its kernels, and the weights that lie beside it."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        super().__init__(folder, threads)
        attached(self.model, folder / str(read_manifest(folder)["kernels"]))
