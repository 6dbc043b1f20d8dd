"""Expressions: a small, closed family of immutable, hash-consed nodes over named axes.

An expression denotes a tensor whose axes are *names*.  Inside a rule it is the value at one token; inside a
block or a model it is the value of a whole sequence, with batch and time implied.  Broadcasting is by name:
the axes of an elementwise application are the union of its arguments' axes.

Two expressions that are built alike are the same object, so equality and hashing are identity and cost
nothing. Nodes carry no source positions; a `Recurrence` or a `Function` keeps them in a side table
(`origins`).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, cast

from seqc.ir.work import spend

Axes = tuple[str, ...]


class DType(StrEnum):
    """The kind of number an expression holds; the width is chosen by whoever evaluates it."""

    REAL = "real"
    COMPLEX = "complex"
    INT = "int"
    BOOL = "bool"


class LeafKind(StrEnum):
    """Where the value of a leaf comes from."""

    INPUT = "input"
    PARAM = "param"
    STATE = "state"  # before the token
    NEXT = "next"  # after the token
    STORE = "store"  # a growing store before the token is appended
    STORED = "stored"  # a growing store after the token was appended
    AGE = "age"  # how many tokens ago each entry of a growing axis was written (0: the present token)
    READ = "read"  # what a scheduled stage computes
    COTANGENT = "cotangent"


_table: weakref.WeakValueDictionary[tuple[Any, ...], Expr] = weakref.WeakValueDictionary()


class _Interned(type):
    """Makes `Node(...)` return the one object that stands for that node."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        spend()
        node = super().__call__(*args, **kwargs)
        key = (cls, *(_key(getattr(node, name)) for name in own_fields(cls)))
        return _table.setdefault(key, node)


_field_names: dict[type, tuple[str, ...]] = {}


def own_fields(cls: type) -> tuple[str, ...]:
    names = _field_names.get(cls)
    if names is None:
        names = tuple(f.name for f in fields(cast(Any, cls)) if f.init)
        _field_names[cls] = names
    return names


def _key(value: Any) -> Any:
    return value.hex() if isinstance(value, float) else value


@dataclass(frozen=True, eq=False, repr=False, slots=True, weakref_slot=True)
class Expr(metaclass=_Interned):
    """Base of all nodes: `axes` in order of first appearance, and the kind of number."""

    axes: Axes = field(init=False)
    dtype: DType = field(init=False)

    def _set(self, axes: Iterable[str], dtype: DType) -> None:
        object.__setattr__(self, "axes", tuple(dict.fromkeys(axes)))
        object.__setattr__(self, "dtype", dtype)

    def __repr__(self) -> str:
        from seqc.ir.text import format_expr

        return format_expr(self)


