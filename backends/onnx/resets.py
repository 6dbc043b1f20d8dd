"""The resets of many small states as one: they are joined, cleared where a row begins anew, and split again.

A node on some hundred numbers costs ONNX Runtime about what copying a few thousand does.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx_ir as ir

from .builder import Builder
from .shapes import numbers

LARGEST = 8192  # entries of a state that is sooner copied twice than given a node of its own
FEWEST = 4  # states; joining and splitting are two nodes, clearing one


def join_resets(builder: Builder, outputs: Iterable[ir.Value]) -> None:
    """`Where(reset, initial, state)` of states that differ in no dimension but that after the batch, in three nodes."""
    fixed, given = set(outputs), set(builder.inputs)
    groups: dict[tuple[object, ...], list[ir.Node]] = {}
    for node in builder.nodes:
        key = None if node.outputs[0] in fixed else _group_of(node, given)
        if key is not None:
            groups.setdefault(key, []).append(node)
    for nodes in groups.values():
        if len(nodes) >= FEWEST:
            _join(builder, nodes)


def _group_of(node: ir.Node, given: set[ir.Value]) -> tuple[object, ...] | None:
    """What the resets of a group have in common; None of what is none of a small state."""
    if node.op_type != "Where":
        return None
    reset, initial, state = node.inputs
    lengths = _lengths(state) if state in given else None
    if reset is None or initial is None or state is None or lengths is None:
        return None
    number = initial.const_value is not None and initial.const_value.size == 1 and initial not in given
    if not number or not _is_broadcast(reset) or prod(lengths) > LARGEST:
        return None
    return (reset, initial, state.dtype, tuple(lengths[1:]))


def _lengths(state: ir.Value | None) -> list[int] | None:
    """The lengths after the batch, if there are some and all are known."""
    if state is None or state.shape is None:
        return None
    lengths = [n for n in list(state.shape)[1:] if isinstance(n, int)]
    return lengths if len(lengths) == len(state.shape) - 1 and lengths else None


def _is_broadcast(reset: ir.Value) -> bool:
    """Whether all entries after the batch are reset together."""
    node = reset.producer()
    places = None if node is None or node.op_type != "Unsqueeze" else numbers(node.inputs[1])
    return places is not None and places == list(range(1, len(places) + 1))


def _join(builder: Builder, nodes: list[ir.Node]) -> None:
    first, before = nodes[0], len(builder.nodes)
    states = [node.inputs[2] for node in nodes]
    lengths = [(_lengths(state) or [0])[0] for state in states]
    whole = builder.op("Concat", *states, axis=1, name="states")
    cleared = builder.op("Where", first.inputs[0], first.inputs[1], whole)
    parts = builder.ops("Split", cleared, builder.ints(*lengths), count=len(nodes), name="cleared", axis=1)
    made, builder.nodes = builder.nodes[before:], builder.nodes[:before]
    place = builder.nodes.index(first)
    builder.nodes[place:place] = made
    for node, part in zip(nodes, parts, strict=True):
        for use in list(node.outputs[0].uses()):
            use.node.replace_input_with(use.idx, part)
