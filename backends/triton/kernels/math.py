"""Functions that Triton does not have on every target, exact to a few roundings."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def log1p(x):
    """log(1 + x), also where 1 + x is 1."""
    one = 1.0 + x
    return tl.where(one == 1.0, x, tl.log(one) * (x / tl.where(one == 1.0, 1.0, one - 1.0)))


@triton.jit
def expm1(x):
    """exp(x) - 1, also where exp(x) is 1."""
    power = tl.exp(x)
    less = power - 1.0
    small = tl.abs(x) < 0.5
    inner = tl.where(small & (less != 0.0), power, 2.0)
    near = tl.where(less == 0.0, x, (inner - 1.0) * (x / tl.log(inner)))
    return tl.where(small, near, less)


@triton.jit
def tanh(x):
    less = expm1(-2.0 * tl.abs(x))
    size = -less / (2.0 + less)
    return tl.where(x < 0.0, -size, size)


@triton.jit
def softplus(x):
    """log(1 + exp(x)) without overflow."""
    return tl.maximum(x, 0.0) + log1p(tl.exp(-tl.abs(x)))


@triton.jit
def log_sigmoid(x):
    return tl.minimum(x, 0.0) - log1p(tl.exp(-tl.abs(x)))


@triton.jit
def inv_softplus(y):
    """The x with softplus(x) = y, for y > 0."""
    return y + tl.log(-expm1(-y))


@triton.jit
def silu(x):
    return x * tl.sigmoid(x)


@triton.jit
def gelu(x):
    """x·Φ(x), with the error function."""
    return 0.5 * x * (1.0 + tl.erf(0.7071067811865476 * x))


@triton.jit
def gelu_tanh(x):
    return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@triton.jit
def sign(x):
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, 0.0))


@triton.jit
def modulo(x, y):
    """The remainder with the sign of y."""
    return x - tl.floor(x / y) * y


@triton.jit
def larger(x, y):
    """The larger of two; where either is no number, that."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def smaller(x, y):
    """The smaller of two; where either is no number, that."""
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def power(x, y):
    """x to the power y; of a negative x for whole y only."""
    size = tl.exp(y * tl.log(tl.where(x == 0.0, 1.0, tl.abs(x))))
    size = tl.where(x == 0.0, tl.where(y > 0.0, 0.0, tl.where(y == 0.0, 1.0, float("inf"))), size)
    whole = tl.floor(y) == y
    odd = whole & (tl.floor(0.5 * y) * 2.0 != y)
    return tl.where(x < 0.0, tl.where(whole, tl.where(odd, -size, size), float("nan")), size)