def _either(*args: Expr) -> DType:
    """Complex if any is, else the kind of the last."""
    return DType.COMPLEX if any(arg.dtype is DType.COMPLEX for arg in args) else args[-1].dtype


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Const(Expr):
    """A number."""

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        self._set((), DType.REAL)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Leaf(Expr):
    """A value that comes from outside: an input, a parameter, a state, …"""

    kind: LeafKind
    name: str
    over: Axes = ()
    number: DType = DType.REAL

    def __post_init__(self) -> None:
        self._set(self.over, self.number)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Size(Expr):
    """The length of an axis, as a number."""

    axis: str

    def __post_init__(self) -> None:
        self._set((), DType.REAL)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Index(Expr):
    """The position along an axis: 0, 1, …"""

    axis: str

    def __post_init__(self) -> None:
        self._set((self.axis,), DType.REAL)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Apply(Expr):
    """An elementwise function of the table `ops.OPS`, broadcast by name."""

    op: str
    args: tuple[Expr, ...]

    def __post_init__(self) -> None:
        from seqc.ir.ops import OPS

        self._set((a for arg in self.args for a in arg.axes), OPS[self.op].result(self.args))


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Reduce(Expr):
    """`sum` or `max` of `arg` over the axes `over`, all of which `arg` has."""

    op: str
    over: Axes
    arg: Expr

    def __post_init__(self) -> None:
        assert set(self.over) <= set(self.arg.axes), (self.over, self.arg.axes)
        self._set((a for a in self.arg.axes if a not in self.over), self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Softmax(Expr):
    """exp(arg) divided by its sum over the axes `over`, computed without overflow; a row with no valid entry
    is 0.
    """

    over: Axes
    arg: Expr

    def __post_init__(self) -> None:
        self._set(self.arg.axes, DType.REAL)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Rename(Expr):
    """`arg` with the axes `old` called `new`; `pairs` are (old, new)."""

    pairs: tuple[tuple[str, str], ...]
    arg: Expr

    def __post_init__(self) -> None:
        mapping = dict(self.pairs)
        axes = [mapping.get(a, a) for a in self.arg.axes]
        assert len(set(axes)) == len(axes), (self.pairs, self.arg.axes)
        self._set(axes, self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Slice(Expr):
    """The entries `start … start + length(new)` of `axis`, which is then called `new`."""

    axis: str
    new: str
    start: int
    arg: Expr

    def __post_init__(self) -> None:
        self._set((self.new if a == self.axis else a for a in self.arg.axes), self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Concat(Expr):
    """The arguments one after another along `axis`.

    `parts[i]` is that axis's name in the i-th argument and `starts[i]` where its entries begin.
    """

    axis: str
    parts: Axes
    starts: tuple[int, ...]
    args: tuple[Expr, ...]

    def __post_init__(self) -> None:
        axes: list[str] = []
        for part, arg in zip(self.parts, self.args, strict=True):
            axes.extend(self.axis if a == part else a for a in arg.axes)
        self._set(axes, _either(*self.args))


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class At(Expr):
    """The entry at position `index` of `axis` (counted from the end when negative); the axis is gone."""

    axis: str
    index: int
    arg: Expr

    def __post_init__(self) -> None:
        self._set((a for a in self.arg.axes if a != self.axis), self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Take(Expr):
    """The entries of `arg` at the places `index` of `axis` (whole numbers from 0), and 0 where there is no such
    place.  An axis that both have is kept apart: each of its entries looks up its own.
    """

    arg: Expr
    index: Expr
    axis: str

    def __post_init__(self) -> None:
        self._set((*(a for a in self.arg.axes if a != self.axis), *self.index.axes), self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Put(Expr):
    """The adjoint of `Take`: along a new `axis`, the sum over the axes `over` of what `index` sends to each place."""

    arg: Expr
    index: Expr
    axis: str
    over: Axes

    def __post_init__(self) -> None:
        kept = (a for a in (*self.arg.axes, *self.index.axes) if a not in self.over)
        self._set((*kept, self.axis), self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Rank(Expr):
    """How many entries of `arg` along `axis` come before each if the largest comes first; of equal ones the first
    does.
    """

    axis: str
    arg: Expr

    def __post_init__(self) -> None:
        self._set(self.arg.axes, DType.REAL)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Shift(Expr):
    """`arg` moved by `by` entries along `axis` (towards the end when positive), with zeros where nothing
    comes from.
    """

    axis: str
    by: int
    arg: Expr

    def __post_init__(self) -> None:
        self._set(self.arg.axes, self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Scan(Expr):
    """`h[i] = decay[i] · h[i-1] + source[i]` along `axis`, from zero; from the end when `reverse`.

    With `columns = (s, r)`, `decay` is a small matrix over those two axes and `h[s] = Σ_r decay[s, r] h[r]`
    is the product (`source` and the result have `s`).  A running sum is a scan with decay 1; a product of
    gates between two tokens is a scan whose source is the identity, so that no logarithm and no division is
    ever taken.
    """

    decay: Expr
    source: Expr
    axis: str
    reverse: bool = False
    columns: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        skip = () if self.columns is None else (self.columns[1],)
        axes = [a for a in (*self.source.axes, *self.decay.axes) if a not in skip]
        self._set((*axes, self.axis), _either(self.decay, self.source))


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Solve(Expr):
    """The `x` with `x[r] = rhs[r] + Σ_c matrix[r, c] x[c]`, for a strictly lower triangular `matrix`.

    `rows` and `columns` are axes of equal length; `rhs` and the result have `rows`.  When `upper`, the matrix
    is strictly upper triangular (what a transposed solve needs).
    """

    matrix: Expr
    rhs: Expr
    rows: str
    columns: str
    upper: bool = False

    def __post_init__(self) -> None:
        axes = [*self.rhs.axes, *(a for a in self.matrix.axes if a != self.columns)]
        self._set(axes, _either(self.matrix, self.rhs))


# --- Sequence operations: only in blocks and models, where a value is a whole sequence ----------------------


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Conv(Expr):
    """Causal depthwise convolution over time: `y_t = Σ_j weight[j] · arg_{t - width + 1 + j} (+ bias)`.

    `weight` has the axis `taps` (its last entry multiplies the present token) and the channel axes.
    `name` is the instance path; its state is `<name>.window`, the last `width - 1` inputs, oldest first.
    """

    name: str
    arg: Expr
    weight: Expr
    bias: Expr | None
    taps: str

    def __post_init__(self) -> None:
        self._set((*self.arg.axes, *(a for a in self.weight.axes if a != self.taps)), self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Gather(Expr):
    """Rows of `table` chosen by the integers `index`: `table[index, …]`; `axis` is the axis looked up."""

    table: Expr
    index: Expr
    axis: str

    def __post_init__(self) -> None:
        self._set((*self.index.axes, *(a for a in self.table.axes if a != self.axis)), self.table.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Flip(Expr):
    """The sequence in reverse time."""

    arg: Expr

    def __post_init__(self) -> None:
        self._set(self.arg.axes, self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Dropout(Expr):
    """While training, entries zeroed with probability `rate` and the rest divided by `1 - rate`; `name` is
    unique.
    """

    name: str
    rate: float
    arg: Expr

    def __post_init__(self) -> None:
        self._set(self.arg.axes, self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Pool(Expr):
    """One value a sequence: the `mean` or the `last` valid token of `arg` (for classifiers and regressors)."""

    op: str
    arg: Expr

    def __post_init__(self) -> None:
        self._set(self.arg.axes, self.arg.dtype)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Invoke(Expr):
    """A callee applied to whole sequences; `Item` takes its results.

    `callee` is a `Recurrence` (a rule), a `Function` (a block) or a `Repeat`.  `name` is the instance's path
    inside the calling function, the prefix of the names of its parameters and states.  `args` follow the
    callee's inputs; `given` are the callee's parameters that the caller passes in (tied), by name.
    """

    name: str
    callee: Any
    args: tuple[Expr, ...]
    given: tuple[tuple[str, Expr], ...] = ()

    def __post_init__(self) -> None:
        self._set((), DType.REAL)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Item(Expr):
    """The `index`-th output of an `Invoke`, with the output's axes as the callee names them."""

    call: Invoke
    index: int

    def __post_init__(self) -> None:
        output = self.call.callee.outputs[self.index]
        self._set(self.call.callee.output_axes(self.index), output.dtype)
