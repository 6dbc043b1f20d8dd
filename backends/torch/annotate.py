"""Which emitted expressions a type checker takes for anything, because a call of a module is in them."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from .splice import pieces

UNTYPED = ("self", "run")  # modules, parameters and states, whose attributes have no declared types
TYPED = ("torch", "F")


def is_untyped(result: str, body: Sequence[str], declared: Sequence[str]) -> bool:
    """Whether `result`, after the lines of `body`, has no known type; `declared` are variables that always have one."""
    loose: set[str] = set(UNTYPED)
    nodes = ast.walk(ast.parse("\n".join(body)))
    for node in sorted((n for n in nodes if isinstance(n, ast.Assign)), key=lambda n: n.lineno):
        names = {part.id for part in ast.walk(node.targets[0]) if isinstance(part, ast.Name)}
        loose = loose | names if _is_loose(node.value, loose) else loose - names
        loose -= set(declared)
    return _is_loose(ast.parse(result, mode="eval").body, loose)


def _is_loose(value: ast.expr, loose: set[str]) -> bool:
    if isinstance(value, ast.Call) and _is_function(value.func):
        return False
    return any(isinstance(part, ast.Name) and part.id in loose for part in ast.walk(value))


def _is_function(called: ast.expr) -> bool:
    """Whether a call is one of a function with a declared result."""
    while isinstance(called, ast.Attribute):
        called = called.value
    return isinstance(called, ast.Name) and (called.id in TYPED or called.id in pieces())
