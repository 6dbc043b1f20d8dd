"""What is known of the specs that come with seqc: `specs/zoo.json`, which `python -m tools.zoo` writes.

`seqc list` and docs/zoo.md show it. Facts follow from a spec's structure; findings were measured by `seqc conform`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from seqc import bundled
from seqc.spec import Spec, reports

VERSION = 3


class ClassFacts(TypedDict):
    code: str
    name: str
    states: list[str]
    because: str


class Facts(TypedDict):
    """A rule or a model at the sizes that `seqc explain` uses; a model has no schedule of its own."""

    kind: str
    settings: dict[str, float]
    uses: list[str]
    classes: list[ClassFacts]
    mode: str
    parameters: int
    state_bytes: int
    state_bytes_per_token: int
    flops_per_token: int


class Verdict(TypedDict):
    """What `seqc conform --fast` said of one item in one backend: checks that passed and failed, or why none ran."""

    passed: int
    failed: int
    refused: NotRequired[str]


class Findings(TypedDict):
    """One item: by backend, the worst error of a well-conditioned value in single precision or wider, and how many
    values were ill-conditioned (see `seqc.conformance.Finding`), with the worst error among those.
    """

    backends: dict[str, Verdict]
    worst_error: float
    ill_conditioned: int
    worst_ill_conditioned: float


class Measured(TypedDict):
    """One spec. What was examined (digests): its text, what was written, the judge; findings by rule and model."""

    text: str
    emitted: str
    judge: str
    seconds: float
    findings: dict[str, Findings]


class Row(Measured):
    """What was measured, and the facts of the same rules and models."""

    facts: dict[str, Facts]


Record = dict[str, Row]


def file() -> Path:
    return bundled.folder("specs") / "zoo.json"


def read() -> Record:
    """The rows by path below specs/; empty where nothing was recorded."""
    if not file().is_file():
        return {}
    data = json.loads(file().read_text(encoding="utf-8"))
    return cast(Record, data["specs"]) if data["version"] == VERSION else {}


def key(path: Path) -> str:
    """`linear/retnet.seq`"""
    return path.relative_to(bundled.folder("specs")).as_posix()


def facts(spec: Spec) -> dict[str, Facts]:
    """The facts of every rule and model of a spec, rules first."""
    handles = [spec.rule(name, **spec.checked.default_sizes(name)) for name in spec.rules]
    found: dict[str, Facts] = {}
    for report in reports([*handles, *(spec.model(name) for name in spec.models)]):
        is_rule = report["kind"] == "rule"
        # A rule's report is about itself alone.
        own = report["rules"] if is_rule else []
        found[report["name"]] = Facts(
            kind=report["kind"],
            settings=report["settings"],
            uses=[] if is_rule else [rule["name"] for rule in report["rules"]],
            classes=[_class(each) for rule in own for each in rule["classes"]],
            mode="".join(rule["schedule"]["mode"] for rule in own),
            parameters=report["parameters"]["count"],
            state_bytes=report["states"]["bytes"],
            state_bytes_per_token=report["states"]["bytes_per_token"],
            flops_per_token=report["cost"]["decode"]["flops_per_token"],
        )
    return found


def _class(report: dict[str, object]) -> ClassFacts:
    return cast(ClassFacts, {name: report[name] for name in ClassFacts.__annotations__})


def conforms(findings: Findings) -> list[str]:
    """The backends in which every check that applies passed."""
    return [name for name, said in findings["backends"].items() if said["passed"] and not said["failed"]]
