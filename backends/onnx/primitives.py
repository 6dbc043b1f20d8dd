"""How ONNX spells the elementwise primitives of real numbers: one row each (complex ones are in `pairs.py`)."""

from __future__ import annotations

from collections.abc import Callable

from seqc.ir.expr import DType

from .tensors import Space, Tensor

Spelling = Callable[..., Tensor]

MICROSOFT = "com.microsoft"
LOGICAL = frozenset({"and", "or", "not"})


def _node(op: str, kind: DType = DType.REAL, **attributes: str) -> Spelling:
    """An operation that is one node."""

    def spell(space: Space, *args: Tensor) -> Tensor:
        return space.elementwise(op, *args, kind=kind, **attributes)

    return spell


def _compare(op: str) -> Spelling:
    return _node(op, DType.BOOL)


def _different(s: Space, x: Tensor, y: Tensor) -> Tensor:
    return s.elementwise("Not", s.elementwise("Equal", x, y, kind=DType.BOOL))


def _mod(s: Space, x: Tensor, y: Tensor) -> Tensor:
    whole = s.elementwise("Floor", s.elementwise("Div", x, y))
    return s.elementwise("Sub", x, s.mul(whole, y))


def _log1p(s: Space, x: Tensor) -> Tensor:
    """log(u) · x / (u - 1) with u = 1 + x undoes the rounding of u; where u is 1, the logarithm is x."""
    one = s.number(1)
    u = s.elementwise("Add", x, one)
    exact = s.elementwise("Equal", u, one, kind=DType.BOOL)
    step = s.elementwise("Where", exact, one, s.elementwise("Sub", u, one), kind=DType.REAL)
    log = s.elementwise("Log", u)
    return s.elementwise("Where", exact, x, s.mul(log, s.elementwise("Div", x, step)), kind=DType.REAL)


def _expm1(s: Space, x: Tensor) -> Tensor:
    """tanh(x / 2) · (exp(x) + 1): no cancellation at 0; elsewhere not every runtime's tanh is exact."""
    half = s.elementwise("Tanh", s.mul(x, s.number(0.5)))
    small = s.mul(half, s.elementwise("Add", s.elementwise("Exp", x), s.number(1)))
    if MICROSOFT in s.builder.opsets:
        return small
    large = s.elementwise("Sub", s.elementwise("Exp", x), s.number(1))
    near = s.elementwise("Less", s.elementwise("Abs", x), s.number(1), kind=DType.BOOL)
    return s.elementwise("Where", near, small, large, kind=DType.REAL)


def _softplus(s: Space, x: Tensor) -> Tensor:
    return s.elementwise("Softplus", x)


def _log_sigmoid(s: Space, x: Tensor) -> Tensor:
    return s.elementwise("Neg", _softplus(s, s.elementwise("Neg", x)))


def _inv_softplus(s: Space, x: Tensor) -> Tensor:
    below = s.elementwise("Neg", _expm1(s, s.elementwise("Neg", x)))
    return s.elementwise("Add", x, s.elementwise("Log", below))


def _silu(s: Space, x: Tensor) -> Tensor:
    if MICROSOFT in s.builder.opsets:
        return s.elementwise("QuickGelu", x, domain=MICROSOFT, alpha=1.0)
    return s.mul(x, s.elementwise("Sigmoid", x))


def _sqrt_bounded(s: Space, x: Tensor, _: Tensor) -> Tensor:
    return s.elementwise("Sqrt", s.elementwise("Relu", x))


def _same(_: Space, x: Tensor) -> Tensor:
    return x


PRIMITIVES: dict[str, Spelling] = {
    "add": _node("Add"),
    "sub": _node("Sub"),
    "mul": _node("Mul"),
    "div": _node("Div"),
    "neg": _node("Neg"),
    "pow": _node("Pow"),
    "exp": _node("Exp"),
    "log": _node("Log"),
    "log1p": _log1p,
    "expm1": _expm1,
    "sqrt": _node("Sqrt"),
    "abs": _node("Abs"),
    "sign": _node("Sign"),
    "floor": _node("Floor"),
    "mod": _mod,
    "sin": _node("Sin"),
    "cos": _node("Cos"),
    "erf": _node("Erf"),
    "tanh": _node("Tanh"),
    "sigmoid": _node("Sigmoid"),
    "log_sigmoid": _log_sigmoid,
    "softplus": _softplus,
    "inv_softplus": _inv_softplus,
    "relu": _node("Relu"),
    "silu": _silu,
    "gelu": _node("Gelu"),
    "gelu_tanh": _node("Gelu", approximate="tanh"),
    "sqrt_bounded": _sqrt_bounded,
    "max": _node("Max"),
    "min": _node("Min"),
    "where": _node("Where"),
    "lt": _compare("Less"),
    "le": _compare("LessOrEqual"),
    "gt": _compare("Greater"),
    "ge": _compare("GreaterOrEqual"),
    "eq": _compare("Equal"),
    "ne": _different,
    "and": _compare("And"),
    "or": _compare("Or"),
    "not": _compare("Not"),
    "stop_gradient": _same,
}
