"""Which tests compare a spec with something that is not ours, read off the tests themselves.

A test of tests/parity says what it compares with by the mark `against("flash-linear-attention's naive forms")`, on
itself or on its module; which specs, by naming their files, in itself or in what it uses of its module, as they are or
as `f"nonlinear/{name}.seq"` with names that stand there too. Nothing is listed anywhere else, so nothing can be out of
step.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SPEC = re.compile(r"\w+/\w+\.seq")


@dataclass(frozen=True, slots=True)
class Reference:
    """`test` of `file` compares the spec with `against`."""

    spec: str
    against: str
    file: str
    test: str


def references(folder: Path, known: Collection[str]) -> list[Reference]:
    """The references of all tests in a folder to the specs `known`, in the order of files and lines."""
    return [found for path in sorted(folder.rglob("test_*.py")) for found in _in_file(path, known)]


def _in_file(path: Path, known: Collection[str]) -> Iterator[Reference]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = dict(_definitions(body))
    general = _marks([names["pytestmark"]]) if "pytestmark" in names else []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for against in _marks(node.decorator_list) or general:
                for spec in sorted(_specs(node, names, known)):
                    yield Reference(spec, against, path.name, node.name)


def _definitions(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """What a module's names stand for."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                yield node.name, node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case _:
                pass


def _marks(nodes: Iterable[ast.AST]) -> list[str]:
    """The words of every `…against("…")`."""
    return [
        call.args[0].value
        for node in nodes
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "against"
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    ]


def _specs(node: ast.AST, names: dict[str, ast.AST], known: Collection[str]) -> set[str]:
    """The files of specs that a test names, directly or by what it uses of its module."""
    words, around = set[str](), set[tuple[str, str]]()
    for part in _reached(node, names):
        match part:
            case ast.Constant(value=str(word)):
                words.add(word)
            case ast.JoinedStr(values=[ast.Constant(value=str(before)), _, ast.Constant(value=str(after))]):
                around.add((before, after))
            case _:
                pass
    found = {spec for word in words for spec in _SPEC.findall(word)}
    return found | {
        spec for before, after in around for word in words if (spec := before + word + after) in known
    }


def _reached(node: ast.AST, names: dict[str, ast.AST]) -> Iterator[ast.AST]:
    """The parts of a test and of what it uses of its module."""
    used, open_ = {"pytestmark"}, [node]
    while open_:
        for part in ast.walk(open_.pop()):
            yield part
            if isinstance(part, ast.Name) and part.id in names and part.id not in used:
                used.add(part.id)
                open_.append(names[part.id])
