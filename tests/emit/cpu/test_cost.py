"""The choice between fused loops and PyTorch's schedules, against times that were measured."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import seqc
from benchmarks.fit_cpu import TABLE, recurrence
from seqc.explain import short_time, text
from seqc.passes.schedule import schedule

if TYPE_CHECKING:
    from backends.cpu.cost import work  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.cpu.runtime.cost import Work, loop_seconds, read, saved, torch_seconds  # noqa: TID251
else:
    from seqc.backends.cpu.cost import work
    from seqc.backends.cpu.runtime.cost import Work, loop_seconds, read, saved, torch_seconds

ROWS: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
RULES = sorted({(row["spec"], row["rule"], tuple(row["settings"].items())) for row in ROWS})


@cache
def counted(path: str, rule: str, settings: tuple[tuple[str, int], ...] = ()) -> Work:
    return work(schedule(recurrence(path, rule, dict(settings))))


@pytest.mark.parametrize(("path", "rule", "settings"), RULES)
def test_what_is_chosen_takes_little_more_than_the_faster_way(
    path: str, rule: str, settings: tuple[tuple[str, int], ...]
) -> None:
    own = counted(path, rule, settings)
    for row in ROWS:
        if (row["spec"], row["rule"], tuple(row["settings"].items())) == (path, rule, settings):
            loop = saved(own, row["batch"], row["time"], row["training"]) > 0
            assert row["loop" if loop else "torch"] <= 1.3 * min(row["loop"], row["torch"]), row


def test_the_table_has_pairs_in_which_either_way_is_faster() -> None:
    better = [row["loop"] < row["torch"] for row in ROWS]
    assert 20 < sum(better) < len(better) - 20


def test_times_grow_with_tokens_and_fall_with_threads() -> None:
    own = counted("delta/gated_delta", "gated_delta")
    for seconds in (loop_seconds, torch_seconds):
        for training in (False, True):
            times = [seconds(own, 1, tokens, training) for tokens in (64, 512, 4096)]
            assert times == sorted(times)
            assert seconds(own, 4, 512, training, 2) < seconds(own, 4, 512, training, 1)
            assert seconds(own, 1, 512, False) < seconds(own, 1, 512, True)


def test_counts_survive_json() -> None:
    own = counted("hybrid/griffin", "rg_lru")
    assert read(json.loads(json.dumps(own))) == own


def test_a_product_of_a_matrix_and_a_vector_is_counted_once() -> None:
    rule = seqc.loads("rule r(x[d]; e = d) { param U[d, e] = normal(0, 1)\n state h[d] = 0\n"
                      " h' = tanh(x + sum[e](U * h[d -> e]))\n return h' }").rule(d=32)  # fmt: skip
    own = work(schedule(rule.recurrence)).loop
    assert (own.products, own.functions, own.constants, own.moved) == (1024, 32, 1024, 64)


def test_explain_says_which_way_a_cpu_takes_and_why() -> None:
    facts = seqc.load("specs/hybrid/griffin.seq").model().report()
    found = {rule["name"]: rule["schedule"]["targets"]["cpu"] for rule in facts["rules"]}
    assert found["rg_lru"]["way"] == "fused loop"
    assert found["rg_lru"]["tokens"] == 2048
    times = found["rg_lru"]["seconds"]
    assert set(times) == {"forward", "training", "token"}
    assert times["forward"]["fused loop"] < times["forward"]["PyTorch"]
    assert found["attend_window"]["way"] == "PyTorch"
    assert "attention" in found["attend_window"]["because"]
    shown = text(facts)
    assert f"fused loop {short_time(times['forward']['fused loop'])}, PyTorch" in shown
    assert "cpu       PyTorch: attention is" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(1.234e-3, "1.2 ms"), (0.1234, "120 ms"), (2.7e-4, "0.27 ms"), (12.0, "12,000 ms")]
)
def test_times_are_shown_with_two_digits(seconds: float, shown: str) -> None:
    assert short_time(seconds) == shown


def test_explaining_does_not_import_torch() -> None:
    code = "import sys, seqc; seqc.load('specs/delta/gated_delta.seq').model().explain(); print('torch' in sys.modules)"
    root = Path(seqc.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
