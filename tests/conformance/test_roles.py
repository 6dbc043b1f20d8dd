"""Inputs are drawn so that memories neither explode, nor are forgotten for good, nor make everything of a rounding."""

from __future__ import annotations

import pytest

from seqc.conformance.examine import generic_weights
from seqc.conformance.roles import Role, rates_of, roles_of, structural_roles
from seqc.ir.recurrence import Recurrence
from seqc.spec import loads

NETWORK = """
rule network(q[n], k[n], v[m], alpha, theta) {
    memory    M: n -> m = mlp(hidden = 2 * n, activation = gelu, norm = layer, residual = true)
    objective 0.5 * sumsq(M(k) - v)
    retention KEPT * M
    learner   gd(rate = theta, every = 4)
    return    M'(q)
}
"""

DIVIDED = """
rule divided(x[n], g) {
    state  h[n] = 0
    h'     = (0.5 * h + x) / g
    return h'
}
"""


def network(kept: str) -> Recurrence:
    return loads(NETWORK.replace("KEPT", kept)).rule(n=4, m=4).recurrence


@pytest.mark.parametrize(("kept", "one"), [("alpha", True), ("(1 - alpha)", False)])
def test_a_gate_of_steps_alone_is_a_rate(kept: str, one: bool) -> None:
    recurrence = network(kept)
    assert rates_of(recurrence, structural_roles(recurrence)) == (["theta"], {"alpha": one})


@pytest.mark.parametrize(("kept", "one"), [("alpha", True), ("(1 - alpha)", False)])
def test_a_memory_that_learns_keeps_most_and_learns_slowly(kept: str, one: bool) -> None:
    recurrence = network(kept)
    roles = roles_of(recurrence, generic_weights(recurrence))
    width = roles["theta"].high
    assert width < 1
    assert roles["theta"].low == 0
    assert roles["alpha"] == (Role("gate", low=1 - width) if one else Role("gate", high=width))


def test_a_rule_without_steps_has_no_rates() -> None:
    recurrence = loads(DIVIDED.replace("/ g", "* g")).rule(n=3).recurrence
    assert rates_of(recurrence, structural_roles(recurrence)) == ([], {"g": True})


def test_a_divisor_of_a_state_is_near_1() -> None:
    roles = structural_roles(loads(DIVIDED).rule(n=3).recurrence)
    assert roles["g"] == Role("gate", low=0.9)
