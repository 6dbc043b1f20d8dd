"""The program, called as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqc.cli import main
from tests.cli.parts import KEEP, Done, Seqc


@pytest.fixture
def seqc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Seqc:
    """The program, in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Done:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Done(int(stop.value.code or 0), out, err)

    return run


@pytest.fixture
def keep(seqc: Seqc) -> Path:
    Path("keep.seq").write_text(KEEP)
    return Path("keep.seq")
