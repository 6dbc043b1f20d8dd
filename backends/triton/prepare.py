"""The PyTorch function that makes, from the parameters, what all tokens share and the states before the first one."""

from __future__ import annotations

from seqc.ir.expr import Axes, Leaf
from seqc.ir.traverse import leaves

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
    """`prepare(*parameters, like)`: the constants, then the states, each with all of its axes in order.

    What is computed from parameters is so in double precision: differences of nearby numbers, as of a gate that is
    almost 1 and of 1, and their gradients have no digits to lose.
    """
    targets = program.prepare.targets
    values = [target.value for target in targets]
    order = merged_order([*(target.leaf.axes for target in targets), *all_axes(values)])
    computed = [value for value in values if not isinstance(value, Leaf)]
    wide = {leaf for leaf in leaves(computed) if leaf in program.parameters}
    names = Names({*RESERVED, *pieces(), "like", "exact"})
    scope = Scope(names, order, program.sizes, "exact" if wide else "like", width=WIDTH - 4)
    arguments = [names.fresh(hint(leaf)) for leaf in program.parameters]
    for leaf, name in zip(program.parameters, arguments, strict=True):
        scope.bind(leaf, name, lead=False)
    found = scope.emit(values)
    results = [_whole(scope, value, t.leaf.axes) for value, t in zip(found, targets, strict=True)]
    head = ", ".join(f"{name}: Tensor" for name in (*arguments, "like"))
    last = [f"return {packed(results)}"]
    if wide:
        made = names.fresh("made")
        last = [f"{made} = {packed(results)}", f"return tuple(x.to(like.dtype) for x in {made})"]
    names_of = dict(zip(program.parameters, arguments, strict=True))
    exact = [f"{names_of[leaf]} = {names_of[leaf]}.double()" for leaf in program.parameters if leaf in wide]
    return [
        *split_statement(f"def prepare({head}) -> tuple[Tensor, ...]:", WIDTH),
        '    """From the parameters, what all tokens share, and the states before the first one."""',
        *(f"    {line}" for line in ["exact = like.double()", *exact] if exact),
        *(f"    {line}" for line in scope.lines),
        *(piece for line in last for piece in split_statement(line, WIDTH, 4)),
    ]


def _whole(scope: Scope, value: Value, axes: Axes) -> str:
    if set(value.axes) == set(axes) and not value.code.number:
        return scope.arranged(value, axes).code.text
    ordered = scope.sorted(axes)
    text = scope.expanded(value, ordered, scope.like, "")
    return text if ordered == axes else f"{text}.permute({tuple(ordered.index(axis) for axis in axes)})"
