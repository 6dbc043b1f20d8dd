"""Printing constructors: parameters and their initial values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqc.ir.expr import Apply, Expr
from seqc.ir.ops import RANDOM
from seqc.ir.recurrence import Parameter

from .expressions import Scope
from .layout import split_statement
from .names import RESERVED, Names
from .primitives import Code
from .reading import all_axes, merged_order
from .splice import pieces
from .values import Value

WIDTH = 110


def print_constructor(
    parameters: Sequence[Parameter], sizes: Mapping[str, int], more: Sequence[str] = ()
) -> list[str]:
    """`__init__`, with every parameter drawn in order from the generator `draw`."""
    lines = [
        "",
        "    def __init__(self, seed: int | torch.Generator = 0) -> None:",
        "        super().__init__()",
        "        draw = generator(seed)",
    ]
    names = Names({*RESERVED, *pieces(), "self", "draw"})
    for parameter in parameters:
        lines += [f"        {line}" for line in _parameter(parameter, parameters, sizes, names)]
    return [*lines, *(f"        {line}" for line in more)]


def _parameter(
    parameter: Parameter, known: Sequence[Parameter], sizes: Mapping[str, int], names: Names
) -> list[str]:
    shape = tuple(sizes[a] for a in parameter.axes)
    order = merged_order([parameter.axes, *all_axes([parameter.initial])])
    scope = Scope(names, order, sizes, "torch.empty(0)", width=WIDTH - 8)

    def special(scope: Scope, node: Expr) -> Value | None:
        if isinstance(node, Apply) and node.op in RANDOM:
            low, high = (
                scope.aligned(scope.value(arg), parameter.axes, False, every=True) for arg in node.args
            )
            text = f"{node.op}({low.text}, {high.text}, {shape}, draw)"
            return Value(Code(text), parameter.axes, False)
        return None

    scope.special = special
    for other in known:
        scope.bind(other.leaf, f'self.exact("{other.name}", torch.empty(0)).detach()', lead=False)
    (value,) = scope.emit([parameter.initial])
    if value.code.number:
        text = f"torch.full({shape}, {value.code.text})"
        text = f"torch.zeros{_args(shape)}" if value.code.text == "0.0" else text
        text = f"torch.ones{_args(shape)}" if value.code.text == "1.0" else text
    elif set(value.axes) == set(parameter.axes):
        text = scope.arranged(value, parameter.axes).code.text
    else:
        text = (
            f"({scope.aligned(value, parameter.axes, False, every=True).text}).expand{_args(shape)}.clone()"
        )
    decays = "" if parameter.decays else ", decays=False"
    return [*scope.lines, *split_statement(f'self.place("{parameter.name}", {text}{decays})', WIDTH - 8)]


def _args(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})" if shape else "(())"
