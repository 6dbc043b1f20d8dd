"""Units on another processor: compiled for aarch64, run under emulation, and compared with the token loop."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import seqc
from benchmarks.cpu import RULES
from seqc.ir.recurrence import Recurrence
from tests.emit.cpu.outside import outside, wrong
from tests.emit.cpu.parts import build, by_tokens, fused, in_blocks, regions
from tests.emit.cpu.test_memory import BLOCK
from tests.emit.cpu.test_rules import MAKERS
from tests.emit.cpu.zoo import FAMILIES, apart

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = ("-std=c++17", "-O1", build.EXACT, "-fopenmp", "-static")
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


def test_a_part_of_a_block_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (region,) = regions(seqc.loads(BLOCK).block(d=5).function)
    emulated = outside(by_tokens(region.rule), monkeypatch, tmp_path, (COMPILER, *FLAGS), (EMULATOR,))
    assert apart(emulated, region.rule, TIME) < 1e-9


def test_blocks_of_tokens_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rule = seqc.loads(RULES["gated delta"][0]).rule(n=5, m=7).recurrence
    emulated = outside(in_blocks(rule), monkeypatch, tmp_path, (COMPILER, *FLAGS), (EMULATOR,))
    assert apart(emulated, rule, 2 * TIME) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_all_units_of_the_specs_do(family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert wrong(family, monkeypatch, tmp_path, (COMPILER, *FLAGS), (EMULATOR,)) == {}
