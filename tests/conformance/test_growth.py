"""The growth check sees a token that costs more than was declared."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from seqc.conformance.case import Case
from seqc.conformance.checks.growth import period_of
from seqc.conformance.examine import examined, generic_weights
from seqc.conformance.subject import Subject
from seqc.ir.recurrence import Recurrence
from tests.conformance.test_mutants import SPECS, Form, from_text
from tests.emit.torch import rules
from tests.emit.torch.parts import backend, emit_rule


def case_of(rule: Recurrence) -> Case:
    return Case(rule.name, rule, generic_weights(rule), fast=True)


def failures(case: Case, subject: Subject) -> list[str]:
    outcome = examined(case, subject, "growth")
    assert outcome.reason == ""
    return [finding.what for finding in outcome.findings if not finding.passed]


class Squared(Form):
    """Compares all entries of the past with one another before it takes a step."""

    def step(self, inputs: Any, dtype: torch.dtype, state: Any = None) -> tuple[tuple[Tensor, ...], Any]:
        for x in state.values():
            if x.ndim > 2:
                torch.matmul(x.flatten(2), x.flatten(2).mT)
        return super().step(inputs, dtype, state)


@pytest.mark.parametrize("window", [None, 5])
def test_it_passes_what_grows_as_declared(window: int | None) -> None:
    case = case_of(rules.attention(window=window))
    assert failures(case, from_text(emit_rule(rules.attention(window=window)), case)) == []


def test_a_window_that_forgets_nothing_is_caught() -> None:
    rule = rules.attention(window=5)
    text, count = re.subn(r"kept\((\w+), count, \d+, \d+\)(\.clone\(\))?(?=[,}])", r"\1", emit_rule(rule))
    assert count >= 4
    found = failures(case_of(rule), from_text(text, case_of(rule)))
    assert "operations a token: constant" in found
    assert "0 bytes more after 24 tokens" in found


def test_a_token_that_compares_all_of_the_past_with_itself_is_caught() -> None:
    rule = rules.attention()
    case = case_of(rule)
    subject = Squared("squared", backend.rule(rule), False, case.weights)
    assert failures(case, subject) == ["operations a token: linear in the past"]


def test_work_that_is_done_now_and_then_is_compared_where_it_is_the_same() -> None:
    found = seqc.load(SPECS / "deep/titans.seq").rule("titans", n=3, m=2)
    assert period_of(Case(found.name, found.whole, {})) == 16
    assert period_of(case_of(rules.gated_delta())) == 1
