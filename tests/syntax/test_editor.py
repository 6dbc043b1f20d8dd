"""The editor's grammar knows the words of the language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from seqc.bundled import folder
from seqc.diagnostics.syntax import KEYWORDS

EDITOR = folder("grammar") / "editor"


def patterns(node: Any) -> Iterator[str]:
    match node:
        case dict():
            for key, value in node.items():
                if key in ("match", "begin", "end"):
                    yield value
                else:
                    yield from patterns(value)
        case list():
            for value in node:
                yield from patterns(value)
        case _:
            return


def test_every_keyword_is_coloured_and_every_pattern_is_valid() -> None:
    grammar = json.loads((EDITOR / "seq.tmLanguage.json").read_text(encoding="utf-8"))
    words: set[str] = set()
    for pattern in patterns(grammar):
        re.compile(pattern)
        for group in re.findall(r"\(([a-z|]+)\)", pattern):
            words.update(group.split("|"))
    assert words == KEYWORDS


def test_the_editor_configuration_is_json() -> None:
    assert json.loads((EDITOR / "language-configuration.json").read_text(encoding="utf-8"))["comments"]
