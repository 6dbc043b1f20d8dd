"""States that hold what another was a token ago, alone and in groups that are solved together."""

from __future__ import annotations

import pytest

from seqc.conformance import conform
from seqc.spec import loads

PAST = """
rule past(q[n], k[n], v[m]) {
    state  first[m, n] = 0
    state  second[m, n] = 0
    state  third[m, n] = 0
    first' = v * k
    second' = first
    third' = second
    return sum[n](third' * q)
}
"""

FED = """
rule fed(q[n], k[n], v[m], g) {
    state  Z[m, n] = 0
    state  past[m, n] = 0
    state  S[m, n] = 0
    Z'     = g * Z + v * k
    past'  = Z
    S'     = 0.5 * S + past
    return sum[n](S' * q)
}
"""


@pytest.mark.parametrize("text", [PAST, FED], ids=["past", "fed"])
def test_the_last_token_is_held_where_a_block_is_not_full(text: str) -> None:
    report = conform(loads(text), fast=True, backends=["torch"], only=["values", "gradients", "lengths"])
    assert report.passed, str(report)
