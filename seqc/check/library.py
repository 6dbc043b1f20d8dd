"""The standard library: an implicit prelude, written in the language, of which only what is used is read."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from seqc.bundled import folder
from seqc.check.session import Definition
from seqc.diagnostics import Bag
from seqc.source import Source
from seqc.syntax import tree
from seqc.syntax.parser import parse

_HEADER = re.compile(r"^(?:rule|block)\s+([A-Za-z_][A-Za-z0-9_]*)\s*\(", re.MULTILINE)


class Library:
    """Finds items of the standard library by name; a file is parsed when something in it is first used."""

    def __init__(self, root: Path) -> None:
        self._files: dict[str, Path] = {}
        self._texts: dict[Path, str] = {}
        self._items: dict[str, Definition] = {}
        for path in sorted(root.glob("*.seq")):
            self._texts[path] = path.read_text(encoding="utf-8")
            for match in _HEADER.finditer(self._texts[path]):
                self._files[match.group(1)] = path

    def lookup(self, name: str) -> Definition | None:
        if name not in self._items and name in self._files:
            self._read(self._files[name])
        return self._items.get(name)

    def callables(self) -> tuple[str, ...]:
        return tuple(self._files)

    def _read(self, path: Path) -> None:
        bag = Bag()
        source = Source(self._texts[path], f"std/{path.name}", path, library=True)
        file = parse(source, bag)
        if file is None:
            raise AssertionError("\n".join(str(diagnostic) for diagnostic in bag))
        for item in file.items:
            if not isinstance(item, tree.Use):
                self._items[item.name.text] = Definition(item, self)


@cache
def standard() -> Library:
    try:
        return Library(folder("specs") / "std")
    except FileNotFoundError:
        return Library(Path("/nonexistent"))
