"""What is written appears whole or not at all, and never in the place of somebody else's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqc.errors import UserError
from seqc.output import new_folder, write_file

OURS = '{"generator": "seqc 0.1.0"}'


def filled(folder: Path, text: str) -> None:
    with new_folder(folder) as staging:
        (staging / "manifest.json").write_text(OURS)
        (staging / "a.txt").write_text(text)


def fail_in(folder: Path) -> None:
    with new_folder(folder) as staging:
        (staging / "a.txt").write_text("two")
        raise ZeroDivisionError


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    filled(tmp_path / "x" / "y", "one")
    assert (tmp_path / "x" / "y" / "a.txt").read_text() == "one"
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]


def test_what_we_wrote_is_replaced(tmp_path: Path) -> None:
    filled(tmp_path / "out", "one")
    (tmp_path / "out" / "stale.txt").write_text("")
    filled(tmp_path / "out", "two")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "manifest.json"]
    assert (tmp_path / "out" / "a.txt").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    filled(tmp_path / "out", "one")
    with pytest.raises(ZeroDivisionError):
        fail_in(tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(ZeroDivisionError):
        fail_in(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("manifest", [None, "{}", "not json", '{"generator": "make"}', "[]"])
def test_foreign_files_are_left_alone(tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match="did not write"), new_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"), new_folder(tmp_path / "out"):
        pass


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "a.seq"
    target.write_text("old")
    target.chmod(0o600)
    write_file(target, "new\n")
    assert target.read_text() == "new\n"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.seq"]


def test_a_folder_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        write_file(tmp_path / "nowhere" / "a.seq", "")
