"""The program as a whole: help, exit codes, and what reaches the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

from seqc import bundled
from seqc.cli import COMMANDS, OUR_MISTAKE, REPORT

GRIFFIN = str(bundled.folder("specs") / "hybrid" / "griffin.seq")


def seqc(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seqc", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_help_lists_every_command_and_the_exit_codes() -> None:
    done = seqc("--help")
    assert done.returncode == 0
    assert all(f" {name} " in done.stdout for name in COMMANDS)
    assert "70 our bug" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example(name: str) -> None:
    help_text = import_module(f"seqc.cli.{name}").command.__doc__
    assert "Example:\n" in help_text
    assert f"seqc {name} " in help_text or f"seqc {name}\n" in help_text


def test_a_missing_file_is_the_users_mistake() -> None:
    done = seqc("check", "grifin.seq")
    assert done.returncode == 1
    assert "there is no file `grifin.seq`" in done.stderr
    assert "`griffin`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("chekc",), ("check",), ("check", "--no-such-option"), ("check", "griffin", "--set", "d")]
)
def test_a_wrong_argument_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    done = seqc(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_our_mistake_asks_to_be_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import seqc.cli as program

    def broken() -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(program, "application", broken)
    with pytest.raises(SystemExit) as stop:
        program.main([])
    assert stop.value.code == OUR_MISTAKE
    error = capsys.readouterr().err
    assert "ZeroDivisionError: oh" in error
    assert REPORT in error


def test_there_is_no_colour_without_a_terminal() -> None:
    for arguments in (["--help"], ["check", "nothing.seq"], ["list"]):
        done = seqc(*arguments, GITHUB_ACTIONS="true", FORCE_COLOR="1")
        assert "\x1b" not in done.stdout + done.stderr


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m seqc list codes --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_help_fills_a_narrow_terminal() -> None:
    lines = seqc("explain", "--help", COLUMNS="80").stdout.splitlines()
    start = next(place for place, line in enumerate(lines) if "For a spec:" in line)
    end = next(place for place, line in enumerate(lines) if place > start and not line.strip())
    assert all(len(line.rstrip()) > 60 for line in lines[start : end - 1])
    assert "   seqc explain E0201" in "\n".join(lines)


def test_the_version() -> None:
    assert seqc("--version").stdout.startswith("seqc 0.")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_written_for_the_shells(shell: str) -> None:
    done = seqc(_SEQC_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert "_SEQC_COMPLETE" in done.stdout


def test_specs_are_completed_by_name() -> None:
    done = seqc(_SEQC_COMPLETE="complete_bash", COMP_WORDS="seqc explain grif", COMP_CWORD="2")
    assert done.stdout.split() == ["griffin"]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["check", "griffin"], ["fmt", "--check", GRIFFIN], ["explain", "griffin"], ["list"]],
)
def test_what_needs_no_tensors_does_not_import_torch(arguments: list[str]) -> None:
    code = f"""
import sys
from seqc.cli import main
try:
    main({arguments!r})
finally:
    assert not {{"torch", "onnx", "onnxruntime", "numpy"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
