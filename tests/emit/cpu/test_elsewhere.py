"""Units on another processor: compiled for aarch64, run under emulation, and compared with the token loop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import seqc
from benchmarks.cpu import RULES
from seqc.ir.recurrence import Recurrence
from tests.emit.cpu.outside import outside
from tests.emit.cpu.parts import fused, in_blocks
from tests.emit.cpu.test_rules import MAKERS
from tests.emit.cpu.zoo import apart, one_a_class

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=fast", "-fopenmp", "-static")
TIME = 19

pytestmark = pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason=f"there is no `{COMPILER}` or no `{EMULATOR}`",
)


@pytest.mark.parametrize("make", MAKERS[3:5])
def test_a_unit_says_the_same_on_aarch64(
    make: Callable[[], Recurrence], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    emulated = outside(fused(make()), monkeypatch, tmp_path, (COMPILER, *FLAGS), (EMULATOR,))
    assert apart(emulated, make(), TIME) < 1e-9


def test_blocks_of_tokens_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rule = seqc.loads(RULES["gated delta"][0]).rule(n=5, m=7).recurrence
    emulated = outside(in_blocks(rule), monkeypatch, tmp_path, (COMPILER, *FLAGS), (EMULATOR,))
    assert apart(emulated, rule, 2 * TIME) < 1e-9


@pytest.mark.slow
def test_a_rule_of_every_class_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    errors = {
        name: apart(outside(fused(rule), monkeypatch, tmp_path, (COMPILER, *FLAGS), (EMULATOR,)), rule, TIME)
        for name, rule in one_a_class()
    }
    assert {name: error for name, error in errors.items() if not error < 1e-9} == {}
