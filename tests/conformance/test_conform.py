"""What `seqc.conform` says, and that it looks where it should."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

import seqc
from seqc.conformance import Finding, Outcome, Report, lengths
from seqc.conformance.checks import checks
from seqc.conformance.compare import VALUES, distance, judged
from seqc.conformance.roles import structural_roles
from seqc.errors import UserError
from seqc.spec import Spec

TEXT = """
rule keep(q[n], k[n], v[m], alpha, beta) {
    state  S[m, n] = 0
    let    R  = alpha * S
    S'     = R - beta * (sum[n](R * k) - v) * k
    return sum[n](S' * q)
}
rule cell(x[d]) {
    param  w[d] = normal(0, 1)
    param  c = 0.5
    state  h[d] = 0
    h'     = tanh(w * h + c * x)
    return h'
}
"""


@pytest.fixture(scope="module")
def spec() -> Spec:
    return seqc.loads(TEXT, "two.seq")


@pytest.fixture(scope="module")
def report(spec: Spec) -> Report:
    return seqc.conform(
        spec, backends=["torch"], names=["cell"], fast=True, only=["values", "gradients", "mapping", "gates"]
    )


def test_it_passes_and_says_so(report: Report) -> None:
    assert report.passed
    assert report.failures == []
    assert 0 < report.worst_error < 1e-5
    assert "checks passed" in report.summary()
    assert {outcome.check for outcome in report.outcomes} == {"values", "gradients", "mapping", "gates"}
    assert {outcome.status for outcome in report.outcomes if outcome.check == "gates"} == {"not applicable"}


def test_json_and_junit_hold_every_outcome(report: Report) -> None:
    data = json.loads(report.to_json())
    assert data["passed"] is True
    assert len(data["outcomes"]) == len(report.outcomes)
    suites = ET.fromstring(report.to_junit())
    assert len(suites.findall(".//testcase")) == len(report.outcomes)
    assert suites.findall(".//failure") == []


def test_a_failure_is_shown_everywhere(report: Report) -> None:
    finding = Finding("fp32, output", float("inf"), 1e-5)
    broken = replace(report.outcomes[0], status="failed", findings=(finding,))
    failing = Report([broken, *report.outcomes[1:]])
    assert not failing.passed
    assert "fp32, output: error inf" in str(failing)
    assert json.loads(failing.to_json())["outcomes"][0]["findings"][0]["error"] == "inf"
    assert len(ET.fromstring(failing.to_junit()).findall(".//failure")) == 1


def test_nothing_examined_is_no_proof() -> None:
    assert not Report().passed
    assert not Report([Outcome("a", "torch", "", "values", "not applicable")]).passed


def test_it_says_why_a_backend_makes_nothing_of_a_rule() -> None:
    spec = seqc.loads("rule count() {\n    state t = 0\n    t' = t + 1\n    return t'\n}\n")
    report = seqc.conform(spec, backends=["onnx", "torch"], fast=True)
    assert not report.passed
    for name in ("onnx", "torch"):
        assert f"count {name}: the backend `{name}` cannot do a rule without inputs" in str(report)


def test_unknown_names_list_what_is_known(spec: Spec) -> None:
    with pytest.raises(UserError, match="no check `value`") as error:
        seqc.conform(spec, only=["value"])
    assert "values" in str(error.value.help)
    with pytest.raises(UserError, match="no target `tensorflow`"):
        seqc.conform(spec, backends=["tensorflow"])


def test_every_check_says_what_it_proves() -> None:
    orders = [check.ORDER for check in checks().values()]
    assert sorted(set(orders)) == orders
    assert all(check.__doc__ for check in checks().values())


def test_lengths_differ_so_that_exchanged_axes_show(spec: Spec) -> None:
    found = lengths(spec, "keep")
    assert len(set(found.values())) == len(found) == 2


def test_inputs_are_drawn_as_the_structure_wants(spec: Spec) -> None:
    roles = structural_roles(spec.rule("keep", n=3, m=2).recurrence)
    assert {name: role.kind for name, role in roles.items()} == {
        "q": "normal",
        "k": "unit",
        "v": "normal",
        "alpha": "gate",
        "beta": "gate",
    }


def cases() -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
    one = torch.ones(4)
    yield one, one, 0.0
    yield one * 1.01, one, 0.01
    yield torch.zeros(4), torch.zeros(4), 0.0
    yield torch.full((4,), 1e-4), torch.zeros(4), 1e-2
    yield torch.full((4,), torch.nan), one, float("inf")
    yield torch.ones(3), one, float("inf")


@pytest.mark.parametrize(("got", "want", "error"), list(cases()))
def test_distance(got: torch.Tensor, want: torch.Tensor, error: float) -> None:
    assert distance(got, want) == pytest.approx(error, rel=1e-4)


def test_an_answer_that_moves_cannot_be_met_more_closely() -> None:
    def judge(error: float, moves: float, dtype: torch.dtype = torch.float32) -> Finding:
        return judged("x", error, VALUES, dtype, lambda: moves)

    assert judge(1e-6, 1.0) == Finding("x", 1e-6, 1e-5)
    assert judge(1e-4, 1e-6) == Finding("x", 1e-4, 1e-5)
    assert judge(1e-4, 3e-4) == Finding("x", 1e-4, 3e-4, ill_conditioned=True)
    assert judge(1e-1, 1.0) == Finding("x", 1e-1, 1e-5)
    assert judge(1e-2, 2e-2, torch.bfloat16) == Finding("x", 1e-2, 2e-2, ill_conditioned=True)


def test_ill_conditioned_values_are_counted_apart(report: Report) -> None:
    assert report.ill_conditioned == []
    loose = replace(report.outcomes[0], findings=(Finding("x", 2e-4, 3e-4, ill_conditioned=True),))
    changed = Report([*report.outcomes, loose])
    assert changed.worst_error == report.worst_error
    assert changed.summary().endswith("and 2.0e-04 among 1 ill-conditioned values")
