"""Tensors that a method has no more use for, given up at once: the most that it holds is what a long sequence needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

WIDTH = 110
LATER = (ast.FunctionDef, ast.Lambda, ast.GeneratorExp)  # what may read a name after its statement


def freed(text: str) -> str:
    """The text of a class whose methods delete each name that they bind after the last statement that has it.

    Arguments stay: whoever calls holds them.
    """
    lines = text.split("\n")
    (owner,) = ast.parse(text).body
    assert isinstance(owner, ast.ClassDef)
    methods = [node for node in owner.body if isinstance(node, ast.FunctionDef)]
    deleted = dict(pair for method in methods for pair in _deleted(method.body))
    return "\n".join(
        kept for number, line in enumerate(lines, 1) for kept in (line, *deleted.get(number, ()))
    )


def _deleted(body: Sequence[ast.stmt]) -> Iterator[tuple[int, list[str]]]:
    """The lines after which names are deleted, with what deletes them."""
    last: dict[str, int] = {}
    bound, later = set[str](), set[str]()
    for k, statement in enumerate(body):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                last[node.id] = k
                if isinstance(node.ctx, ast.Store):
                    bound.add(node.id)
            elif isinstance(node, LATER):
                later |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    computing = [k for k, statement in enumerate(body) if not _only_returns(statement)]
    for k, statement in enumerate(body[: computing[-1]] if computing else ()):
        names = [name for name in last if last[name] == k and name in bound - later]
        if names:
            assert statement.end_lineno is not None
            yield statement.end_lineno, _statements(names, " " * statement.col_offset)


def _only_returns(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Return) and isinstance(statement.value, ast.Name | ast.Tuple)


def _statements(names: Sequence[str], indent: str) -> list[str]:
    found: list[str] = []
    for name in names:
        if found and len(found[-1]) + len(name) + 2 <= WIDTH:
            found[-1] += f", {name}"
        else:
            found.append(f"{indent}del {name}")
    return found
