"""How a kernel is launched: measured once, and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from backends.triton.runtime import launch  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.runtime.launch import Choice  # noqa: TID251
else:
    from seqc.backends.triton.runtime import launch
    from seqc.backends.triton.runtime.launch import Choice

DEFAULT = Choice(4, 3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path / "cache"))
    launch._known.cache_clear()  # pyright: ignore[reportPrivateUsage]  # as a new process would begin
    yield tmp_path / "cache" / "launch.json"
    launch._known.cache_clear()  # pyright: ignore[reportPrivateUsage]


def again() -> None:
    """A process that begins anew."""
    launch._known.cache_clear()  # pyright: ignore[reportPrivateUsage]


def slow(_: Choice) -> float:
    raise AssertionError("measured again")


def test_the_quickest_is_chosen_once_for_every_process() -> None:
    tried = list[Choice]()

    def measure(choice: Choice) -> float:
        tried.append(choice)
        return abs(choice.warps - 8) + abs(choice.stages - 1)

    assert launch.choose("a kernel", DEFAULT, measure) == (8, 1)
    assert tried == launch.choices(DEFAULT)
    assert launch.choose("a kernel", DEFAULT, slow) == (8, 1)
    again()
    assert launch.choose("a kernel", DEFAULT, slow) == (8, 1)


def test_the_default_is_tried_first_and_wins_ties() -> None:
    assert launch.choices(DEFAULT)[0] == DEFAULT
    assert launch.choose("a kernel", DEFAULT, lambda _: 1.0) == DEFAULT


def test_nothing_is_kept_of_what_was_not_measured() -> None:
    assert launch.choose("a kernel", DEFAULT, None) == DEFAULT
    assert not launch.file().exists()


def test_what_others_have_written_stays(folder: Path) -> None:
    launch.choose("mine", DEFAULT, lambda _: 1.0)
    known = json.loads(folder.read_text())
    folder.write_text(json.dumps({**known, "theirs": [2, 1]}))
    launch.choose("mine too", DEFAULT, lambda _: 1.0)
    assert set(json.loads(folder.read_text())) == {"mine", "mine too", "theirs"}


@pytest.mark.parametrize("text", ["", "[]", '{"a kernel": 3}', '{"a kernel": ["x", 1]}'])
def test_a_damaged_file_is_made_again(text: str, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text(text)
    assert launch.choose("a kernel", DEFAULT, lambda _: 1.0) == DEFAULT
    assert json.loads(folder.read_text()) == {"a kernel": [4, 3]}


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.parent.write_text("a file")
    assert launch.choose("a kernel", DEFAULT, lambda _: 1.0) == DEFAULT


@pytest.mark.parametrize(("number", "rounded"), [(0, 1), (1, 1), (3, 4), (4, 4), (1000, 1024)])
def test_lengths_are_rounded(number: int, rounded: int) -> None:
    assert launch.power_of_two(number) == rounded
