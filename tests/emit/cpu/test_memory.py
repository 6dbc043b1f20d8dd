"""Units under the compiler's sanitizers: nothing is read or written outside the tensors, and nothing is undefined."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from seqc.ir.recurrence import Recurrence
from tests.emit.cpu.outside import outside
from tests.emit.cpu.parts import fused, text_of
from tests.emit.cpu.test_rules import MAKERS, WIDE, written
from tests.emit.cpu.zoo import apart, rules_with_units

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


@pytest.mark.parametrize("make", [*MAKERS[1:6], written(WIDE, d=320, n=3)])
def test_a_unit_stays_within_its_tensors(
    make: Callable[[], Recurrence], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert apart(outside(fused(make()), monkeypatch, tmp_path, SANITIZED), make(), TIME) < 1e-9


@pytest.mark.slow
def test_all_rules_of_the_specs_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: dict[str, str] = {}
    for name, recurrence in rules_with_units():
        try:
            error = apart(outside(fused(recurrence), monkeypatch, tmp_path, SANITIZED), recurrence, TIME)
        except AssertionError as said:
            found[name] = str(said)
        else:
            found[name] = "" if error < 1e-9 else f"error {error}"
    assert {name: text for name, text in found.items() if text} == {}


@pytest.mark.parametrize(("d", "descends"), [(16, False), (96, True), (640, True), (77, False)])
def test_a_loop_that_is_alone_goes_backwards_through_memory(
    d: int, descends: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make = written(DIAGONAL, d=d)
    assert ("LAST_ROW_FIRST = true;" in text_of(fused(make()))) == descends
    assert apart(fused(make()).double(), make(), TIME) < 1e-9
    assert apart(outside(fused(make()), monkeypatch, tmp_path, SANITIZED), make(), TIME) < 1e-9
