"""The shapes of a kernel's tensors, for whoever launches it without Python.

A shape has numbers and names: `batch` and `time`, `blocks` and `segments`, which are `ceil(time / BLOCK)` and
`ceil(time / SEGMENT)`, with the constants of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from .runtime.chunk import Blocks
from .runtime.kernel import Interface, Port

Shape = list[int | str]


def of_loop(face: Interface) -> dict[str, list[Shape]]:
    """By argument, those of each tensor of a loop that has a tile."""
    states, known = _each(face.states, "batch"), _each(face.outputs, "batch", "time")
    return {
        "inputs": _each(face.inputs, "batch", "time"),
        "constants": _each(face.constants),
        "initial": _each(face.states),
        "reset": [["batch", "time"]],
        **dict.fromkeys(("before", "after", "d_after", "d_initial", "d_before"), states),
        **dict.fromkeys(("outputs", "d_outputs"), known),
        "kept": _each(face.states, "batch", "segments"),
        "scratch": _each(face.states, "batch", face.segment),
        "d_inputs": _parts(face) + _each(face.sides, "batch", "time"),
        "d_constants": [["batch", face.sharing(port), *port.shape] for port in face.summed.values()],
    }


def of_stage(face: Blocks, written: Sequence[int]) -> dict[str, list[Shape]]:
    """The same of a kernel of a stage that writes the cotangents of some inputs."""
    states, known = _each(face.states, "batch"), _each(face.outputs, "batch", "time")
    places = "blocks + 1" if face.form == "streamed" else "blocks"
    between: Shape = ["batch", places]
    parts = [_part(face, face.inputs[k]) for k in written]
    counts = [rows * (face.tiles if tiled else 1) for rows, tiled in face.parts]
    return {
        "inputs": [[*([] if port.constant else ["batch", "time"]), *port.shape] for port in face.inputs],
        **dict.fromkeys(("carried", "finals", "d_finals", "d_carried"), states),
        **dict.fromkeys(("outputs", "d_outputs"), known),
        **dict.fromkeys(("starts", "flows"), _each(face.states, *between)),
        "made": [[*between, *shape] for shape in face.made],
        "later": [[*between, *shape] for shape in face.later],
        "common": [
            [*between, *([count] if count else []), *shape]
            for count, shape in zip(counts, face.common, strict=True)
        ],
        **dict.fromkeys(("d_sources", "d_inputs"), parts),
    }


def _part(face: Blocks, port: Port) -> Shape:
    """Of what all programs that share an input write of its cotangents."""
    shares = face.sharing(port)
    return (
        ["batch * blocks", shares, *port.shape] if port.constant else [shares, "batch", "time", *port.shape]
    )


def _parts(face: Interface) -> list[Shape]:
    """Of what all programs that share inputs of a loop write of their cotangents."""
    return [[face.sharing(port), "batch", "time", *port.shape] for port in face.inputs if port.differentiable]


def _each(ports: Sequence[Port], *lead: int | str) -> list[Shape]:
    return [[*lead, *port.shape] for port in ports]
