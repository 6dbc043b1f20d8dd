"""How a kernel is launched: measured once, and kept on disk."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import torch

from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted

if TYPE_CHECKING:
    from backends.triton.runtime import known, launch  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.runtime.launch import Choice  # noqa: TID251
else:
    from seqc.backends.triton.runtime import known, launch
    from seqc.backends.triton.runtime.launch import Choice

DEFAULT = Choice(4, 3, 32)
WIDEST = 100  # entries of the axis that is cut into tiles


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path / "cache"))
    known._known.cache_clear()  # pyright: ignore[reportPrivateUsage]  # as a new process would begin
    yield tmp_path / "cache" / "launch.json"
    known._known.cache_clear()  # pyright: ignore[reportPrivateUsage]


def again() -> None:
    """A process that begins anew."""
    known._known.cache_clear()  # pyright: ignore[reportPrivateUsage]


def slow(_: Choice) -> float:
    raise AssertionError("measured again")


def test_the_quickest_is_chosen_once_for_every_process() -> None:
    tried = list[Choice]()

    def measure(choice: Choice) -> float:
        tried.append(choice)
        return abs(choice.tile - 64) + abs(choice.warps - 8) + abs(choice.stages - 1)

    assert launch.choose("a kernel", DEFAULT, WIDEST, measure) == (8, 1, 64)
    assert len(set(tried)) == len(tried) == 8
    assert launch.choose("a kernel", DEFAULT, WIDEST, slow) == (8, 1, 64)
    again()
    assert launch.choose("a kernel", DEFAULT, WIDEST, slow) == (8, 1, 64)


def test_the_search_goes_on_from_what_is_quicker() -> None:
    """A tile that is a quarter of the default's."""
    best = launch.quickest(Choice(4, 3, 128), 256, lambda choice: abs(choice.tile - 16))
    assert best == Choice(4, 3, 16)


def test_the_default_is_tried_first_and_wins_ties() -> None:
    tried = list[Choice]()

    def measure(choice: Choice) -> float:
        tried.append(choice)
        return 1.0

    assert launch.choose("a kernel", DEFAULT, WIDEST, measure) == tried[0] == DEFAULT


@pytest.mark.parametrize(
    ("tile", "widest", "others"),
    [(32, 100, [16, 64]), (128, 100, [64]), (16, 16, []), (8, 5, []), (1, 0, [])],
)
def test_tiles_are_wide_enough_for_products_and_no_wider_than_the_axis(
    tile: int, widest: int, others: list[int]
) -> None:
    assert [choice.tile for choice in launch.tiles(Choice(4, 3, tile), widest)] == others


def test_nothing_is_kept_of_what_was_not_measured() -> None:
    assert launch.choose("a kernel", DEFAULT, WIDEST, None) == DEFAULT
    assert not known.file().exists()


def test_what_others_have_written_stays(folder: Path) -> None:
    launch.choose("mine", DEFAULT, WIDEST, lambda _: 1.0)
    known = json.loads(folder.read_text())
    folder.write_text(json.dumps({**known, "theirs": [2, 1, 16]}))
    launch.choose("mine too", DEFAULT, WIDEST, lambda _: 1.0)
    assert set(json.loads(folder.read_text())) == {"mine", "mine too", "theirs"}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a kernel": 3}', '{"a kernel": ["x", 1]}', '{"a kernel": [1, 2, 3, 4]}']
)
def test_a_damaged_file_is_made_again(text: str, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text(text)
    assert launch.choose("a kernel", DEFAULT, WIDEST, lambda _: 1.0) == DEFAULT
    assert json.loads(folder.read_text()) == {"a kernel": [4, 3, 32]}


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.parent.write_text("a file")
    assert launch.choose("a kernel", DEFAULT, WIDEST, lambda _: 1.0) == DEFAULT


@pytest.mark.parametrize("error", ["OutOfResources", "CompilationError", "OutOfMemoryError"])
def test_what_does_not_run_takes_forever(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    testing = pytest.importorskip("triton.testing")
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources

    raised = {
        "OutOfResources": OutOfResources(2, 1, "shared memory"),
        "CompilationError": CompilationError(None, ast.Pass()),
        "OutOfMemoryError": torch.OutOfMemoryError(),
    }

    def bench(*_: Any, **__: Any) -> float:
        raise raised[error]

    monkeypatch.setattr(testing, "do_bench", bench)
    assert known.milliseconds(lambda: None) == float("inf")


@pytest.mark.parametrize(("number", "rounded"), [(0, 1), (1, 1), (3, 4), (4, 4), (1000, 1024)])
def test_lengths_are_rounded(number: int, rounded: int) -> None:
    assert launch.power_of_two(number) == rounded


def test_what_is_compiled_otherwise_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    known = list[str]()

    def choose(key: str, default: Choice, *_: Any) -> Choice:
        known.append(key)
        return default

    def key_of(_: object, about: object) -> str:
        return repr(about)

    monkeypatch.setattr(launch, "measures", bool)
    monkeypatch.setattr(launch, "key_of", key_of)
    monkeypatch.setattr(launch, "choose", choose)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    for precision in ("tf32", "ieee", "tf32"):
        fixed = {"PRECISION": precision, "BLOCK": 64}
        kernel = SimpleNamespace(cache_key="kernel")
        launch.chosen(kernel, torch.ones(1), (), fixed, Choice(4, 1), [5], 0, lambda _: 1.0)
    assert known[0] == known[2] != known[1]


def with_tile(text: str, sizes: dict[str, float], tile: int, time: int) -> tuple[set[int], float]:
    """The tiles that a rule's kernels have by default, and the worst error with another one."""
    found = set[int]()

    def chosen(
        kernel: Any, like: Any, args: Any, fixed: Any, default: Choice, lengths: Any, widest: int, _: Any
    ) -> Choice:
        if not widest:  # what has the tile of another kernel
            return default
        found.add(default.tile)
        return default._replace(tile=tile)

    parts.MAKERS["tiles"] = parts.written(text, **sizes)
    with patch.object(launch, "chosen", chosen):
        return found, max(parts.compared("tiles", time, True, begun=True))


@pytest.mark.parametrize(
    ("text", "sizes", "default", "tile", "time"),
    [
        (parts.WIDE, {"d": 40, "n": 3}, 64, 16, 5),
        (parts.GLA, {"n": 5, "m": 40}, 32, 16, 35),
        pytest.param(parts.GLA, {"n": 5, "m": 40}, 32, 64, 35, marks=pytest.mark.slow),
    ],
)
def test_kernels_compute_the_same_with_every_tile(
    text: str, sizes: dict[str, float], default: int, tile: int, time: int, interpreted: Interpreted
) -> None:
    """In a loop and in blocks: programs of other tiles share inputs and constants."""
    pytest.importorskip("triton")
    found, worst = interpreted(with_tile, text, sizes, tile, time)
    assert found == {default}
    assert worst < 2e-6
