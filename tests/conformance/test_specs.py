"""The specs conform: one of every class in every run, and those that are emitted otherwise than when they were
examined; slowly, those too that other checks have examined (`make zoo` examines them and remembers).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from seqc import bundled, zoo
from seqc.conformance import conform
from seqc.spec import load
from tools.zoo import digest
from tools.zoo.__main__ import is_due

EACH = pytest.mark.parametrize("path", bundled.specs(), ids=zoo.key)


def quickest() -> dict[str, tuple[str, str]]:
    """For every class the rule of that class, by spec and name, whose spec took the least time to examine."""
    found: dict[str, tuple[str, str]] = {}
    record = zoo.read()
    for key in sorted(record, key=lambda key: (record[key]["seconds"] / len(record[key]["facts"]), key)):
        for name, facts in record[key]["facts"].items():
            for each in facts["classes"]:
                found.setdefault(each["code"], (key, name))
    return found


def prove(path: Path, *names: str) -> None:
    report = conform(load(path), names=names or None, fast=True)
    assert report.passed, report.summary()


@pytest.mark.parametrize("code", sorted(quickest()))
def test_a_spec_of_every_class_conforms(code: str) -> None:
    key, name = quickest()[code]
    prove(bundled.folder("specs") / key, name)


@EACH
def test_what_is_emitted_otherwise_conforms(path: Path) -> None:
    row = zoo.read().get(zoo.key(path))
    if row is None or row["emitted"] != digest.of_emitted(path):
        prove(path)


@pytest.mark.slow
@EACH
def test_what_these_checks_have_not_examined_conforms(path: Path) -> None:
    if is_due(path, zoo.read().get(zoo.key(path))):
        prove(path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
@EACH
def test_fused_loops_conform(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path))
    report = conform(load(path), ["cpu"], fast=True)
    assert report.passed, report.summary()
