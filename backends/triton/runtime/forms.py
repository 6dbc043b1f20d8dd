"""The kernels of a stage by their form."""

from __future__ import annotations

from .chunk import BlockKernels, Blocks
from .newton import NewtonKernels
from .stream import StreamKernels
from .windows import WindowKernels

FORMS = {
    "blocks": BlockKernels,
    "windows": WindowKernels,
    "streamed": StreamKernels,
    "newton": NewtonKernels,
}


def stage_kernels(text: str, face: Blocks, name: str) -> BlockKernels:
    """A unit of a stage, and what runs it."""
    return FORMS[face.form](text, face, name)
