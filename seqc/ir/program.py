"""Programs: blocks and models as functions on whole sequences.

A `Function` is one block (or a model's body) with all its settings fixed.  Calls stay calls: two layers that are the
same block with the same settings share one `Function` object, so the cost of every pass is that of the distinct
blocks, and emitted code has one class for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from seqc.ir.expr import Axes, Expr, Leaf
from seqc.ir.recurrence import Parameter

if TYPE_CHECKING:
    from seqc.source import Span


@dataclass(frozen=True, eq=False, slots=True)
class Function:
    """A block: values in, values out, in an axis namespace of its own.

    `parameters` are the ones that the body itself declares (an instance's full name is the path of the `Invoke`s
    that lead to it, then the parameter's name); those of callees belong to the callees.  `bindings` are the `let`s
    in order, for readable output; `outputs` and the bindings are expressions over the inputs and parameters.
    """

    name: str
    inputs: tuple[Leaf, ...]
    parameters: tuple[Parameter, ...]
    bindings: tuple[tuple[str, Expr], ...]
    outputs: tuple[Expr, ...]
    returns: tuple[Axes, ...]
    sizes: Mapping[str, int]
    origins: Mapping[Expr, Span] = field(default_factory=dict[Expr, "Span"])

    def output_axes(self, index: int) -> Axes:
        return self.returns[index]


@dataclass(frozen=True, eq=False, slots=True)
class Repeat:
    """A body applied several times; its outputs are the first inputs of the next application.

    `bodies[i]` is the i-th application (the same object where nothing differs).  Inputs beyond the carried ones are
    the same for every application.  Instances are named `<name>.<i>`; when `shared`, parameters are named `<name>`
    (one set) and states still `<name>.<i>`.  The bodies use the axis names of the calling function.
    """

    bodies: tuple[Function, ...]
    shared: bool = False

    @property
    def inputs(self) -> tuple[Leaf, ...]:
        return self.bodies[0].inputs

    @property
    def outputs(self) -> tuple[Expr, ...]:
        return self.bodies[-1].outputs

    def output_axes(self, index: int) -> Axes:
        return self.bodies[-1].returns[index]


@dataclass(frozen=True, eq=False, slots=True)
class Model:
    """A whole model: a function from tokens (integers) or a real-valued series to outputs.

    `reads_future` is true when some operation looks ahead (`Flip`, non-causal pooling): such a model has no step.
    """

    name: str
    kind: Literal["tokens", "series"]
    body: Function
    settings: Mapping[str, float]
    reads_future: bool = False
