"""Against plain numpy, without the compiler's own idea of what a rule means."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import seqc

from .running import Array, error, export
from .texts import RULES

SPEC = seqc.loads(RULES)


def test_gated_delta(tmp_path: Path) -> None:
    exported = export(SPEC.rule("gated_delta", n=8, m=6).recurrence, tmp_path)
    x = exported.inputs(2, 100)
    wanted = np.zeros((2, 100, 6))
    for row in range(2):
        memory = np.zeros((6, 8))
        for t in range(100):
            kept = x["g"][row, t] * memory
            mistake = kept @ x["k"][row, t] - x["v"][row, t]
            memory = kept - x["beta"][row, t] * np.outer(mistake, x["k"][row, t])
            wanted[row, t] = memory @ x["q"][row, t]
        _, state = exported.whole({name: value[row : row + 1] for name, value in x.items()})
        assert error(state["S"][0], memory) < 1e-5
    assert error(exported.whole(x)[0][0], wanted) < 1e-5


def test_a_diagonal_gate(tmp_path: Path) -> None:
    exported = export(SPEC.rule("ema", d=5).recurrence, tmp_path)
    x = exported.inputs(1, 90)
    h, wanted = np.zeros(5), []
    for t in range(90):
        h = x["a"][0, t] * h + (1 - x["a"][0, t].astype(np.float64)) * x["x"][0, t]
        wanted.append(h)
    assert error(exported.whole(x)[0][0][0], np.stack(wanted)) < 1e-5


def test_windowed_attention_with_sinks(tmp_path: Path) -> None:
    exported = export(SPEC.rule("attend_sinks", n=8, m=6).recurrence, tmp_path)
    x = exported.inputs(1, 30)
    wanted: list[Array] = []
    for t in range(30):
        seen = [s for s in range(t + 1) if t - s < 5 or s < 3]
        scores = x["k"][0, seen] @ x["q"][0, t]
        weights = np.exp(scores - scores.max())
        wanted.append(weights / weights.sum() @ x["v"][0, seen])
    found = exported.split(x, [2, 4, 11])[0][0]
    assert error(found, np.stack(wanted)) < 1e-5
    assert error(exported.steps(x, 9)[0][0], np.stack(wanted)[9:]) < 1e-5
