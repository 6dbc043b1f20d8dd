"""Breaking long lines as `ruff format` does."""

from __future__ import annotations

import re


def split_statement(text: str, width: int, indent: int = 0) -> list[str]:
    """A statement that ends in one bracketed group, over several lines if it is too long for one."""
    pad = " " * indent
    if len(text) + indent <= width:
        return [pad + text]
    opening = _last_group(text)
    if opening is None or _OPERATOR.search(_outside(text)):
        return _parenthesised(text, indent)
    start, end = opening
    head, body, tail = text[: start + 1], text[start + 1 : end], text[end:]
    is_call = start > 0 and (head[start - 1].isalnum() or head[start - 1] in "_)]")
    if is_call and len(body) + indent + 4 <= width:
        return [pad + head, f"{pad}    {body}", pad + tail]
    lines = [pad + head]
    for item in split_items(body):
        piece = split_statement(f"{item},", width, indent + 4)
        lines.extend(piece)
    return [*lines, pad + tail]


_OPERATOR = re.compile(r" (\*\*|==|!=|[<>]=?|[-+*/@&|]) ")


def _outside(text: str) -> str:
    """The text with everything inside brackets left out."""
    depth, kept = 0, ""
    for char in text:
        depth -= char in ")]}"
        kept += char if depth == 0 else ""
        depth += char in "([{"
    return kept


def _parenthesised(text: str, indent: int) -> list[str]:
    """`x = (…)` around what no bracket of its own can break."""
    pad = " " * indent
    for start in ("return ", *(f"{text.split(' = ')[0]} = ",) * (" = " in text)):
        if text.startswith(start):
            return [f"{pad}{start}(", f"{pad}    {text[len(start) :]}", f"{pad})"]
    return [pad + text]


def _last_group(text: str) -> tuple[int, int] | None:
    """Where the bracket that ends the statement opens and closes; None if the statement does not end in one."""
    stripped = text.rstrip(",:")
    if not stripped or stripped[-1] not in ")]}":
        if ") -> " in stripped:
            close = stripped.index(") -> ")
            return _matching(text, close), close
        return None
    close = len(stripped) - 1
    if ") -> " in stripped and stripped.startswith(("def ", "class ")):
        close = stripped.index(") -> ")
    return _matching(text, close), close


def _matching(text: str, close: int) -> int:
    depth = 0
    for i in range(close, -1, -1):
        if text[i] in ")]}":
            depth += 1
        elif text[i] in "([{":
            depth -= 1
            if depth == 0:
                return i
    raise ValueError(text)


def split_items(text: str) -> list[str]:
    """The parts of a list between its top-level commas."""
    items: list[str] = []
    depth, start, quote = 0, 0, ""
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            items.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return [*items, last] if last else items
