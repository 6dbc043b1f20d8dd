"""How each elementwise primitive of `seqc.ir.ops` is written in PyTorch: one row each.

Where a row names a function of the emitted runtime (`runtime/`), that function is spliced into the output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Levels of binding, weakest first.
CHOICE, OR, XOR, AND, COMPARE, ADD, MUL, UNARY, POWER, ATOM = 0, 5, 6, 7, 4, 9, 10, 11, 12, 13


@dataclass(frozen=True, slots=True)
class Code:
    """Python text, how tightly it binds, and whether it is a plain number (not a tensor)."""

    text: str
    level: int = ATOM
    number: bool = False

    def at(self, level: int) -> str:
        """The text, in parentheses if it binds less tightly than `level`."""
        return self.text if self.level >= level else f"({self.text})"


Spelling = Callable[[Sequence[Code]], Code]


def number(value: float) -> Code:
    """A literal."""
    if math.isnan(value):
        return Code('float("nan")', ATOM, True)
    if math.isinf(value):
        return Code('float("inf")' if value > 0 else 'float("-inf")', ATOM, True)
    text = repr(float(value)).replace("e+", "e")
    return Code(text, UNARY if value < 0 else ATOM, True)


def infix(symbol: str, level: int) -> Spelling:
    """`x symbol y`, associating to the left."""

    def spell(args: Sequence[Code]) -> Code:
        return Code(f"{args[0].at(level)} {symbol} {args[1].at(level + 1)}", level)

    return spell


def prefix(symbol: str) -> Spelling:
    return lambda args: Code(f"{symbol}{args[0].at(UNARY)}", UNARY)


def compare(symbol: str) -> Spelling:
    return lambda args: Code(f"{args[0].at(OR)} {symbol} {args[1].at(OR)}", COMPARE)


def call(function: str, *more: str) -> Spelling:
    return lambda args: Code(f"{function}({', '.join((*(a.text for a in args), *more))})")


def tail(suffix: str) -> Spelling:
    """A method or an attribute."""
    return lambda args: Code(f"{args[0].at(ATOM)}{suffix}")


SIMPLE = re.compile(r"[A-Za-z_][\w.]*|\d+(\.\d+)?")


def _power(args: Sequence[Code]) -> Code:
    exponent = args[1].text[:-2] if args[1].number and args[1].text.endswith(".0") else args[1].at(POWER)
    base = args[0].at(ATOM)
    space = "" if SIMPLE.fullmatch(base) and SIMPLE.fullmatch(exponent) else " "
    return Code(f"{base}{space}**{space}{exponent}", POWER)


def _where(args: Sequence[Code]) -> Code:
    condition, yes, no = args
    return Code(f"torch.where({condition.text}, {yes.text}, {no.text})")


SPELLINGS: dict[str, Spelling] = {
    "add": infix("+", ADD),
    "sub": infix("-", ADD),
    "mul": infix("*", MUL),
    "div": infix("/", MUL),
    "neg": prefix("-"),
    "pow": _power,
    "exp": call("torch.exp"),
    "log": call("torch.log"),
    "log1p": call("torch.log1p"),
    "expm1": call("torch.expm1"),
    "sqrt": call("torch.sqrt"),
    "abs": call("torch.abs"),
    "sign": call("torch.sign"),
    "floor": call("torch.floor"),
    "mod": call("torch.remainder"),
    "sin": call("torch.sin"),
    "cos": call("torch.cos"),
    "erf": call("torch.erf"),
    "tanh": call("torch.tanh"),
    "sigmoid": call("torch.sigmoid"),
    "log_sigmoid": call("F.logsigmoid"),
    "softplus": call("F.softplus", "threshold=50.0"),
    "inv_softplus": call("inv_softplus"),
    "relu": call("F.relu"),
    "silu": call("F.silu"),
    "gelu": call("F.gelu"),
    "gelu_tanh": call("F.gelu", 'approximate="tanh"'),
    "sqrt_bounded": call("sqrt_bounded"),
    "max": call("larger"),
    "min": call("smaller"),
    "where": _where,
    "lt": compare("<"),
    "le": compare("<="),
    "gt": compare(">"),
    "ge": compare(">="),
    "eq": compare("=="),
    "ne": compare("!="),
    "and": infix("&", AND),
    "or": infix("|", OR),
    "not": prefix("~"),
    "stop_gradient": tail(".detach()"),
    "complex": call("complex_of"),
    "polar": call("polar"),
    "real": tail(".real"),
    "imag": tail(".imag"),
    "conj": tail(".conj()"),
    "uniform": call("uniform"),
    "normal": call("normal"),
    "truncated_normal": call("truncated_normal"),
}
