"""Constructors that simplify as they build: what passes and the checker use to make expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from seqc.ir.expr import (
    Apply,
    At,
    Axes,
    Concat,
    Const,
    DType,
    Expr,
    Index,
    Leaf,
    LeafKind,
    Rank,
    Reduce,
    Rename,
    Shift,
    Size,
    Slice,
    Softmax,
    Take,
)
from seqc.ir.ops import fold, is_const

ZERO: Expr = Const(0.0)
ONE: Expr = Const(1.0)


def const(value: float) -> Expr:
    return Const(value)


def leaf(kind: LeafKind, name: str, axes: Iterable[str] = (), dtype: DType = DType.REAL) -> Leaf:
    return Leaf(kind, name, tuple(axes), dtype)


def apply(op: str, *args: Expr) -> Expr:
    """An elementwise application, with constants folded and neutral elements dropped.

    Dropping a neutral element may drop an axis along which the value is constant: a value that lacks an axis
    is constant along it, so nothing is lost.
    """
    folded = fold(op, args)
    if folded is not None:
        return folded
    simple = _SIMPLIFY[op](*args) if op in _SIMPLIFY else None
    return Apply(op, args) if simple is None else simple


def _add(x: Expr, y: Expr) -> Expr | None:
    if is_const(x, 0):
        return y
    if is_const(y, 0):
        return x
    if isinstance(y, Apply) and y.op == "neg":
        return sub(x, y.args[0])
    return mul(Const(2.0), x) if x is y else None


def _sub(x: Expr, y: Expr) -> Expr | None:
    if is_const(y, 0):
        return x
    if is_const(x, 0):
        return neg(y)
    if isinstance(y, Apply) and y.op == "neg":
        return add(x, y.args[0])
    if is_const(x, 1) and isinstance(y, Apply) and y.op == "exp" and y.dtype is DType.REAL:
        return neg(apply("expm1", y.args[0]))  # 1 - exp(x) loses every digit where exp(x) is near 1
    return ZERO if x is y else None


def _mul(x: Expr, y: Expr) -> Expr | None:
    if is_const(x, 0) or is_const(y, 0):
        return ZERO
    for one, other in ((x, y), (y, x)):
        if is_const(one, 1):
            return other
        if is_const(one, -1):
            return neg(other)
    if isinstance(x, Apply) and x.op == "neg":
        return neg(mul(x.args[0], y))
    if isinstance(y, Apply) and y.op == "neg":
        return neg(mul(x, y.args[0]))
    if isinstance(x, Const) and isinstance(y, Apply) and y.op == "mul" and isinstance(y.args[0], Const):
        return mul(mul(x, y.args[0]), y.args[1])
    return None


def _div(x: Expr, y: Expr) -> Expr | None:
    if is_const(y, 1):
        return x
    return ZERO if is_const(x, 0) else None


def _neg(x: Expr) -> Expr | None:
    return x.args[0] if isinstance(x, Apply) and x.op == "neg" else None


def _pow(x: Expr, y: Expr) -> Expr | None:
    if is_const(y, 1):
        return x
    return ONE if is_const(y, 0) else None


def _where(c: Expr, x: Expr, y: Expr) -> Expr | None:
    if isinstance(c, Const):
        return x if c.value else y
    return x if x is y else None


def _real(x: Expr) -> Expr | None:
    if x.dtype is not DType.COMPLEX:
        return x
    return x.args[0] if isinstance(x, Apply) and x.op == "complex" else None


def _imag(x: Expr) -> Expr | None:
    if x.dtype is not DType.COMPLEX:
        return ZERO
    return x.args[1] if isinstance(x, Apply) and x.op == "complex" else None


def _conj(x: Expr) -> Expr | None:
    return x if x.dtype is not DType.COMPLEX else None


_SIMPLIFY: dict[str, Callable[..., Expr | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "pow": _pow,
    "where": _where,
    "real": _real,
    "imag": _imag,
    "conj": _conj,
}


def add(x: Expr, y: Expr) -> Expr:
    return apply("add", x, y)


def sub(x: Expr, y: Expr) -> Expr:
    return apply("sub", x, y)


def mul(x: Expr, y: Expr) -> Expr:
    return apply("mul", x, y)


def div(x: Expr, y: Expr) -> Expr:
    return apply("div", x, y)


def neg(x: Expr) -> Expr:
    return apply("neg", x)


def where(condition: Expr, x: Expr, y: Expr) -> Expr:
    return apply("where", condition, x, y)


def product(factors: Iterable[Expr]) -> Expr:
    result: Expr = ONE
    for factor in factors:
        result = mul(result, factor)
    return result


def total(terms: Iterable[Expr]) -> Expr:
    result: Expr = ZERO
    for term in terms:
        result = add(result, term)
    return result


def reduce(op: str, over: Iterable[str], arg: Expr) -> Expr:
    """`sum` or `max` over axes; along an axis that `arg` lacks it is constant, so a sum multiplies by the
    length.
    """
    over = tuple(dict.fromkeys(over))
    present = tuple(a for a in over if a in arg.axes)
    if op == "sum" and is_const(arg, 0):
        return ZERO
    result = Reduce(op, present, arg) if present else arg
    if op == "sum":
        for axis in over:
            if axis not in arg.axes:
                result = mul(Size(axis), result)
    return result


def sum_over(over: Iterable[str], arg: Expr) -> Expr:
    return reduce("sum", over, arg)


def rename(arg: Expr, mapping: Mapping[str, str]) -> Expr:
    """Rename axes; pairs that do nothing are dropped and a rename of a rename is one rename."""
    pairs = tuple((old, new) for old, new in mapping.items() if old != new and old in arg.axes)
    if not pairs:
        return arg
    if isinstance(arg, Rename):
        inner = {old: dict(pairs).get(new, new) for old, new in arg.pairs}
        outer = {old: new for old, new in pairs if old not in dict(arg.pairs).values()}
        return rename(arg.arg, {**outer, **inner})
    return Rename(pairs, arg)


def at(arg: Expr, axis: str, index: int) -> Expr:
    """One entry along an axis; a value that lacks the axis is its own entry."""
    return At(axis, index, arg) if axis in arg.axes else arg


def take(arg: Expr, index: Expr, axis: str) -> Expr:
    """Entries along an axis; a value that lacks the axis is spread along it first: outside there is nothing."""
    return Take(_spread(arg, axis), index, axis)


def rank(arg: Expr, axis: str) -> Expr:
    """The order of entries along an axis; where all are equal it is their own."""
    return Rank(axis, arg) if axis in arg.axes else Index(axis)


def _spread(arg: Expr, axis: str) -> Expr:
    if axis in arg.axes:
        return arg
    return Apply("where", (apply("ge", Index(axis), ZERO), arg, ZERO))


def softmax(over: Iterable[str], arg: Expr) -> Expr:
    """Along an axis that the value lacks, all its entries share alike."""
    over = tuple(dict.fromkeys(over))
    present = tuple(axis for axis in over if axis in arg.axes)
    result: Expr = Softmax(present, arg) if present else ONE
    for axis in over:
        if axis not in present:
            result = div(result, Size(axis))
    return result


def shift(arg: Expr, axis: str, by: int) -> Expr:
    """A value that lacks the axis is spread along it first: zeros move in."""
    return Shift(axis, by, _spread(arg, axis))


def concat(axis: str, parts: Axes, starts: tuple[int, ...], args: Iterable[Expr]) -> Expr:
    """Values one after another; one that lacks its part of the axis is spread along it first."""
    spread = tuple(_spread(arg, part) for arg, part in zip(args, parts, strict=True))
    return Concat(axis, parts, starts, spread)


def narrow(arg: Expr, axis: str, new: str, start: int) -> Expr:
    """A stretch of an axis under a new name; a value that lacks the axis is returned as it is."""
    return Slice(axis, new, start, arg) if axis in arg.axes else arg


def match_axes(arg: Expr, axes: Axes) -> Expr:
    """Sum a cotangent over the axes that the value it belongs to does not have."""
    return reduce("sum", [a for a in arg.axes if a not in axes], arg)
