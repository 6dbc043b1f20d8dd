"""Lines of C++."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


def signature(head: str, arguments: Sequence[str]) -> list[str]:
    return [*filled(f"{head}(", arguments, ") {", 4)]


def filled(head: str, parts: Sequence[str], tail: str, indent: int, width: int = 120) -> list[str]:
    one = f"{head}{', '.join(parts)}{tail}"
    if len(one) <= width:
        return [one]
    lines, line = [head], " " * indent
    for k, part in enumerate(parts):
        text = part + ("," if k + 1 < len(parts) else tail)
        if len(line) + len(text) + 1 > width:
            lines.append(line.rstrip())
            line = " " * indent
        line += f"{text} "
    return [*lines, line.rstrip()]


def call(function: str, arguments: Sequence[str], indent: int) -> list[str]:
    pad = " " * indent
    return [f"{pad}{function}(", *(f"{pad}    {a}," for a in arguments[:-1]), f"{pad}    {arguments[-1]});"]
