"""A text and the places in it.

A place is a pair of character offsets (`Span`); the line and the column of a span are worked out only
when something is printed. A span knows its text, so a diagnostic that points into two files needs no
further bookkeeping.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """A line and a column, both counted from 1; the column counts characters."""

    line: int
    column: int


@dataclass(frozen=True, eq=False)
class Source:
    """One `.seq` text. Two sources are the same only if they are the same object.

    `name` is what messages show. `path` is where the file lies, or None for a text that came from memory;
    `library` says that the text belongs to the standard library.
    """

    text: str
    name: str = "<text>"
    path: Path | None = None
    library: bool = False

    def __post_init__(self) -> None:
        # Names are shown, and written into comments of emitted code: one line, whatever the file is called.
        shown = "".join(char if char.isprintable() else "?" for char in self.name)
        object.__setattr__(self, "name", shown)

    @cached_property
    def line_starts(self) -> list[int]:
        starts = [0]
        starts.extend(i + 1 for i, char in enumerate(self.text) if char == "\n")
        return starts

    def place(self, offset: int) -> Place:
        line = bisect_right(self.line_starts, offset)
        return Place(line, offset - self.line_starts[line - 1] + 1)

    def line(self, number: int) -> str:
        """The text of a line (from 1), without its line ending."""
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : len(self.text) if end < 0 else end].rstrip("\r")

    def span(self, start: int, end: int) -> Span:
        return Span(self, start, end)

    def __repr__(self) -> str:
        return f"Source({self.name!r})"


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `start` to `end` (excluded) of a source."""

    source: Source = field(repr=False)
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def place(self) -> Place:
        return self.source.place(self.start)

    @property
    def line(self) -> int:
        return self.source.place(self.start).line

    def to(self, other: Span) -> Span:
        """From the start of this span to the end of the other."""
        return Span(self.source, self.start, max(self.end, other.end))

    @property
    def at_end(self) -> Span:
        return Span(self.source, self.end, self.end)

    def __str__(self) -> str:
        """`griffin.seq:6:5`."""
        line, column = self.place
        return f"{self.source.name}:{line}:{column}"
