"""How each elementwise primitive of `seqc.ir.ops` is written in C++: one row each.

Functions of `math::` are those of `runtime/math.h`, spliced into the output where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Levels of binding, weakest first.
CHOICE, OR, AND, EQUAL, COMPARE, ADD, MUL, UNARY, ATOM = range(9)


@dataclass(frozen=True, slots=True)
class Code:
    """C++ text, how tightly it binds, and whether it is a truth value (else it is a `real`)."""

    text: str
    level: int = ATOM
    truth: bool = False

    def at(self, level: int) -> str:
        """The text, in parentheses if it binds less tightly than `level`."""
        return self.text if self.level >= level else f"({self.text})"

    @property
    def number(self) -> Code:
        return Code(f"real({self.text})") if self.truth else self

    @property
    def condition(self) -> Code:
        return self if self.truth else Code(f"{self.at(EQUAL + 1)} != 0", EQUAL, True)


Spelling = Callable[[Sequence[Code]], Code]


def number(value: float) -> Code:
    """A literal of the unit's type."""
    if math.isnan(value):
        return Code("NOT_A_NUMBER")
    if math.isinf(value):
        return Code("INFINITE") if value > 0 else Code("-INFINITE", UNARY)
    text = str(int(value)) if value == int(value) and abs(value) < 2**31 else repr(float(value))
    return Code(f"real({text})")


def infix(symbol: str, level: int) -> Spelling:
    """`x symbol y`, associating to the left."""

    def spell(args: Sequence[Code]) -> Code:
        x, y = (arg.number for arg in args)
        return Code(f"{x.at(level)} {symbol} {y.at(level + 1)}", level)

    return spell


def compare(symbol: str, level: int = COMPARE) -> Spelling:
    def spell(args: Sequence[Code]) -> Code:
        x, y = (arg.number for arg in args)
        return Code(f"{x.at(ADD)} {symbol} {y.at(ADD)}", level, True)

    return spell


def logical(symbol: str, level: int) -> Spelling:
    def spell(args: Sequence[Code]) -> Code:
        x, y = (arg.condition for arg in args)
        return Code(f"{x.at(EQUAL)} {symbol} {y.at(EQUAL)}", level, True)

    return spell


def call(function: str) -> Spelling:
    return lambda args: Code(f"{function}({', '.join(arg.number.text for arg in args)})")


def _negative(args: Sequence[Code]) -> Code:
    text = args[0].number.at(ATOM)
    return Code(f"-{text}", UNARY)


def _not(args: Sequence[Code]) -> Code:
    return Code(f"!{args[0].condition.at(ATOM)}", UNARY, True)


def _where(args: Sequence[Code]) -> Code:
    condition, yes, no = args[0].condition, args[1].number, args[2].number
    return Code(f"{condition.at(OR)} ? {yes.at(CHOICE + 1)} : {no.at(CHOICE)}", CHOICE)


def _power(args: Sequence[Code]) -> Code:
    base, exponent = (arg.number for arg in args)
    simple = base.at(ATOM)
    match exponent.text:
        case "real(2)":
            return Code(f"{simple} * {simple}", MUL)
        case "real(3)":
            return Code(f"{simple} * {simple} * {simple}", MUL)
        case "real(0.5)":
            return Code(f"std::sqrt({base.text})")
        case "real(-1)":
            return Code(f"1 / {simple}", MUL)
        case _:
            return Code(f"std::pow({base.text}, {exponent.text})")


def _silu(args: Sequence[Code]) -> Code:
    x = args[0].number
    return Code(f"{x.at(MUL)} * math::sigmoid({x.text})", MUL)


def _same(args: Sequence[Code]) -> Code:
    return args[0]


SPELLINGS: dict[str, Spelling] = {
    "add": infix("+", ADD),
    "sub": infix("-", ADD),
    "mul": infix("*", MUL),
    "div": infix("/", MUL),
    "neg": _negative,
    "pow": _power,
    "exp": call("math::exp"),
    "log": call("math::log"),
    "log1p": call("math::log1p"),
    "expm1": call("math::expm1"),
    "sqrt": call("std::sqrt"),
    "abs": call("std::fabs"),
    "sign": call("math::sign"),
    "floor": call("std::floor"),
    "mod": call("math::modulo"),
    "sin": call("std::sin"),
    "cos": call("std::cos"),
    "erf": call("math::erf"),
    "tanh": call("math::tanh"),
    "sigmoid": call("math::sigmoid"),
    "log_sigmoid": call("math::log_sigmoid"),
    "softplus": call("math::softplus"),
    "inv_softplus": call("math::inv_softplus"),
    "relu": call("math::relu"),
    "silu": _silu,
    "gelu": call("math::gelu"),
    "gelu_tanh": call("math::gelu_tanh"),
    "sqrt_bounded": lambda args: Code(f"math::sqrt_bounded({args[0].number.text})"),
    "max": call("math::larger"),
    "min": call("math::smaller"),
    "where": _where,
    "lt": compare("<"),
    "le": compare("<="),
    "gt": compare(">"),
    "ge": compare(">="),
    "eq": compare("==", EQUAL),
    "ne": compare("!=", EQUAL),
    "and": logical("&&", AND),
    "or": logical("||", OR),
    "not": _not,
    "stop_gradient": _same,
}

# What vectorises, and costs about as much as twenty additions.
DEAR = frozenset({
    "pow", "exp", "log", "log1p", "expm1", "sin", "cos", "erf", "tanh", "sigmoid", "log_sigmoid", "softplus",
    "inv_softplus", "silu", "gelu", "gelu_tanh", "mod",
})  # fmt: skip

# Complex numbers are taken apart before anything is written (`planes.py`), and parameters are drawn elsewhere.
NOT_WRITTEN = frozenset({
    "complex", "polar", "real", "imag", "conj", "uniform", "normal", "truncated_normal",
})  # fmt: skip
