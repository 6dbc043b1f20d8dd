"""How many tokens a block has: measured once for a rule as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.emit.triton import measuring, parts
from tests.emit.triton.conftest import Interpreted

pytest.importorskip("triton")

LENGTHS = {
    "gla": [32],
    "mamba2": [32, 128],
    "gated delta rule": [16, 64],
    "hgrn": [16, 64],
    "lru": [16, 64],
    "stabilised": [32],
}
TIMES = {16: 35, 32: 35, 64: 70, 128: 150}  # no whole number of blocks


@pytest.mark.parametrize("name", LENGTHS)
def test_blocks_are_half_and_twice_as_long(name: str) -> None:
    """Where there are such: no shorter than a side of a matrix product, no longer than registers hold."""
    assert measuring.others(name) == LENGTHS[name]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        pytest.param(name, block, marks=[pytest.mark.slow] * (block > 64 or name == "stabilised"))
        for name, blocks in LENGTHS.items()
        for block in blocks
    ],
)
def test_blocks_of_any_length_compute_the_same(name: str, block: int, interpreted: Interpreted) -> None:
    worst, launched = interpreted(measuring.of_length, name, block, TIMES[block])
    assert launched == {block}
    assert worst < 2e-6


@pytest.mark.parametrize(
    ("times", "quickest"),
    [
        ([4.0, 3.0, 1.0, 2.0], "64"),
        ([4.0, 3.0, 2.0, 1.0], "loop"),
        pytest.param([1.0, 1.0, 1.0, 1.0], "32", marks=pytest.mark.slow),
    ],
)
def test_the_quickest_is_chosen_once(
    times: list[float], quickest: str, tmp_path: Path, interpreted: Interpreted
) -> None:
    """Forwards and backwards, for all times up to a power of two and for other processes; nothing else changes."""
    found = interpreted(measuring.chosen, "hgrn", tmp_path, times, torch.bfloat16)
    assert found["measured"] == len(times)
    assert {way.split()[0] for way in found["tried"]} == {"32", "16", "64", "loop"}
    assert {"loop backward", "16 differentiate", "64 differentiate", "32 differentiate"} <= {*found["tried"]}
    assert found["measured again"] == 0
    for key in ("back", "again", "ragged", "anew"):
        assert {way.split()[0] for way in found[key]} == {quickest}, key
    assert not found["touched"]
    assert not found["drawn"]
    assert found["same"]
    assert {way.split()[0] for way in found["recorded"]} == {
        "32"
    }  # nothing is known of what has no gradients


def test_nothing_that_is_measured_is_a_part_of_results(tmp_path: Path, interpreted: Interpreted) -> None:
    assert interpreted(measuring.exact_while_measured, "hgrn", tmp_path, [4.0, 3.0, 1.0, 2.0]) < 2e-6


@pytest.mark.parametrize(
    ("times", "reentrant"),
    [
        ([2.0, 1.0, 3.0, 3.0], True),
        ([3.0, 2.0, 2.0, 1.0], False),
        pytest.param([2.0, 1.0, 3.0, 3.0], False, marks=pytest.mark.slow),
        pytest.param([3.0, 2.0, 2.0, 1.0], True, marks=pytest.mark.slow),
    ],
)
def test_what_is_computed_again_is_not_disturbed(
    times: list[float], reentrant: bool, tmp_path: Path, interpreted: Interpreted
) -> None:
    """Whether it was first measured on the way there, or within the way back: in blocks, and as a loop."""
    times = times * (1 + reentrant)
    errors, measured = interpreted(measuring.recomputed, "computed", tmp_path, times, reentrant)
    assert max(errors) < 2 * torch.finfo(torch.bfloat16).eps
    assert measured == len(times)


@pytest.mark.parametrize(("failing", "runs", "kept"), [(1, "16", True), (3, "loop", True), (4, None, False)])
def test_what_has_too_little_memory_is_not_chosen(
    failing: int, runs: str | None, kept: bool, tmp_path: Path, interpreted: Interpreted
) -> None:
    launched, found = interpreted(measuring.without_room, tmp_path, failing)
    assert {way.split()[0] for way in launched} == ({runs} if runs else set())
    assert found == kept


def test_nothing_is_measured_on_the_cpu(interpreted: Interpreted) -> None:
    assert interpreted(measuring.nowhere)


@pytest.mark.parametrize(("times", "runs"), [([2.0, 1.0, 3.0, 3.0], "16"), ([4.0, 3.0, 2.0, 1.0], "loop")])
def test_a_compiled_module_takes_what_was_chosen(
    times: list[float], runs: str, tmp_path: Path, interpreted: Interpreted
) -> None:
    """Forwards and backwards, as one graph."""
    launched, difference = interpreted(measuring.compiled, "hgrn", tmp_path, times)
    assert {way.split()[0] for way in launched} == {runs}
    assert difference == 0


ALONE = """
import torch
from hgrn import Hgrn
from kernels import attached

torch.manual_seed(1)
model = attached(Hgrn())
rule = next(part.kernels for part in model.modules() if hasattr(part, "kernels"))
assert rule.lengths.first == 32 and sorted(rule.others) == [16, 64]
given = {value.name: torch.rand(1, 33, 5) for value in rule.signature.inputs}
found = []
for block in (32, 16, 64):
    rule.lengths.first = block
    assert block == 32 or [made.face.block for made in rule.others[block]()] == [block]
    found.append(model(**given)[0])
torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)
torch.testing.assert_close(found[2], found[0], rtol=1e-5, atol=1e-5)
"""


def test_a_written_folder_has_the_other_lengths(tmp_path: Path) -> None:
    parts.run_written(parts.scheduled(parts.MAKERS["hgrn"]()), tmp_path, ALONE)
