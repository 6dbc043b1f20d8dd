"""A rule by its four choices and by its equations is the same recurrence, structurally."""

from __future__ import annotations

import pytest

import seqc
from seqc.passes.equal import same_recurrence
from seqc.passes.schedule import schedule

PAIRS = {
    "linear attention": (
        """rule a(q[n], k[n], v[m]) {
            memory S: n -> m
            objective -sum[m](S(k) * v)
            learner gd(rate = 1)
            return S'(q)
        }""",
        """rule b(q[n], k[n], v[m]) {
            state S[m, n] = 0
            S' = S + v * k
            return sum[n](S' * q)
        }""",
    ),
    "retnet": (
        """rule a(q[n], k[n], v[m]; gamma = 0.9) {
            memory S: n -> m
            objective -sum[m](S(k) * v)
            retention gamma * S
            learner gd(rate = 1)
            return S'(q)
        }""",
        """rule b(q[n], k[n], v[m]; gamma = 0.9) {
            state S[m, n] = 0
            S' = gamma * S + v * k
            return sum[n](q * S')
        }""",
    ),
    "gla": (
        """rule a(q[n], k[n], v[m], alpha[n]) {
            memory S: n -> m
            objective -sum[m](S(k) * v)
            retention alpha * S
            learner gd(rate = 1)
            return S'(q)
        }""",
        """rule b(q[n], k[n], v[m], alpha[n]) {
            state S[m, n] = 0
            S' = k * v + S * alpha
            return sum[n](S' * q)
        }""",
    ),
    "delta": (
        """rule a(q[n], k[n], v[m], beta) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner gd(rate = beta)
            return S'(q)
        }""",
        """rule b(q[n], k[n], v[m], beta) {
            state S[m, n] = 0
            S' = S + beta * (v - sum[n](S * k)) * k
            return sum[n](S' * q)
        }""",
    ),
    "gated delta": (
        """rule a(q[n], k[n], v[m], alpha, beta) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            retention alpha * S
            learner gd(rate = beta, at = retained)
            return S'(q)
        }""",
        """rule b(q[n], k[n], v[m], alpha, beta) {
            state S[m, n] = 0
            let R = alpha * S
            S' = R - beta * (sum[n](R * k) - v) * k
            return sum[n](S' * q)
        }""",
    ),
    "kda": (
        """rule a(q[n], k[n], v[m], alpha[n], beta) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            retention alpha * S
            learner gd(rate = beta, at = retained)
            return S'(q)
        }""",
        """rule b(q[n], k[n], v[m], alpha[n], beta) {
            state S[m, n] = 0
            S' = alpha * S + beta * k * v - beta * k * sum[n](k * alpha * S)
            return sum[n](S' * q)
        }""",
    ),
    "implicit": (
        """rule a(q[n], k[n], v[m], beta) {
            memory S: n -> m
            objective 0.5 * sumsq(S(k) - v)
            learner implicit(rate = beta)
            return S'(q)
        }""",
        """rule b(q[n], k[n], v[m], beta) {
            state S[m, n] = 0
            let e = sum[n](S * k) - v
            S' = S - beta / (1 + beta * sum[n](k * k)) * e * k
            return sum[n](S' * q)
        }""",
    ),
    "rg_lru": (
        """rule a(x[d], r[d], i[d]) {
            param decay[d] = inv_softplus(-0.5 * log(uniform(0.81, 0.998)))
            let log_a = -8 * softplus(decay) * r
            memory h: d
            objective -sum[d](h * i * x)
            retention exp(log_a) * h
            learner gd(rate = sqrt_bounded(1 - exp(2 * log_a), 1000))
            return h'
        }""",
        """rule b(x[d], r[d], i[d]) {
            param decay[d] = inv_softplus(-0.5 * log(uniform(0.81, 0.998)))
            let log_a = -8 * softplus(decay) * r
            state h[d] = 0
            h' = exp(log_a) * h + sqrt_bounded(1 - exp(2 * log_a), 1000) * (i * x)
            return h'
        }""",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_both_spellings_are_one_recurrence(name: str) -> None:
    choices, equations = PAIRS[name]
    sizes = {} if name == "rg_lru" else {"n": 5, "m": 3}
    sizes = sizes or {"d": 6}
    one = seqc.loads(choices).rule("a", **sizes).recurrence
    other = seqc.loads(equations).rule("b", **sizes).recurrence
    assert same_recurrence(one, other)
    first, second = schedule(one), schedule(other)
    assert [c.code for c in first.classes] == [c.code for c in second.classes]
    assert (first.mode, first.modes) == (second.mode, second.modes)


def test_the_gradient_point_and_the_read_point_change_the_model() -> None:
    text = PAIRS["gated delta"][0]
    sizes = {"n": 5, "m": 3}
    retained = seqc.loads(text).rule("a", **sizes).recurrence
    previous = seqc.loads(text.replace(", at = retained", "")).rule("a", **sizes).recurrence
    before = seqc.loads(text.replace("S'(q)", "S(q)")).rule("a", **sizes).recurrence
    assert not same_recurrence(retained, previous)
    assert not same_recurrence(retained, before)
