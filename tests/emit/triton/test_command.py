"""`seqc compile --target triton`, and machines without Triton."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from seqc.cli import main
from tests.emit.triton import parts

if TYPE_CHECKING:
    from backends.triton.runtime import load  # noqa: TID251  # what `seqc.backends` is in a checkout
else:
    from seqc.backends.triton.runtime import load


def answers(value: object) -> Callable[[str], object]:
    """A function that finds the same for every name."""

    def find(name: str) -> object:
        return value

    return find


def compiled(folder: Path, *options: str) -> int:
    """The exit code of `seqc compile` for a small rule."""
    spec = folder / "average.seq"
    spec.write_text(parts.AVERAGE)
    with pytest.raises(SystemExit) as stop:
        main(["compile", str(spec), "--set", "d=5", "-o", str(folder / "built"), *options])
    return int(stop.value.code or 0)


def test_machine_code_and_how_to_launch_it(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled(tmp_path, "--target", "triton", "--aot", "sm_90") == 0
    kernels = tmp_path / "built" / "kernels"
    facts = json.loads((kernels / "average_sm_90.json").read_text())
    assert [fact["function"] for fact in facts[:4]] == ["forward", "backward", "prepare", "sweep"]
    for fact in facts:
        code = kernels / fact["file"]
        assert code.read_bytes().startswith(b"\x7fELF")
        assert f".entry {fact['function']}(" in code.with_suffix(".ptx").read_text()
        assert fact["threads"] % 32 == 0
        assert fact["spills"] == 0


def test_machine_code_for_inputs_of_a_type(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    assert compiled(tmp_path, "--target", "triton", "--aot", "sm_90:bfloat16,sm_90:float16") == 0
    kernels = tmp_path / "built" / "kernels"
    for dtype, short in (("bfloat16", "bf16"), ("float16", "fp16")):
        facts = json.loads((kernels / f"average_sm_90_{dtype}.json").read_text())
        forward = facts[0]["arguments"]
        assert forward["inputs"] == [f"*{short}"] * 2
        assert {*forward["initial"]} == {"*fp32"}
        for fact in facts:
            assert (kernels / fact["file"]).read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize("name", ["sm_90:bf16", "sm_90:"])
def test_an_unknown_type_is_said(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(tmp_path, "--target", "triton", "--aot", name) == 1
    assert "`bfloat16`" in capsys.readouterr().err
    assert not (tmp_path / "built").exists()


def test_an_unknown_gpu_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(tmp_path, "--target", "triton", "--aot", "sm_91") == 1
    assert "`sm_90`" in capsys.readouterr().err
    assert not (tmp_path / "built").exists()


def test_other_targets_have_no_machine_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(tmp_path, "--target", "torch", "--aot", "sm_90") == 1
    assert "aot" in capsys.readouterr().err


def test_machine_code_needs_triton(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(parts.aot, "find_spec", answers(None))
    assert compiled(tmp_path, "--target", "triton", "--aot", "sm_90") == 1
    assert "pip install" in capsys.readouterr().err


WITHOUT = """
import sys
sys.modules["triton"] = None  # whoever imports it fails

import torch
import seqc

module = seqc.load(sys.argv[1]).rule(d=5).triton()
a = torch.rand(2, 40, 5, requires_grad=True)
out, state = module(a=a, b=a)
out.sum().backward()
module.step(a=a[:, 0], b=a[:, 0], state=state)
"""


def test_without_triton_nothing_imports_it(tmp_path: Path) -> None:
    """Nor does what is written for a machine that has it."""
    assert compiled(tmp_path, "--target", "triton") == 0
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path / "average.seq")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    built = "import sys; sys.modules['triton'] = None; import torch; from average import Average\n"
    built += "from kernels import attached, packed; x = torch.rand(1, 40, 5); rule = attached(Average())\n"
    built += "rule(a=x, b=x); assert packed(rule, [0, 7, 40], a=x, b=x)[1]['h'].shape == (2, 5)"
    done = subprocess.run(
        [sys.executable, "-c", built], cwd=tmp_path / "built", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def asked() -> Iterator[None]:
    """As a new process would begin."""
    load.available.cache_clear()
    yield
    load.available.cache_clear()


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("version", [None, "3.2.0"])
def test_a_gpu_without_a_triton_that_will_do_is_said_once(
    version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = None if version is None else SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "triton", known)
    monkeypatch.setattr(load, "find_spec", answers(known))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert not any(load.runs_on(torch.device("cuda", k)) for k in range(3))
    (only,) = said
    assert "rules run in PyTorch alone" in str(only.message)
    assert (version or "no Triton") in str(only.message)


@pytest.mark.usefixtures("asked")
def test_a_newer_triton_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.10.1+git"))
    monkeypatch.setattr(load, "find_spec", answers(True))
    assert load.runs_on(torch.device("cuda"))
