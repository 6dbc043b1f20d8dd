"""The PyTorch function that makes, from the parameters, what all tokens share and the states before the first one."""

from __future__ import annotations

from seqc.ir.expr import Axes

from ..cpu.program import Program
from ..torch.expressions import Scope
from ..torch.layout import split_statement
from ..torch.names import RESERVED, Names
from ..torch.reading import all_axes, merged_order
from ..torch.splice import pieces
from ..torch.values import Value
from .accessors import hint, packed

WIDTH = 110


def prepare_text(program: Program) -> list[str]:
    """`prepare(*parameters, like)`: the constants, then the states, each with all of its axes in order."""
    targets = program.prepare.targets
    values = [target.value for target in targets]
    order = merged_order([*(target.leaf.axes for target in targets), *all_axes(values)])
    names = Names({*RESERVED, *pieces(), "like"})
    scope = Scope(names, order, program.sizes, "like", width=WIDTH - 4)
    arguments = [names.fresh(hint(leaf)) for leaf in program.parameters]
    for leaf, name in zip(program.parameters, arguments, strict=True):
        scope.bind(leaf, name, lead=False)
    found = scope.emit(values)
    results = [_whole(scope, value, t.leaf.axes) for value, t in zip(found, targets, strict=True)]
    head = ", ".join(f"{name}: Tensor" for name in (*arguments, "like"))
    return [
        *split_statement(f"def prepare({head}) -> tuple[Tensor, ...]:", WIDTH),
        '    """From the parameters, what all tokens share, and the states before the first one."""',
        *(f"    {line}" for line in scope.lines),
        *split_statement(f"return {packed(results)}", WIDTH, 4),
    ]


def _whole(scope: Scope, value: Value, axes: Axes) -> str:
    if set(value.axes) == set(axes) and not value.code.number:
        return scope.arranged(value, axes).code.text
    ordered = scope.sorted(axes)
    text = scope.expanded(value, ordered, scope.like, "")
    return text if ordered == axes else f"{text}.permute({tuple(ordered.index(axis) for axis in axes)})"
