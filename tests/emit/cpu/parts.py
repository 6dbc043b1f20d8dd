"""What the tests need of the backend.

It stands at the root of a checkout and is imported as part of `seqc`, which type checkers cannot know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqc.backend import Scheduled
from seqc.ir.recurrence import Recurrence
from seqc.passes.schedule import schedule

if TYPE_CHECKING:
    from backends.cpu import BACKEND  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.cpu.module import by_blocks, without_unit  # noqa: TID251
    from backends.cpu.primitives import NOT_WRITTEN, SPELLINGS  # noqa: TID251
    from backends.cpu.program import program  # noqa: TID251
    from backends.cpu.regions import regions  # noqa: TID251
    from backends.cpu.runtime import build, kernel  # noqa: TID251
    from backends.cpu.runtime.attach import forced  # noqa: TID251
    from backends.torch import rule as in_torch  # noqa: TID251
else:
    from seqc.backends.cpu import BACKEND
    from seqc.backends.cpu.module import by_blocks, without_unit
    from seqc.backends.cpu.primitives import NOT_WRITTEN, SPELLINGS
    from seqc.backends.cpu.program import program
    from seqc.backends.cpu.regions import regions
    from seqc.backends.cpu.runtime import build, kernel
    from seqc.backends.cpu.runtime.attach import forced
    from seqc.backends.torch import rule as in_torch


def scheduled(recurrence: Recurrence) -> Scheduled:
    return Scheduled(recurrence, schedule)


def fused(recurrence: Recurrence) -> Any:
    """The rule as a module that runs its unit, always."""
    module: Any = BACKEND.module(scheduled(recurrence))
    forced(module)
    return module


def has_blocks(recurrence: Recurrence) -> bool:
    """Whether tokens of the rule may be taken in blocks."""
    return program(recurrence).block is not None


def in_blocks(recurrence: Recurrence) -> Any:
    """The rule as a module whose unit takes tokens in blocks, whether or not that is faster."""
    return by_blocks(recurrence, blocks=True)


def by_tokens(recurrence: Recurrence) -> Any:
    """The rule as a module whose unit takes tokens one by one; it need not have a state."""
    return by_blocks(recurrence, blocks=False)


def plain(recurrence: Recurrence) -> Any:
    """The rule as a module that goes from token to token."""
    return in_torch(recurrence, mode="reference")


def text_of(module: Any) -> str:
    """The unit that a rule's module runs."""
    text: str = module.fused.text
    return text


__all__ = [
    "BACKEND",
    "NOT_WRITTEN",
    "SPELLINGS",
    "build",
    "by_tokens",
    "forced",
    "fused",
    "has_blocks",
    "in_blocks",
    "in_torch",
    "kernel",
    "plain",
    "regions",
    "scheduled",
    "text_of",
    "without_unit",
]
