"""Complex numbers as pairs of real tensors: ONNX has no complex arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seqc.ir.expr import Axes, DType

from .tensors import Space, Tensor

PARTS = "%parts"  # the trailing axis of length 2 that a complex state or input has outside


@dataclass(frozen=True, slots=True)
class Pair:
    """The real and the imaginary part."""

    re: Tensor
    im: Tensor

    @property
    def axes(self) -> Axes:
        return tuple(dict.fromkeys((*self.re.axes, *self.im.axes)))


Number = Tensor | Pair
Spelling = Callable[..., Number]


def pair(space: Space, x: Number) -> Pair:
    """A number as a pair."""
    return x if isinstance(x, Pair) else Pair(space.cast(x, DType.REAL), space.number(0))


def both(x: Number, function: Callable[[Tensor], Tensor]) -> Number:
    """A function that acts on both parts alike."""
    return Pair(function(x.re), function(x.im)) if isinstance(x, Pair) else function(x)


def unpack(space: Space, tensor: Tensor) -> Pair:
    """A tensor with a trailing axis of two as a pair."""
    return Pair(space.entry(tensor, PARTS, 0), space.entry(tensor, PARTS, 1))


def pack(space: Space, x: Pair) -> Tensor:
    return space.stack([x.re, x.im], PARTS)


def add(s: Space, x: Number, y: Number) -> Number:
    """The sum, with a real argument left real."""
    if isinstance(x, Tensor):
        if isinstance(y, Tensor):
            return s.elementwise("Add", x, y)
        x, y = y, x
    if isinstance(y, Tensor):
        return Pair(s.elementwise("Add", x.re, y), x.im)
    return Pair(s.elementwise("Add", x.re, y.re), s.elementwise("Add", x.im, y.im))


def mul(s: Space, x: Number, y: Number) -> Number:
    """The product, with a real argument left real."""
    if isinstance(x, Tensor):
        if isinstance(y, Tensor):
            return s.mul(x, y)
        x, y = y, x
    if isinstance(y, Tensor):
        return Pair(s.mul(x.re, y), s.mul(x.im, y))
    re = s.elementwise("Sub", s.mul(x.re, y.re), s.mul(x.im, y.im))
    return Pair(re, s.elementwise("Add", s.mul(x.re, y.im), s.mul(x.im, y.re)))


def _neg(s: Space, x: Number) -> Number:
    return both(x, lambda t: s.elementwise("Neg", t))


def _sub(s: Space, x: Number, y: Number) -> Number:
    return add(s, x, _neg(s, y))


def _conj(s: Space, x: Number) -> Number:
    return Pair(x.re, s.elementwise("Neg", x.im)) if isinstance(x, Pair) else x


def _square(s: Space, x: Pair) -> Tensor:
    return s.elementwise("Add", s.mul(x.re, x.re), s.mul(x.im, x.im))


def _div(s: Space, x: Number, y: Number) -> Number:
    if isinstance(y, Tensor):
        return both(x, lambda t: s.elementwise("Div", t, y))
    size = _square(s, y)
    return both(mul(s, x, _conj(s, y)), lambda t: s.elementwise("Div", t, size))


def _polar(s: Space, radius: Number, angle: Number) -> Number:
    assert isinstance(radius, Tensor)
    assert isinstance(angle, Tensor)
    return Pair(s.mul(radius, s.elementwise("Cos", angle)), s.mul(radius, s.elementwise("Sin", angle)))


def _exp(s: Space, x: Number) -> Number:
    z = pair(s, x)
    return _polar(s, s.elementwise("Exp", z.re), z.im)


def _abs(s: Space, x: Number) -> Number:
    return s.elementwise("Sqrt", _square(s, pair(s, x)))


def _where(s: Space, condition: Number, x: Number, y: Number) -> Number:
    assert isinstance(condition, Tensor)
    a, b = pair(s, x), pair(s, y)
    return Pair(
        s.elementwise("Where", condition, a.re, b.re, kind=DType.REAL),
        s.elementwise("Where", condition, a.im, b.im, kind=DType.REAL),
    )


def _complex(_: Space, re: Number, im: Number) -> Number:
    assert isinstance(re, Tensor)
    assert isinstance(im, Tensor)
    return Pair(re, im)


def _real(s: Space, x: Number) -> Number:
    return pair(s, x).re


def _imag(s: Space, x: Number) -> Number:
    return pair(s, x).im


def _same(_: Space, x: Number) -> Number:
    return x


COMPLEX_PRIMITIVES: dict[str, Spelling] = {
    "add": add,
    "sub": _sub,
    "mul": mul,
    "div": _div,
    "neg": _neg,
    "exp": _exp,
    "abs": _abs,
    "where": _where,
    "complex": _complex,
    "polar": _polar,
    "real": _real,
    "imag": _imag,
    "conj": _conj,
    "stop_gradient": _same,
}
