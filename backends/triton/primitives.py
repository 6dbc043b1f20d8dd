"""How each elementwise primitive of `seqc.ir.ops` is written in Triton: one row each.

Functions without a dot are those of `kernels/math.py`, spliced into the output where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Levels of binding in Python, weakest first.
COMPARE, OR, AND, ADD, MUL, UNARY, ATOM = range(7)


@dataclass(frozen=True, slots=True)
class Code:
    """Python text, how tightly it binds, and whether it is a truth value (else it is a number)."""

    text: str
    level: int = ATOM
    truth: bool = False
    literal: bool = False

    def at(self, level: int) -> str:
        """The text, in parentheses if it binds less tightly than `level`."""
        return self.text if self.level >= level else f"({self.text})"

    @property
    def number(self) -> Code:
        return Code(f"tl.where({self.text}, 1.0, 0.0)") if self.truth else self

    @property
    def condition(self) -> Code:
        return self if self.truth else Code(f"{self.at(OR)} != 0.0", COMPARE, True)


Spelling = Callable[[Sequence[Code]], Code]


def number(value: float) -> Code:
    """A literal."""
    if math.isnan(value) or math.isinf(value):
        return Code(f'float("{value}")', literal=True)
    return Code(repr(float(value)), UNARY if value < 0 else ATOM, literal=True)


def infix(symbol: str, level: int) -> Spelling:
    """`x symbol y`, associating to the left."""

    def spell(args: Sequence[Code]) -> Code:
        x, y = (arg.number for arg in args)
        return Code(f"{x.at(level)} {symbol} {y.at(level + 1)}", level)

    return spell


def compare(symbol: str) -> Spelling:
    def spell(args: Sequence[Code]) -> Code:
        x, y = (arg.number for arg in args)
        return Code(f"{x.at(OR)} {symbol} {y.at(OR)}", COMPARE, True)

    return spell


def logical(symbol: str, level: int) -> Spelling:
    def spell(args: Sequence[Code]) -> Code:
        x, y = (arg.condition for arg in args)
        return Code(f"{x.at(level)} {symbol} {y.at(level + 1)}", level, True)

    return spell


def chosen(op: str, one: Code, block: Code) -> Code:
    """`and` or `or` of one condition and a block of them, without `&` and `|`: Triton's interpreter spreads a condition
    as numbers.
    """
    yes, no = ("True", block.condition.text) if op == "or" else (block.condition.text, "False")
    return Code(f"tl.where({one.condition.text}, {yes}, {no})", truth=True)


def call(function: str) -> Spelling:
    return lambda args: Code(f"{function}({', '.join(arg.number.text for arg in args)})")


def _negative(args: Sequence[Code]) -> Code:
    return Code(f"-{args[0].number.at(UNARY)}", UNARY)


def _not(args: Sequence[Code]) -> Code:
    return Code(f"{args[0].number.at(OR)} == 0.0", COMPARE, True)


def _where(args: Sequence[Code]) -> Code:
    condition, yes, no = args[0].condition, args[1].number, args[2].number
    return Code(f"tl.where({condition.text}, {yes.text}, {no.text})")


def _power(args: Sequence[Code]) -> Code:
    base, exponent = (arg.number for arg in args)
    simple = base.at(ATOM)
    match exponent.text:
        case "2.0" | "3.0":
            return Code(" * ".join([simple] * int(exponent.text[0])), MUL)
        case "0.5":
            return Code(f"tl.sqrt({base.text})")
        case "-1.0":
            return Code(f"1.0 / {simple}", MUL)
        case _:
            return Code(f"power({base.text}, {exponent.text})")


SPELLINGS: dict[str, Spelling] = {
    "add": infix("+", ADD),
    "sub": infix("-", ADD),
    "mul": infix("*", MUL),
    "div": infix("/", MUL),
    "neg": _negative,
    "pow": _power,
    "exp": call("tl.exp"),
    "log": call("tl.log"),
    "log1p": call("log1p"),
    "expm1": call("expm1"),
    "sqrt": call("tl.sqrt"),
    "abs": call("tl.abs"),
    "sign": call("sign"),
    "floor": call("tl.floor"),
    "mod": call("modulo"),
    "sin": call("tl.sin"),
    "cos": call("tl.cos"),
    "erf": call("tl.erf"),
    "tanh": call("tanh"),
    "sigmoid": call("tl.sigmoid"),
    "log_sigmoid": call("log_sigmoid"),
    "softplus": call("softplus"),
    "inv_softplus": call("inv_softplus"),
    "relu": lambda args: call("larger")([args[0], number(0.0)]),
    "silu": call("silu"),
    "gelu": call("gelu"),
    "gelu_tanh": call("gelu_tanh"),
    "sqrt_bounded": lambda args: Code(f"tl.sqrt(tl.maximum({args[0].number.text}, 0.0))"),
    "max": call("larger"),
    "min": call("smaller"),
    "where": _where,
    "lt": compare("<"),
    "le": compare("<="),
    "gt": compare(">"),
    "ge": compare(">="),
    "eq": compare("=="),
    "ne": compare("!="),
    "and": logical("&", AND),
    "or": logical("|", OR),
    "not": _not,
    "stop_gradient": lambda args: args[0],
}

# Complex numbers are taken apart before anything is written, and parameters are drawn elsewhere.
NOT_WRITTEN = frozenset({
    "complex", "polar", "real", "imag", "conj", "uniform", "normal", "truncated_normal",
})  # fmt: skip
