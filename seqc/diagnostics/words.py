"""Small pieces of English that diagnostics share."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

# How alike two names must be to ask "did you mean".
CLOSE = 0.6
MOST_LISTED = 12


def _likeness(name: str, other: str) -> float:
    if name.lower() == other.lower():
        return 1.0
    return SequenceMatcher(None, name.lower(), other.lower()).ratio()


def by_nearness(name: str, known: Iterable[str]) -> list[str]:
    """All the known names, the one most like `name` first; ties in alphabetical order."""
    return sorted(set(known), key=lambda other: (-_likeness(name, other), other))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, or None if none is close."""
    ranked = by_nearness(name, known)
    return ranked[0] if ranked and _likeness(name, ranked[0]) >= CLOSE else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A `help:` line, or None if no known name is close."""
    guess = nearest(name, known)
    return None if guess is None else f"did you mean `{guess}`?"


def ticked(text: str) -> str:
    return f"`{text}`"


def listing(words: Iterable[str], last: str = "and") -> str:
    """ "`a`, `b` and `c`"; a long list is cut and says so."""
    items = [ticked(word) for word in words]
    if len(items) > MOST_LISTED:
        rest = len(items) - MOST_LISTED
        return f"{', '.join(items[:MOST_LISTED])} {last} {rest} more"
    return joined(items, last)


def joined(items: list[str], last: str = "and") -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def axes(names: Iterable[str]) -> str:
    """ "`[m, n]`", or "no axes"."""
    inside = ", ".join(names)
    return f"`[{inside}]`" if inside else "no axes"


def counted(number: int, noun: str) -> str:
    """ "1 axis" is written `counted(1, "axis")`: plurals of the words that we use."""
    if number == 1:
        return f"{number} {noun}"
    plural = {"axis": "axes", "memory": "memories", "value": "values"}.get(noun, f"{noun}s")
    return f"{number} {plural}"
