"""LaMemo against a loop over segments, in which memory is a list of tokens and not a ring."""

from __future__ import annotations

import pytest

from tests.parity.naive.lamemo import lamemo
from tests.parity.test_naive_stacks import same

pytestmark = pytest.mark.against("the equations, in NumPy")


@pytest.mark.parametrize(("segment", "past"), [(3, 3), (2, 5), (4, 2), (1, 3), (5, 0)])
def test_memory_that_looks_ahead(segment: int, past: int) -> None:
    """As long as a segment; longer, so that it is refreshed again and again; shorter; and without any."""
    sizes = {"layers": 2, "hidden": 5, "segment": segment, "past": past}
    same("attention/lamemo.seq", lamemo, sizes, layers=2, segment=segment, past=past)
