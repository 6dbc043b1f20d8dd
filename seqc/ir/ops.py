"""The open table of elementwise primitives: one row each.

A row says how many arguments an operation takes, what kind of number it gives, how a cotangent flows back through it,
and what it computes on plain floats (used to fold constants).  Each backend spells the operations in a table of its
own; a test lists the rows that a backend is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seqc.ir.expr import Const, DType, Expr

Gradient = Callable[[tuple[Expr, ...], Expr, Expr], tuple[Expr | None, ...]]


def promote(args: Sequence[Expr]) -> DType:
    """Complex if any argument is, else real."""
    return DType.COMPLEX if any(a.dtype is DType.COMPLEX for a in args) else DType.REAL


def _real(_: Sequence[Expr]) -> DType:
    return DType.REAL


def _complex(_: Sequence[Expr]) -> DType:
    return DType.COMPLEX


def _bool(_: Sequence[Expr]) -> DType:
    return DType.BOOL


def _branches(args: Sequence[Expr]) -> DType:
    return promote(args[1:])


@dataclass(frozen=True, slots=True)
class Op:
    """A primitive: `gradient(args, out, g)` gives the cotangent of each argument (None: no gradient).

    For complex numbers the convention is PyTorch's: the cotangent is the conjugate Wirtinger derivative, so that a
    step against it descends.
    """

    arity: int
    gradient: Gradient | None
    value: Callable[..., float] | None = None
    result: Callable[[Sequence[Expr]], DType] = promote
    doc: str = ""


def _a(op: str, *args: Expr) -> Expr:
    from seqc.ir import build

    return build.apply(op, *args)


def _c(value: float) -> Expr:
    return Const(value)


def _conj(x: Expr) -> Expr:
    return _a("conj", x) if x.dtype is DType.COMPLEX else x


def _mul(*args: Expr) -> Expr:
    result = args[0]
    for arg in args[1:]:
        result = _a("mul", result, arg)
    return result


def _where(c: Expr, x: Expr, y: Expr) -> Expr:
    return _a("where", c, x, y)


def _unary(factor: Callable[[Expr, Expr], Expr]) -> Gradient:
    """The gradient of a function of one argument from its derivative `factor(x, y)`."""

    def gradient(args: tuple[Expr, ...], out: Expr, g: Expr) -> tuple[Expr | None, ...]:
        return (_mul(g, _conj(factor(args[0], out))),)

    return gradient


def _gradient_pow(args: tuple[Expr, ...], out: Expr, g: Expr) -> tuple[Expr | None, ...]:
    base, power = args
    to_base = _mul(g, power, _a("pow", base, _a("sub", power, _c(1))))
    if isinstance(power, Const):
        return to_base, None
    positive = _a("gt", base, _c(0))
    log_base = _a("log", _where(positive, base, _c(1)))
    return to_base, _mul(g, _where(positive, _mul(out, log_base), _c(0)))


def _gradient_polar(args: tuple[Expr, ...], out: Expr, g: Expr) -> tuple[Expr | None, ...]:
    _, angle = args
    unit = _a("polar", _c(1), angle)
    turned = _a("complex", _a("neg", _a("imag", out)), _a("real", out))
    return _a("real", _mul(_a("conj", unit), g)), _a("real", _mul(_a("conj", turned), g))


def _gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _gelu_slope(x: Expr, _: Expr) -> Expr:
    normal = _mul(_c(1 / math.sqrt(2 * math.pi)), _a("exp", _mul(_c(-0.5), x, x)))
    cumulative = _mul(_c(0.5), _a("add", _c(1), _a("erf", _mul(_c(math.sqrt(0.5)), x))))
    return _a("add", cumulative, _mul(x, normal))


def _gelu_tanh_slope(x: Expr, _: Expr) -> Expr:
    c, k = math.sqrt(2 / math.pi), 0.044715
    inner = _mul(_c(c), _a("add", x, _mul(_c(k), x, x, x)))
    t = _a("tanh", inner)
    slope = _mul(_c(c), _a("add", _c(1), _mul(_c(3 * k), x, x)))
    half = _mul(_c(0.5), _a("add", _c(1), t))
    return _a("add", half, _mul(_c(0.5), x, _a("sub", _c(1), _mul(t, t)), slope))


def _gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _silu_slope(x: Expr, _: Expr) -> Expr:
    s = _a("sigmoid", x)
    return _mul(s, _a("add", _c(1), _mul(x, _a("sigmoid", _a("neg", x)))))


def _sqrt_bounded_gradient(args: tuple[Expr, ...], out: Expr, g: Expr) -> tuple[Expr | None, ...]:
    x, bound = args
    quarter = _a("div", _c(0.25), _mul(bound, bound))  # where the slope reaches the bound
    safe = _a("gt", x, quarter)
    slope = _where(safe, _a("div", _c(0.5), _a("sqrt", _where(safe, x, _c(1)))), bound)
    return _mul(g, slope), None


def _one(value: Callable[[float], float]) -> Callable[..., float]:
    return value


def _two(value: Callable[[float, float], float]) -> Callable[..., float]:
    return value


def _choose(condition: float, x: float, y: float) -> float:
    return x if condition else y


def _comparison(value: Callable[[float, float], float]) -> Op:
    return Op(2, None, value, _bool)


OPS: dict[str, Op] = {
    "add": Op(2, lambda a, o, g: (g, g), _two(lambda x, y: x + y)),
    "sub": Op(2, lambda a, o, g: (g, _a("neg", g)), _two(lambda x, y: x - y)),
    "mul": Op(2, lambda a, o, g: (_mul(g, _conj(a[1])), _mul(g, _conj(a[0]))), _two(lambda x, y: x * y)),
    "div": Op(
        2,
        lambda a, o, g: (
            _a("div", g, _conj(a[1])),
            _a("neg", _a("div", _mul(g, _conj(o)), _conj(a[1]))),
        ),
        _two(lambda x, y: x / y),
    ),
    "neg": Op(1, lambda a, o, g: (_a("neg", g),), _one(lambda x: -x)),
    "pow": Op(2, _gradient_pow, _two(lambda x, y: x**y)),
    "exp": Op(1, _unary(lambda x, y: y), math.exp),
    "log": Op(1, _unary(lambda x, y: _a("div", _c(1), x)), math.log),
    "log1p": Op(1, _unary(lambda x, y: _a("div", _c(1), _a("add", _c(1), x))), math.log1p),
    "expm1": Op(1, _unary(lambda x, y: _a("add", y, _c(1))), math.expm1),
    "sqrt": Op(1, _unary(lambda x, y: _a("div", _c(0.5), y)), math.sqrt),
    "abs": Op(1, lambda a, o, g: (_mul(g, _a("sign", a[0])),), _one(abs), _real),
    "sign": Op(1, None, _one(lambda x: float((x > 0) - (x < 0))), doc="-1, 0 or 1"),
    "floor": Op(1, None, _one(lambda x: float(math.floor(x)))),
    "mod": Op(
        2, lambda a, o, g: (g, None), _two(lambda x, y: x - math.floor(x / y) * y), doc="remainder, sign of y"
    ),
    "sin": Op(1, _unary(lambda x, y: _a("cos", x)), math.sin),
    "cos": Op(1, _unary(lambda x, y: _a("neg", _a("sin", x))), math.cos),
    "erf": Op(
        1, _unary(lambda x, y: _mul(_c(2 / math.sqrt(math.pi)), _a("exp", _a("neg", _mul(x, x))))), math.erf
    ),
    "tanh": Op(1, _unary(lambda x, y: _a("sub", _c(1), _mul(y, y))), math.tanh),
    "sigmoid": Op(1, _unary(lambda x, y: _mul(y, _a("sigmoid", _a("neg", x)))), _sigmoid),
    "log_sigmoid": Op(1, _unary(lambda x, y: _a("sigmoid", _a("neg", x))), _one(lambda x: -_softplus(-x))),
    "softplus": Op(1, _unary(lambda x, y: _a("sigmoid", x)), _softplus),
    "inv_softplus": Op(
        1,
        _unary(lambda x, y: _a("div", _c(1), _a("neg", _a("expm1", _a("neg", x))))),
        _one(lambda x: x + math.log(-math.expm1(-x))),
        doc="the x with softplus(x) = y, for y > 0",
    ),
    "relu": Op(1, _unary(lambda x, y: _where(_a("gt", x, _c(0)), _c(1), _c(0))), _one(lambda x: max(x, 0.0))),
    "silu": Op(1, _unary(_silu_slope), _one(lambda x: x * _sigmoid(x))),
    "gelu": Op(1, _unary(_gelu_slope), _gelu, doc="x·Φ(x), with the error function"),
    "gelu_tanh": Op(1, _unary(_gelu_tanh_slope), _gelu_tanh, doc="the tanh approximation of gelu"),
    "sqrt_bounded": Op(
        2,
        _sqrt_bounded_gradient,
        _two(lambda x, b: math.sqrt(max(x, 0.0))),
        doc="sqrt(max(x, 0)) with a derivative of at most b, by definition",
    ),
    "max": Op(
        2,
        lambda a, o, g: (_where(_a("ge", a[0], a[1]), g, _c(0)), _where(_a("ge", a[0], a[1]), _c(0), g)),
        _two(max),
        doc="the gradient of a tie goes to the first argument",
    ),
    "min": Op(
        2,
        lambda a, o, g: (_where(_a("le", a[0], a[1]), g, _c(0)), _where(_a("le", a[0], a[1]), _c(0), g)),
        _two(min),
        doc="the gradient of a tie goes to the first argument",
    ),
    "where": Op(
        3,
        lambda a, o, g: (None, _where(a[0], g, _c(0)), _where(a[0], _c(0), g)),
        _choose,
        _branches,
    ),
    "lt": _comparison(lambda x, y: float(x < y)),
    "le": _comparison(lambda x, y: float(x <= y)),
    "gt": _comparison(lambda x, y: float(x > y)),
    "ge": _comparison(lambda x, y: float(x >= y)),
    "eq": _comparison(lambda x, y: float(x == y)),
    "ne": _comparison(lambda x, y: float(x != y)),
    "and": _comparison(lambda x, y: float(bool(x) and bool(y))),
    "or": _comparison(lambda x, y: float(bool(x) or bool(y))),
    "not": Op(1, None, _one(lambda x: float(not x)), _bool),
    "stop_gradient": Op(1, None, _one(lambda x: x), doc="the value, without a gradient"),
    "complex": Op(
        2, lambda a, o, g: (_a("real", g), _a("imag", g)), None, _complex, "real and imaginary parts"
    ),
    "polar": Op(2, _gradient_polar, None, _complex, "magnitude and angle"),
    "real": Op(1, lambda a, o, g: (_a("complex", g, _c(0)),), None, _real),
    "imag": Op(1, lambda a, o, g: (_a("complex", _c(0), g),), None, _real),
    "conj": Op(1, lambda a, o, g: (_a("conj", g),), None),
    # Random draws: only in the initial value of a parameter; every parameter draws for itself.
    "uniform": Op(2, None, None, _real, "uniform between two numbers"),
    "normal": Op(2, None, None, _real, "normal with a mean and a standard deviation"),
    "truncated_normal": Op(2, None, None, _real, "normal, redrawn beyond two standard deviations"),
}

RANDOM = frozenset({"uniform", "normal", "truncated_normal"})


def is_const(expr: Expr, value: float) -> bool:
    """Whether the expression is that very number."""
    return isinstance(expr, Const) and expr.value == value


def fold(op: str, args: tuple[Expr, ...]) -> Expr | None:
    """The constant that an application of an operation to constants is, or None."""
    row = OPS[op]
    if row.value is None or row.result(args) is DType.BOOL or not all(isinstance(a, Const) for a in args):
        return None
    value: Any
    try:
        value = row.value(*(a.value for a in args if isinstance(a, Const)))
    except (ValueError, OverflowError, ZeroDivisionError, TypeError):
        return None
    return Const(float(value)) if isinstance(value, int | float) and math.isfinite(value) else None
