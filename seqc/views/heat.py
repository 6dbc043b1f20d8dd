"""A small matrix as a picture of characters: darker is larger, and what is negative looks different."""

from __future__ import annotations

from rich.text import Text
from torch import Tensor

POSITIVE, NEGATIVE = "·░▒▓█", "·-=≡#"


def heat(matrix: Tensor, title: str) -> Text:
    """A line a row, two characters an entry; shades are relative to the largest entry."""
    largest = float(matrix.abs().max())
    picture = Text(f"{title}, largest {largest:.3g}\n")
    for row in matrix.tolist():
        for value in row:
            shade, style = _cell(value / (largest or 1.0))
            picture.append(2 * shade, style)
        picture.append("\n")
    return picture


def _cell(value: float) -> tuple[str, str]:
    """An entry between -1 and 1."""
    if value == 0:
        return " ", ""
    shades = NEGATIVE if value < 0 else POSITIVE
    return shades[min(int(abs(value) * len(shades)), len(shades) - 1)], "red" if value < 0 else "cyan"
