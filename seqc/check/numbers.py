"""Settings arithmetic: what stands after the `;` of a header, in setting arguments, in `if` and in `repeat`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from seqc.check.context import Failed, Number
from seqc.diagnostics import Bag, Diagnostic
from seqc.diagnostics.names import UnknownSettingName
from seqc.diagnostics.settings import NoNumber, NotSettingsArithmetic
from seqc.syntax import tree

CONSTANTS: dict[str, float] = {"pi": math.pi, "inf": math.inf}


def _divide(x: Number, y: Number) -> Number:
    exact = isinstance(x, int) and isinstance(y, int) and y != 0 and x % y == 0
    return x // y if exact else x / y


def _power(x: Number, y: Number) -> Number:
    if y != 0 and abs(y) * math.log2(abs(x) + 2) > 1024:
        raise OverflowError
    return x**y


_BINARY: dict[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": operator.mod,
    "^": _power,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "and": lambda x, y: bool(x) and bool(y),
    "or": lambda x, y: bool(x) or bool(y),
}

_UNARY: dict[str, Callable[[Number], Number]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "round": round,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "abs": abs,
}
_CHOICES: dict[str, Callable[[Number, Number], Number]] = {"min": min, "max": max}


@dataclass(slots=True)
class Arithmetic:
    """Evaluates expressions over settings; faults are reported and raised as `Failed`."""

    bag: Bag
    settings: Mapping[str, Number]

    def __call__(self, node: tree.Expr) -> Number:
        match node:
            case tree.Number(value):
                return value
            case tree.Bool(value):
                return value
            case tree.Name(name, primed):
                return self._name(node, name, primed)
            case tree.Unary(op, operand):
                value = self(operand)
                return (not value) if op == "not" else -value
            case tree.Binary(op, left, right):
                x, y = self(left), self(right)
                return self._compute(node, lambda: _BINARY[op](x, y))
            case tree.Call():
                return self._call(node)
            case _:
                self._fail(NotSettingsArithmetic(node.span))

    def _name(self, node: tree.Expr, name: str, primed: bool) -> Number:
        if name in self.settings and not primed:
            return self.settings[name]
        if name in CONSTANTS and not primed:
            return CONSTANTS[name]
        self._fail(UnknownSettingName(node.span, name, tuple(self.settings)))

    def _call(self, node: tree.Call) -> Number:
        name, args = node.callee.name, node.args
        if not (node.over or node.keywords or node.result or node.as_name or node.callee.primed):
            if name in _UNARY and len(args) == 1:
                x = self(args[0])
                return self._compute(node, lambda: _UNARY[name](x))
            if name in _CHOICES and len(args) == 2:
                x, y = self(args[0]), self(args[1])
                return self._compute(node, lambda: _CHOICES[name](x, y))
        self._fail(NotSettingsArithmetic(node.span))

    def _compute(self, node: tree.Expr, work: Callable[[], Number]) -> Number:
        try:
            value = work()
            sound = not isinstance(value, complex) and math.isfinite(value) and abs(value) < 1e300
        except (ArithmeticError, ValueError, TypeError):
            sound, value = False, 0
        if not sound:
            self._fail(NoNumber(node.span))
        return value

    def _fail(self, diagnostic: Diagnostic) -> NoReturn:
        self.bag.add(diagnostic)
        raise Failed
