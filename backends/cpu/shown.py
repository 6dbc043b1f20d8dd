"""States that are outputs too: the way back reads them, and computes nothing again."""

from __future__ import annotations

from .layout import Layout, is_whole
from .program import Program

NEVER = 2**30  # tokens between two states that are kept, where none but the first is


def shown(program: Program, layout: Layout) -> int | None:
    """Which output is the only state as it is after the token, laid out as a row keeps it; None if none is."""
    if len(program.states) != 1:
        return None
    state, *outputs = program.token.targets
    axes = program.states[0].axes
    for k, target in enumerate(outputs):
        same = target.value is state.value and set(target.leaf.axes) == set(axes)
        if same and is_whole(target.leaf.axes, layout):
            return k
    return None
