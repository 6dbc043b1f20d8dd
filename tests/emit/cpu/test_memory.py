"""Units under the compiler's sanitizers: nothing is read or written outside the tensors, and nothing is undefined."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import seqc
from seqc.ir.recurrence import Recurrence
from tests.emit.cpu.outside import outside, wrong
from tests.emit.cpu.parts import by_tokens, fused, regions, text_of
from tests.emit.cpu.test_rules import MAKERS, WIDE, written
from tests.emit.cpu.zoo import FAMILIES, apart

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")

SANITIZED = (
    "c++", "-std=c++17", "-O0", "-g", "-fopenmp", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
)  # fmt: skip
TIME = 19
DIAGONAL = """
rule diagonal(a[d], b[d], x[d]) {
    param  w[d] = uniform(0.1, 1)
    state  h[d] = 0
    h'     = sigmoid(w * a) * h + b * x
    return h' * b
}
"""
BLOCK = """
block gated(x[d]) {
    param scale[d] = 1
    let y[d] = silu(causal_conv(linear(x) as inner, width = 3, bias = true) as conv)
    let up   = y / sqrt(mean[d](y * y) + 1e-5) * scale * sigmoid(x)
    return linear(up) -> [d] as out
}
"""


@pytest.mark.parametrize("make", [*MAKERS[1:6], written(WIDE, d=320, n=3)])
def test_a_unit_stays_within_its_tensors(
    make: Callable[[], Recurrence], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert apart(outside(fused(make()), monkeypatch, tmp_path, SANITIZED), make(), TIME) < 1e-9


@pytest.mark.parametrize("time", [1, TIME])
def test_a_part_of_a_block_does(time: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (region,) = regions(seqc.loads(BLOCK).block(d=5).function)
    assert len(region.rule.states) == 2
    assert apart(outside(by_tokens(region.rule), monkeypatch, tmp_path, SANITIZED), region.rule, time) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_all_units_of_the_specs_do(family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert wrong(family, monkeypatch, tmp_path, SANITIZED) == {}


@pytest.mark.parametrize(("d", "descends"), [(16, False), (96, True), (640, True), (77, False)])
def test_a_loop_that_is_alone_goes_backwards_through_memory(
    d: int, descends: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make = written(DIAGONAL, d=d)
    assert ("LAST_ROW_FIRST = true;" in text_of(fused(make()))) == descends
    assert apart(fused(make()).double(), make(), TIME) < 1e-9
    assert apart(outside(fused(make()), monkeypatch, tmp_path, SANITIZED), make(), TIME) < 1e-9
