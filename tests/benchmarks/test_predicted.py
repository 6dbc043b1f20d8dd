"""What is predicted of kernels on a GPU: by hand for one, and that it is shown beside what is measured."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, gpu_model, gpu_predicted
from benchmarks.gpu_cases import CASES, MORE, Case, recurrence
from benchmarks.gpu_model import Prediction, Run, predictions
from benchmarks.measure import Sample
from seqc.backend import Scheduled
from seqc.passes.schedule import schedule
from tools.kernels.record import Taken

pytest.importorskip("triton")
CASE = {case.name: case for case in (*CASES, *MORE)}


@cache
def kernels(case: str, size: int) -> Any:
    (rule,) = gpu_predicted.units(Scheduled(recurrence(CASE[case], 1, size), schedule), "a test").values()
    return rule


def predicted(case: str, shape: tuple[int, ...], code: dict[str, Taken]) -> dict[str, Prediction]:
    run = Run(case, shape, kernels(case, shape[-1]), [code])
    return {x.kernel: x for x in predictions(run)}


def test_a_scan_moves_what_it_reads_and_writes() -> None:
    """Two inputs and a result in bf16, and a state a block: at once, where there are programs enough for all of it."""
    batch, time, tokens = 2, 64, 2 * 64 * 128
    for heads, kernels in ((300, ["fused"]), (1, ["prepare", "sweep", "answer"])):
        found = predicted("scan", (batch, time, heads, 128), {})
        assert [name for name, x in found.items() if not x.backward and name != "casts"] == kernels
        moved = 3 * 2 * tokens * heads + 4 * 128 * 2 * batch * heads
        share = min(1.0, batch * heads * (2 if heads == 1 else 1) / gpu_model.SMS)
        assert found[kernels[-1]].memory == pytest.approx(moved / (gpu_model.COPY * share))
        assert found[kernels[-1]].products == 0
        assert found["casts"].memory == 0


def test_products_of_16_bits_are_twice_as_fast() -> None:
    """Of a gate a head all products have factors of 16 bits but those with the shifted gates."""
    found = predicted("gate a head", (1, 64, 200, 64), {})
    *_, products, rounded = kernels("gate a head", 64).stages[0].kernels.face.work["reads"]
    assert 0 < rounded <= products
    wanted = 200 * ((products - rounded) / gpu_model.PRODUCTS + rounded / gpu_model.ROUNDED)
    assert found["answer"].products == pytest.approx(wanted)


def test_programs_that_find_no_place_wait() -> None:
    """A program that takes a whole multiprocessor, and one more program than there are."""
    whole = Taken("", 8, 2, 128, 255, 0, 200 * 1024, 0)
    shape = (1, 64, gpu_model.SMS + 1, 128)
    few, many = (predicted("scan", shape, code)["fused"].chain for code in ({}, {"fused": whole}))
    assert many == pytest.approx(2 * few)


def test_times_add_up() -> None:
    """The backward pass makes again what is prepared."""
    shape = (1, 64, 200, 128)
    found = list(predicted("scan", shape, {}).values())
    ((_, (forward, both)),) = gpu_predicted.told(gpu_predicted.data(found)).items()
    assert forward == pytest.approx(1e3 * sum(x.seconds for x in found if not x.backward))
    again = sum(x.seconds for x in found if x.backward or x.kernel == "prepare")
    assert both == pytest.approx(forward + 1e3 * again)


def test_it_stands_beside_what_is_measured() -> None:
    measured = {"ours": Sample(2.0, 0.1), "another": Sample(3.0, 0.1)}
    rows = gpu.compared("scan, forward", "forward", measured, None, 1.0)
    assert [(each.side, each.median, each.ratio) for each in rows] == [
        ("ours", 2.0, 1.5),
        ("ours, predicted", 1.0, 0.5),
        ("another", 3.0, None),
    ]


def test_what_was_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "predicted.json"
    monkeypatch.setattr(gpu_predicted, "WRITTEN", file)
    assert gpu_predicted.written() == {}
    shape = (1, 64, 2, 128)
    found = gpu_predicted.data(predicted("scan", shape, {}).values())
    file.write_text(json.dumps(found))
    assert gpu_predicted.written() == gpu_predicted.told(found)
    assert ("scan", shape) in gpu_predicted.written()


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=lambda case: case.name)
def test_every_case_was_predicted(case: Case) -> None:
    """At the shapes where it has kernels."""
    assert any(name == case.name for name, _ in gpu_predicted.written())
