"""Diagnostics as text for people and as plain data for programs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from seqc.diagnostics.base import MOST_SHOWN, Diagnostic, Label
from seqc.source import Source, Span

TAB = 4
# A line is cut around the fault so that a hostile one cannot fill the terminal.
WIDEST = 160

_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;34m", "bold": "\x1b[1m"}


class _Paint:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, style: str, text: str) -> str:
        return f"{_COLOURS[style]}{text}\x1b[0m" if self._colour else text


def render(diagnostic: Diagnostic, colour: bool = False) -> str:
    """One diagnostic as rustc would print it, without a final newline."""
    paint = _Paint(colour)
    severity = diagnostic.severity
    head = paint(severity, f"{severity}[{diagnostic.code}]")
    head += paint("bold", f": {printable(diagnostic.message)}")
    labels = [(Label(diagnostic.span, diagnostic.label), True)]
    labels += [(label, False) for label in diagnostic.labels]
    gutter = max(len(str(label.span.line)) for label, _ in labels) + 1
    lines = [head]
    current: Source | None = None
    for source, number, marks in _by_line(labels):
        if source is not current:
            at = marks[0][0].span
            arrow = "-->" if current is None else ":::"
            lines.append(f"{' ' * (gutter - 1)}{paint('note', arrow)} {printable(str(at))}")
            lines.append(f"{' ' * gutter}{paint('note', '|')}")
            current = source
        lines += _excerpt(source, number, marks, gutter, paint, severity)
    extra = [("note", note) for note in diagnostic.notes]
    if diagnostic.help is not None:
        extra.append(("help", diagnostic.help))
    if extra:
        lines.append(f"{' ' * gutter}{paint('note', '|')}")
    lines += [
        f"{' ' * gutter}{paint('note', '=')} {paint('bold', f'{kind}:')} {printable(text)}"
        for kind, text in extra
    ]
    return "\n".join(lines)


def render_all(diagnostics: Sequence[Diagnostic], colour: bool = False) -> str:
    """Several diagnostics with a line between them; the rest of a very long list is counted."""
    shown = [render(diagnostic, colour) for diagnostic in diagnostics[:MOST_SHOWN]]
    if len(diagnostics) > MOST_SHOWN:
        shown.append(f"… and {len(diagnostics) - MOST_SHOWN} more")
    return "\n\n".join(shown)


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """Plain data, the same names in every version; lines and columns count from 1, offsets from 0."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "title": diagnostic.title,
        "message": diagnostic.message,
        **_span_json(diagnostic.span),
        "label": diagnostic.label,
        "also": [{**_span_json(label.span), "label": label.text} for label in diagnostic.labels],
        "notes": list(diagnostic.notes),
        "help": diagnostic.help,
    }


def _span_json(span: Span) -> dict[str, Any]:
    start, end = span.source.place(span.start), span.source.place(span.end)
    return {
        "file": span.source.name,
        "line": start.line,
        "column": start.column,
        "end_line": end.line,
        "end_column": end.column,
        "start": span.start,
        "end": span.end,
    }


def printable(text: str) -> str:
    """The text with everything that could drive a terminal, or turn its writing direction, made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char == "\n" or char.isprintable() else _visible(char) for char in text)


def _visible(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{{{ord(char):x}}}"


_Mark = tuple[Label, bool]


def _by_line(labels: Iterable[_Mark]) -> list[tuple[Source, int, list[_Mark]]]:
    """The labels gathered by source and line: the file of the primary label first, lines in order."""
    lines: dict[tuple[int, int], tuple[Source, int, list[_Mark]]] = {}
    order: dict[int, int] = {}
    for mark in labels:
        span = mark[0].span
        order.setdefault(id(span.source), len(order))
        lines.setdefault((order[id(span.source)], span.line), (span.source, span.line, []))[2].append(mark)
    return [lines[key] for key in sorted(lines)]


def _excerpt(
    source: Source, number: int, marks: list[_Mark], gutter: int, paint: _Paint, severity: str
) -> list[str]:
    text = source.line(number)
    first = source.line_starts[number - 1]
    cut = max(0, min(mark.span.start - first for mark, _ in marks) - WIDEST // 2)
    visible = text[cut : cut + WIDEST]
    out = [f"{paint('note', f'{number:>{gutter - 1}} |')} {_widened(visible)}"]
    # The rightmost label comes first, as each has a line of its own.
    for label, primary in sorted(marks, key=lambda mark: (not mark[1], -mark[0].span.start)):
        start = max(label.span.start - first - cut, 0)
        end = min(max(label.span.end - first - cut, start), len(visible))
        before = _width(visible[:start])
        length = max(_width(visible[:end]) - before, 1)
        style = severity if primary else "note"
        mark = f"{('^' if primary else '-') * length} {printable(label.text)}".rstrip()
        out.append(f"{' ' * gutter}{paint('note', '|')} {' ' * before}{paint(style, mark)}")
    return out


def _widened(text: str) -> str:
    return "".join(" " * TAB if char == "\t" else printable(char) for char in text)


def _width(text: str) -> int:
    """Columns that the text takes on a terminal once `_widened`."""
    if text.isascii() and text.isprintable():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if char == "\t":
        return TAB
    shown = printable(char)
    if len(shown) > 1:
        return len(shown)
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
