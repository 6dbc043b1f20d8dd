"""The kernels of every rule of specs/ in Triton's interpreter against the oracle, values and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest

import seqc
from seqc import bundled, zoo
from seqc.conformance import conform
from tests.emit.triton.conftest import Interpreted

pytest.importorskip("triton")


def faults(path: Path) -> list[str]:
    """What fails, at small sizes that are all different, in single precision and with inputs in bfloat16."""
    names = seqc.load(path).rules
    if not names:
        return []
    report = conform(seqc.load(path), ["triton"], names, fast=True, only=["values", "gradients"])
    assert report.outcomes
    return [] if report.passed else [report.summary()]


@pytest.mark.slow
@pytest.mark.parametrize("path", bundled.specs(), ids=zoo.key)
def test_rules_conform(path: Path, interpreted: Interpreted) -> None:
    assert interpreted(faults, path) == []
