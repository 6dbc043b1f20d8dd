"""The page of the standard library is made of the library's own headers and comments."""

from __future__ import annotations

import os
import re
from pathlib import Path

from seqc.bundled import folder

PAGE = folder("grammar") / "reference" / "8-library.md"
INTRODUCTION = """\
# The standard library

These rules and blocks are always there. They are written in the language, in `specs/std/`: read them, copy them, change
them; an item of yours with the same name takes the place of theirs. This page is made of their headers (`make accept`).
"""
ITEM = re.compile(r"^((?:#[^\n]*\n)*)((?:rule|block) [^\n]*) \{$", re.MULTILINE)


def section(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    about, _, rest = text.partition("\n\n")
    items = [match[1] + match[2] for match in ITEM.finditer(rest)]
    prose = " ".join(line.removeprefix("#").strip() for line in about.splitlines() if line.startswith("#"))
    code = "\n\n".join(items)
    return f"## {path.stem}\n\n{prose}\n\n```text\n{code}\n```\n"


def page() -> str:
    sections = [section(path) for path in sorted((folder("specs") / "std").glob("*.seq"))]
    return "\n".join([INTRODUCTION, *sections])


def test_the_page_is_up_to_date() -> None:
    if os.environ.get("SEQC_ACCEPT"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make accept`"


def test_every_item_is_there() -> None:
    for path in (folder("specs") / "std").glob("*.seq"):
        count = len(re.findall(r"^(?:rule|block) ", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert section(path).count("\nrule ") + section(path).count("\nblock ") == count, path
