"""Random expressions over every primitive and every kind of node that an expression in a rule or a stage may
have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from seqc.ir import build
from seqc.ir.expr import (
    Concat,
    Const,
    DType,
    Expr,
    Index,
    Leaf,
    LeafKind,
    Scan,
    Shift,
    Size,
    Slice,
    Solve,
)
from seqc.ir.ops import OPS, RANDOM

# r, c are square; s, p are the columns of a scan; u is half of t.
SIZES = {"a": 2, "b": 3, "t": 4, "u": 2, "r": 3, "c": 3, "s": 2, "p": 2}

Draw = Callable[..., object]

LEAVES: tuple[Leaf, ...] = (
    Leaf(LeafKind.INPUT, "x", ("a",)),
    Leaf(LeafKind.STATE, "y", ("a", "b")),
    Leaf(LeafKind.INPUT, "z"),
    Leaf(LeafKind.PARAM, "w", ("t",)),
    Leaf(LeafKind.INPUT, "m", ("c", "r")),
    Leaf(LeafKind.INPUT, "e", ("s", "t")),
    Leaf(LeafKind.INPUT, "d", ("s", "p")),
    Leaf(LeafKind.INPUT, "half", ("u",)),
)
COMPLEX_LEAVES: tuple[Leaf, ...] = (
    Leaf(LeafKind.STATE, "cx", ("a",), DType.COMPLEX),
    Leaf(LeafKind.INPUT, "cw", ("t",), DType.COMPLEX),
)

DIFFERENTIABLE = tuple(op for op, row in OPS.items() if row.gradient is not None)
ON_COMPLEX = frozenset(
    ["add", "sub", "mul", "div", "neg", "exp", "abs", "real", "imag", "conj", "where", "stop_gradient"]
)
POSITIVE = frozenset({"log", "log1p", "sqrt", "inv_softplus"})
BOUNDED = frozenset({"exp", "expm1"})


def real(x: Expr) -> Expr:
    return build.apply("real", x)


def tame(x: Expr) -> Expr:
    """A value between -1 and 1."""
    return build.apply("tanh", real(x))


def positive(x: Expr) -> Expr:
    """A value between a half and one and a half."""
    return build.add(Const(0.5), build.apply("sigmoid", real(x)))


def away(x: Expr) -> Expr:
    """A value that is never near 0, complex when `x` is."""
    return build.add(x, Const(3.0)) if x.dtype is DType.COMPLEX else build.add(positive(x), Const(0.5))


def applied(op: str, args: Sequence[Expr]) -> Expr:
    """An operation on values that are inside its domain."""
    args = [number(arg) for arg in args]
    if op == "where":
        first = build.apply("gt", real(args[0]), Const(0.0))
        return build.where(first, args[1], args[2])
    if op == "div":
        return build.div(args[0], away(args[1]))
    if op == "exp":
        scaled = build.mul(Const(0.1), args[0])
        return build.apply("exp", scaled if scaled.dtype is DType.COMPLEX else tame(scaled))
    if op in ON_COMPLEX:
        return build.apply(op, *args)
    args = [real(arg) for arg in args]
    if op == "pow":
        return build.apply("pow", positive(args[0]), tame(args[1]))
    if op == "mod":
        return build.apply("mod", args[0], build.add(positive(args[1]), Const(0.37)))
    if op == "sqrt_bounded":
        return build.apply("sqrt_bounded", args[0], Const(3.0))
    if op in POSITIVE:
        args = [positive(arg) for arg in args]
    if op in BOUNDED:
        args = [tame(arg) for arg in args]
    return build.apply(op, *args)


def number(x: Expr) -> Expr:
    """A truth value as a number."""
    return build.where(x, Const(1.0), Const(-0.5)) if x.dtype is DType.BOOL else x


@st.composite
def expressions(draw: Draw, steps: int = 8, allow_complex: bool = True, differentiable: bool = True) -> Expr:
    """An expression of up to `steps` operations on the leaves, whose values stay moderate."""
    leaves = [*LEAVES, *(COMPLEX_LEAVES if allow_complex else ())]
    pool: list[Expr] = [*draw(st.lists(st.sampled_from(leaves), min_size=2, max_size=5))]  # type: ignore[misc]
    kinds = [*_BUILDERS, *["apply"] * 8]
    for _ in range(int(draw(st.integers(1, steps)))):  # type: ignore[call-overload]
        kind = str(draw(st.sampled_from(kinds)))
        made = _apply(draw, pool, differentiable) if kind == "apply" else _BUILDERS[kind](draw, pool)
        pool.append(number(made))
    return pool[-1]


def _pick(draw: Draw, pool: Sequence[Expr]) -> Expr:
    """Rather a late value than an early one, so that operations stand on one another."""
    late = draw(st.integers(1, min(3, len(pool))) | st.integers(1, len(pool)))
    assert isinstance(late, int)
    return pool[-late]


def _with(draw: Draw, pool: Sequence[Expr], axis: str, *others: str) -> Expr:
    """A value that has `axis` and none of `others`."""
    fitting = [x for x in pool if axis in x.axes and not set(others) & set(x.axes)]
    if fitting:
        return _pick(draw, fitting)
    return build.apply("sin", build.add(Index(axis), Leaf(LeafKind.INPUT, "z")))


def _apply(draw: Draw, pool: Sequence[Expr], differentiable: bool) -> Expr:
    names = DIFFERENTIABLE if differentiable else [op for op in OPS if op not in RANDOM]
    op = str(draw(st.sampled_from(sorted(names))))
    made = applied(op, [_pick(draw, pool) for _ in range(OPS[op].arity)])
    growing = op in ("add", "sub", "mul", "div", "pow")
    return build.mul(Const(0.5), made) if growing else made


def _reduce(draw: Draw, pool: Sequence[Expr]) -> Expr:
    x = _pick(draw, pool)
    over = draw(st.lists(st.sampled_from(sorted(SIZES)), min_size=1, max_size=2, unique=True))
    op = str(draw(st.sampled_from(["sum", "max"])))
    return build.reduce(op, over, x if op == "sum" else real(x))  # type: ignore[arg-type]


def _softmax(draw: Draw, pool: Sequence[Expr]) -> Expr:
    axis = str(draw(st.sampled_from(sorted(SIZES))))
    return build.softmax([axis], real(_with(draw, pool, axis)))


def _rename(draw: Draw, pool: Sequence[Expr]) -> Expr:
    old, new = str(draw(st.sampled_from(["r c", "c r", "s p", "p s", "a u", "u a"]))).split()
    return build.rename(_with(draw, pool, old, new), {old: new})


def _slice(draw: Draw, pool: Sequence[Expr]) -> Expr:
    start = draw(st.integers(0, 2))
    assert isinstance(start, int)
    return Slice("t", "u", start, _with(draw, pool, "t", "u"))


def _concat(draw: Draw, pool: Sequence[Expr]) -> Expr:
    return Concat("t", ("u", "u"), (0, 2), (_with(draw, pool, "u", "t"), _with(draw, pool, "u", "t")))


def _at(draw: Draw, pool: Sequence[Expr]) -> Expr:
    axis = str(draw(st.sampled_from(sorted(SIZES))))
    index = draw(st.sampled_from([0, 1, -1, -2]))
    assert isinstance(index, int)
    return build.at(_with(draw, pool, axis), axis, index)


def _shift(draw: Draw, pool: Sequence[Expr]) -> Expr:
    axis = str(draw(st.sampled_from(["t", "b"])))
    by = draw(st.sampled_from([-5, -1, 1, 2]))
    assert isinstance(by, int)
    return Shift(axis, by, _with(draw, pool, axis))


def _scan(draw: Draw, pool: Sequence[Expr]) -> Expr:
    reverse = draw(st.booleans()) is True
    decay, source = _pick(draw, pool), _with(draw, pool, "t")
    return Scan(build.mul(Const(0.5), decay), source, "t", reverse)


def _scan_columns(draw: Draw, pool: Sequence[Expr]) -> Expr:
    reverse = draw(st.booleans()) is True
    decay, source = _with(draw, pool, "p"), _with(draw, pool, "s", "p")
    decay = build.mul(decay, build.add(Index("s"), Const(0.25))) if "s" not in decay.axes else decay
    return Scan(build.mul(Const(0.5), decay), source, "t", reverse, ("s", "p"))


def _solve(draw: Draw, pool: Sequence[Expr]) -> Expr:
    upper = draw(st.booleans()) is True
    matrix = build.add(_with(draw, pool, "r"), _with(draw, pool, "c"))
    inside = build.apply("gt", *((Index("c"), Index("r")) if upper else (Index("r"), Index("c"))))
    return Solve(build.where(inside, matrix, Const(0.0)), _with(draw, pool, "r", "c"), "r", "c", upper)


def _constant(draw: Draw, pool: Sequence[Expr]) -> Expr:
    value = draw(st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -3.0]))
    assert isinstance(value, float)
    return build.add(_pick(draw, pool), Const(value))


def _size(draw: Draw, pool: Sequence[Expr]) -> Expr:
    return build.div(_pick(draw, pool), Size(str(draw(st.sampled_from(sorted(SIZES))))))


_BUILDERS: dict[str, Callable[[Draw, Sequence[Expr]], Expr]] = {
    "reduce": _reduce,
    "softmax": _softmax,
    "rename": _rename,
    "slice": _slice,
    "concat": _concat,
    "at": _at,
    "shift": _shift,
    "scan": _scan,
    "scan_columns": _scan_columns,
    "solve": _solve,
    "constant": _constant,
    "size": _size,
}


def values(seed: int, ties: bool = False) -> dict[Expr, Tensor]:
    """A value for every leaf; with `ties`, small whole numbers, so that many entries are equal."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[Expr, Tensor] = {}
    for leaf in (*LEAVES, *COMPLEX_LEAVES):
        dtype = torch.complex128 if leaf.dtype is DType.COMPLEX else torch.float64
        x = torch.randn([SIZES[axis] for axis in leaf.axes], dtype=dtype, generator=generator)
        found[leaf] = x.real.round().clamp(-1, 1).to(dtype) if ties else x
    return found
