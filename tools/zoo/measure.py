"""One spec, examined: `python -m tools.zoo.measure linear/retnet.seq` prints what was written and the findings as JSON.

It runs in a process of its own, so that no spec can take the others down with it.
"""

from __future__ import annotations

import json
import sys

from seqc import bundled
from seqc.conformance import Outcome, Report, conform
from seqc.spec import load
from seqc.zoo import Findings, Verdict
from tools.zoo import digest


def measure(path: str) -> dict[str, Findings]:
    """What `seqc conform --fast` says of every rule and model, by name."""
    report = conform(load(bundled.folder("specs") / path), fast=True)
    names = dict.fromkeys(outcome.target for outcome in report.outcomes)
    return {name: _findings([o for o in report.outcomes if o.target == name]) for name in names}


def _findings(outcomes: list[Outcome]) -> Findings:
    backends = dict.fromkeys(outcome.backend for outcome in outcomes)
    verdicts = {name: _verdict([o for o in outcomes if o.backend == name]) for name in backends}
    report = Report(outcomes)
    loose = report.ill_conditioned
    return Findings(
        backends=verdicts,
        worst_error=_short(report.worst_error),
        ill_conditioned=len(loose),
        worst_ill_conditioned=_short(max((finding.error for finding in loose), default=0.0)),
    )


def _short(error: float) -> float:
    return float(f"{error:.2g}")


def _verdict(outcomes: list[Outcome]) -> Verdict:
    said = Verdict(
        passed=sum(outcome.status == "passed" for outcome in outcomes),
        failed=sum(outcome.status == "failed" for outcome in outcomes),
    )
    if not said["passed"] and not said["failed"]:
        said["refused"] = outcomes[0].reason
    return said


if __name__ == "__main__":
    found = measure(sys.argv[1])
    print(json.dumps([digest.of_emitted(bundled.folder("specs") / sys.argv[1]), found]))
