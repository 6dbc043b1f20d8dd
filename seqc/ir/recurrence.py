"""A recurrence: what a rule means, and the one form that scheduling and the backends see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from seqc.ir.expr import Axes, DType, Expr, Leaf, LeafKind

if TYPE_CHECKING:
    from seqc.source import Span


@dataclass(frozen=True, eq=False, slots=True)
class Parameter:
    """A learned tensor.

    `name` is relative to the owner (`decay`, `M.0.weight`, `u.linear.weight`); `initial` is an expression over the
    parameter's axes, random draws and earlier parameters of the same owner.  `decays` says whether weight decay
    applies to it (not to gates, norms and biases).
    """

    name: str
    axes: Axes
    initial: Expr
    decays: bool = True

    @property
    def leaf(self) -> Leaf:
        return Leaf(LeafKind.PARAM, self.name, self.axes, DType.REAL)


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """A value that one token hands to the next; `initial` has no inputs (a number or parameters)."""

    name: str
    axes: Axes
    initial: Expr
    dtype: DType = DType.REAL

    @property
    def leaf(self) -> Leaf:
        """The value before the token."""
        return Leaf(LeafKind.STATE, self.name, self.axes, self.dtype)

    @property
    def next(self) -> Leaf:
        """The value after the token."""
        return Leaf(LeafKind.NEXT, self.name, self.axes, self.dtype)


@dataclass(frozen=True, eq=False, slots=True)
class Store:
    """A set that grows by one entry a token, along `axis`: the memory of softmax attention.

    `value` is what this token appends (axes `axes`).  With a `window` only the entries of the last `window` tokens
    (the present one included) are visible, and besides them the first `sinks` of the sequence.
    """

    name: str
    axis: str
    axes: Axes
    value: Expr
    window: int | None = None
    sinks: int = 0

    @property
    def leaf(self) -> Leaf:
        """All visible entries before the token is appended."""
        return Leaf(LeafKind.STORE, self.name, (self.axis, *self.axes), self.value.dtype)

    @property
    def next(self) -> Leaf:
        """All visible entries, this token's included."""
        return Leaf(LeafKind.STORED, self.name, (self.axis, *self.axes), self.value.dtype)


@dataclass(frozen=True, eq=False, slots=True)
class Recurrence:
    """One token's work: states in, states out, and what the token returns.

    Updates and outputs are expressions over leaves: inputs, parameters, states before the token (`STATE`) and after
    it (`NEXT`).  A `NEXT` leaf stands for that state's update; updates refer to one another without a cycle.
    Batch and time are implied.  `sizes` gives the length of every axis that has one; `mapped` are the axes that the
    rule is mapped over, not its own.
    """

    name: str
    inputs: tuple[Leaf, ...]
    parameters: tuple[Parameter, ...]
    states: tuple[State, ...]
    stores: tuple[Store, ...]
    updates: tuple[Expr, ...]
    outputs: tuple[Expr, ...]
    returns: tuple[Axes, ...]
    sizes: Mapping[str, int]
    names: tuple[tuple[str, Expr], ...] = ()
    origins: Mapping[Expr, Span] = field(default_factory=dict[Expr, "Span"])
    mapped: Axes = ()

    def output_axes(self, index: int) -> Axes:
        """The axes of an output, in the order in which callers see them."""
        return self.returns[index]

    @property
    def updates_by_name(self) -> dict[str, Expr]:
        return {state.name: update for state, update in zip(self.states, self.updates, strict=True)}

    def state(self, name: str) -> State:
        return next(state for state in self.states if state.name == name)

    def input(self, name: str) -> Leaf:
        return next(leaf for leaf in self.inputs if leaf.name == name)
