"""The words that are built in: a row each.  Everything else is written in the language (`specs/std`)."""

from __future__ import annotations

from collections.abc import Callable

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import Axes, Const, DType, Expr

_UNARY = (
    *("exp", "log", "log1p", "expm1", "sqrt", "abs", "sign", "floor", "sin", "cos", "erf"),
    *("tanh", "sigmoid", "log_sigmoid", "softplus", "inv_softplus", "relu", "silu", "gelu", "gelu_tanh"),
    *("stop_gradient", "real", "imag", "conj"),
)

# Elementwise functions: name -> (operation of the IR, number of arguments).
ELEMENTWISE: dict[str, tuple[str, int]] = {
    **{name: (name, 1) for name in _UNARY},
    **{name: (name, 2) for name in ("sqrt_bounded", "mod", "complex", "polar")},
    **{name: (name, 2) for name in ("uniform", "normal", "truncated_normal")},
    "where": ("where", 3),
}

# Operations that are defined for complex numbers; all others want real ones.
ON_COMPLEX = frozenset(
    ("add", "sub", "mul", "div", "neg", "exp", "abs", "real", "imag", "conj", "where", "stop_gradient")
)

OPERATORS: dict[str, str] = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "/": "div",
    "%": "mod",
    "^": "pow",
    "<": "lt",
    "<=": "le",
    ">": "gt",
    ">=": "ge",
    "==": "eq",
    "!=": "ne",
    "and": "and",
    "or": "or",
}
LOGICAL = frozenset({"and", "or", "not"})

# `max` and `min` are both: `max(a, b)` and `max[n](x)`.
CHOICES = frozenset({"max", "min"})


def square(x: Expr) -> Expr:
    return build.mul(x, build.apply("conj", x))


def _mean(over: Axes, x: Expr, size: float) -> Expr:
    return build.div(build.sum_over(over, x), Const(size)) if over else x


def _sumsq(over: Axes, x: Expr, _: float) -> Expr:
    return build.sum_over(over, build.apply("real", square(x)))


def _norm(over: Axes, x: Expr, size: float) -> Expr:
    return build.apply("sqrt", _sumsq(over, x, size))


def _smallest(over: Axes, x: Expr, _: float) -> Expr:
    return build.neg(build.reduce("max", over, build.neg(x)))


def _logsumexp(over: Axes, x: Expr, _: float) -> Expr:
    largest = build.apply("stop_gradient", build.reduce("max", over, x))
    safe = build.where(build.apply("gt", largest, Const(-1e38)), largest, ZERO)
    shifted = build.apply("exp", build.sub(x, safe))
    return build.add(safe, build.apply("log", build.sum_over(over, shifted)))


# Reductions: (axes, value, number of entries reduced) -> result.  Without a bracket they take all declared axes.
REDUCTIONS: dict[str, Callable[[Axes, Expr, float], Expr]] = {
    "sum": lambda over, x, _: build.sum_over(over, x),
    "mean": _mean,
    "sumsq": _sumsq,
    "norm": _norm,
    "max": lambda over, x, _: build.reduce("max", over, x),
    "min": _smallest,
    "logsumexp": _logsumexp,
}

# Of whole sequences: only in blocks and models.
SEQUENCE = ("embed", "causal_conv", "dropout", "reverse", "mean_pool", "last_pool")

OTHERS = ("softmax", "linear", "concat", "split", "at", "rank", "pow")

NAMES: tuple[str, ...] = tuple(
    dict.fromkeys((*ELEMENTWISE, *REDUCTIONS, *CHOICES, *OTHERS, *SEQUENCE, "index", "age"))
)

# What a value is, in the words of the language.
KINDS = {
    DType.BOOL: "a condition",
    DType.INT: "tokens",
    DType.COMPLEX: "a complex number",
    DType.REAL: "a number",
}

STRUCTURES = ("mlp", "slots", "vector", "matrix")
