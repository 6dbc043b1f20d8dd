"""What is read by people stays small: files and functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from seqc.bundled import folder

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "seqc").rglob("*.py"), *folder("backends").rglob("*.py")])
LONGEST_FILE, LONGEST_FUNCTION = 600, 80
PRINTED = "as they are written for"  # says that a file shows what a printer made: only a file's length is for people


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    tree = ast.parse(text)
    for node in ast.walk(tree) if PRINTED not in (ast.get_docstring(tree) or "") else ():
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, node.name
