"""Guesses of the states at all tokens of a block, how good they are, and better ones."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .math import larger


@triton.jit
def beside(x, end, place, LENGTH: tl.constexpr, REVERSE: tl.constexpr):
    """What stands one place before along the first axis, with `REVERSE` after; at the end there is `end`.

    `place` are the places along that axis, with the other axes of length 1.
    """
    there = tl.minimum(place + 1, LENGTH - 1) if REVERSE else tl.maximum(place - 1, 0)
    outside = place == LENGTH - 1 if REVERSE else place == 0
    return tl.where(outside, end, tl.gather(x, tl.broadcast_to(there, x.shape), 0))


@triton.jit
def gap(x, y):
    """How far apart they are: infinitely, where one is no number."""
    found = tl.abs(x - y)
    return tl.where(found < float("inf"), found, float("inf"))


@triton.jit
def close(missing, size, ROUNDINGS: tl.constexpr, REVERSE: tl.constexpr):
    """Whether no more is missing than roundings of the largest size up to there."""
    return missing <= ROUNDINGS * 1.1920929e-07 * tl.associative_scan(size, 0, larger, reverse=REVERSE)


@triton.jit
def improved(guess, exact, more, order, settled):
    """The guess with `more` where it is not yet settled; where that is no number, one step of the rule."""
    better = guess + more
    better = tl.where(tl.abs(better) < float("inf"), better, exact)
    better = tl.where(tl.abs(better) < float("inf"), better, 0.0)
    return tl.where(order < settled, guess, tl.where(order == settled, exact, better))
