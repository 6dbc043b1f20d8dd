"""Changes of shape one after another as one."""

from __future__ import annotations

import onnx_ir as ir


def joined(value: ir.Value, target: list[int]) -> tuple[ir.Value, list[int]]:
    """What to reshape instead of `value`, and to which lengths, when `value` is itself a change of shape.

    A length of 0 is the one at this place before, -1 the one that is left over.
    """
    while (step := _through(value, target)) is not None:
        value, target = step
    return value, target


def has_shape(value: ir.Value, target: list[int]) -> bool:
    """Whether a value is known to have these lengths."""
    if value.shape is None or len(value.shape) != len(target):
        return False
    return all(
        wanted == 0 or (isinstance(size, int) and wanted == size)
        for size, wanted in zip(value.shape, target, strict=True)
    )


def unsqueezed(value: ir.Value, places: list[int]) -> tuple[ir.Value, list[int]]:
    """What to give dimensions of 1, and where: when `value` has just been given some, what it was before."""
    node = value.producer()
    before = None if node is None or node.op_type != "Unsqueeze" else numbers(node.inputs[1])
    if node is None or before is None or node.inputs[0] is None or min(*before, *places) < 0:
        return value, places
    rank = max(before) + len(places) + 1
    others = [place for place in range(rank) if place not in places]
    return node.inputs[0], sorted([*places, *(others[place] for place in before)])


def numbers(value: ir.Value | None) -> list[int] | None:
    """The integers of a constant; None of anything else."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return [int(x) for x in value.const_value.numpy().ravel()]


def _through(value: ir.Value, target: list[int]) -> tuple[ir.Value, list[int]] | None:
    """One change of shape further up."""
    node = value.producer()
    if node is None or node.op_type not in ("Reshape", "Unsqueeze", "Squeeze"):
        return None
    source, given = node.inputs[0], numbers(node.inputs[1])
    if source is None or given is None or any(n < 0 for n in given if node.op_type != "Reshape"):
        return None
    lengths = [_length(node.op_type, given, i) if n == 0 else n for i, n in enumerate(target)]
    plain = [n for n in lengths if n is not None]
    return (source, plain) if len(plain) == len(lengths) else None


def _length(op: str, given: list[int], place: int) -> int | None:
    """The length at a place after a change of shape, 0 for that at the same place before it, None if unknown."""
    if op == "Reshape":
        return given[place] if given[place] >= 0 else None
    if op == "Unsqueeze" and place in given:
        return 1
    return 0 if place < min(given) else None
