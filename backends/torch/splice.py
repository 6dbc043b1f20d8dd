"""Copying the functions and classes that emitted code uses out of `runtime/`."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "runtime"
FILES = (
    "functions",
    "lookup",
    "scans",
    "stages",
    "phases",
    "newton",
    "attention",
    "convolution",
    "modules",
    "cells",
    "online",
    "initial",
)
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A top-level definition: its text, the words in it, and what it was parsed to."""

    name: str
    text: str
    words: frozenset[str]
    node: ast.stmt


@cache
def pieces() -> dict[str, Piece]:
    """Every top-level definition of the runtime by name, in order."""
    found: dict[str, Piece] = {}
    for file in FILES:
        path = FOLDER / f"{file}.py"
        if not path.is_file():
            continue
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.parse(source).body:
            name = _defined(node)
            if name is None:
                continue
            decorators: list[ast.expr] = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(d.lineno for d in decorators)])
            text = "\n".join(lines[first - 1 : node.end_lineno])
            found[name] = Piece(name, text, frozenset(WORD.findall(text)), node)
    return found


@cache
def members() -> frozenset[str]:
    """The attributes of the runtime's modules."""
    modules = {"Module"}
    found: set[str] = set()
    for piece in pieces().values():
        node = piece.node
        if isinstance(node, ast.ClassDef) and any(_last(base) in modules for base in node.bases):
            modules.add(node.name)
            found.update(name for name in map(_defined, node.body) if name is not None)
            stored = (each for each in ast.walk(node) if isinstance(each, ast.Attribute))
            found.update(each.attr for each in stored if isinstance(each.ctx, ast.Store))
    return frozenset(name for name in found if not name.startswith("_"))


def _last(base: ast.expr) -> str:
    return ast.unparse(base).rpartition(".")[2]


def _defined(node: ast.stmt) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return target.id if isinstance(target, ast.Name) else None


def used(text: str) -> list[Piece]:
    """The pieces that a text needs, and those that they need, in the runtime's order."""
    known = pieces()
    wanted: set[str] = set()
    pending = [name for name in WORD.findall(text) if name in known]
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending.extend(word for word in known[name].words if word in known)
    return [piece for name, piece in known.items() if name in wanted]


IMPORTS = (
    ("import math", r'(?<![\w."])(?<!# )math\.'),  # no attribute, state or file of that name
    ("from collections.abc import {}", ("Callable", "Generator", "Iterator", "Mapping", "Sequence")),
    ("from contextlib import {}", ("contextmanager",)),
    ("from typing import {}", ("TYPE_CHECKING", "Any", "ClassVar", "NamedTuple", "cast")),
    ("", ""),
    ("import torch", r"\btorch\."),
    ("import torch.nn.functional as F", r"\bF\."),
    ("from torch import {}", ("Tensor", "nn")),
    ("from torch.utils.checkpoint import {}", ("checkpoint",)),
)


def imports(text: str) -> list[str]:
    """The import lines that a text needs."""
    words = set(WORD.findall(text))
    lines: list[str] = []
    for line, needed in IMPORTS:
        if isinstance(needed, tuple):
            names = [name for name in needed if name in words]
            if names:
                lines.append(line.format(", ".join(names)))
        elif not line or re.search(needed, text):
            lines.append(line)
    return lines
