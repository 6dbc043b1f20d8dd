"""How much work one task may do, counted in expressions that are made and visited.

The count depends on the program alone and not on the machine, so a program is refused everywhere or nowhere. Outside
of `limited` nothing is counted against anything.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar


class OutOfWork(Exception):
    """More expressions than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit:,} expressions")
        self.limit = limit


class Meter:
    """What is left of a limit."""

    __slots__ = ("left", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def limited(limit: int | Meter) -> Generator[Meter]:
    """No more than `limit` expressions inside the block, else `OutOfWork`; the outermost block of several counts.

    A `Meter` goes on where its last block ended.
    """
    outer = _meter.get()
    if outer is not None:
        yield outer
        return
    meter = limit if isinstance(limit, Meter) else Meter(limit)
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


def spend(amount: int = 1) -> None:
    """Count `amount` expressions."""
    meter = _meter.get()
    if meter is not None:
        meter.left -= amount
        if meter.left < 0:
            raise OutOfWork(meter.limit)
