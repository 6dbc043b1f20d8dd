"""Building units: what is stored, what is said without a compiler, and what the text promises."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

import seqc
from seqc.backend import backend
from seqc.ir.ops import OPS
from tests.emit.cpu.parts import BACKEND, NOT_WRITTEN, SPELLINGS, build, fused, in_torch, scheduled
from tests.emit.torch import rules
from tests.emit.torch.rules import error, inputs_of

COMPILER = shutil.which("c++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

TEXT = 'extern "C" REAL twice(REAL x) { return 2 * x; }\n'
BUILD = f"""
import runpy
print(bool(runpy.run_path({build.__file__!r})['library']({TEXT!r}, 'float').twice))
"""


def _elsewhere(cache: Path, code: str = BUILD) -> str:
    """What another process prints."""
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "SEQC_CACHE": str(cache)}, capture_output=True, text=True
    )  # fmt: skip
    return run.stdout.strip() or run.stderr


def test_every_primitive_is_written() -> None:
    assert set(SPELLINGS) | NOT_WRITTEN == set(OPS)
    assert not set(SPELLINGS) & NOT_WRITTEN


def test_the_backend_is_found_by_its_folder() -> None:
    assert backend("cpu") is BACKEND


def test_a_unit_says_the_same_in_every_run() -> None:
    text = BACKEND.unit(scheduled(rules.gated_delta()))
    code = (
        "from tests.emit.cpu.parts import BACKEND, scheduled\nfrom tests.emit.torch import rules\n"
        "print(BACKEND.unit(scheduled(rules.gated_delta())), end='')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == text


@needs_compiler
def test_a_unit_compiles_alone_without_a_warning(tmp_path: Path) -> None:
    for make in (rules.gated_delta, rules.rotation, lambda: rules.linear_attention(heads=2), rules.tanh_cell):
        (tmp_path / "unit.cpp").write_text(BACKEND.unit(scheduled(make())))
        flags = (
            "-std=c++17",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Wno-unknown-pragmas",
            "-Werror",
            "-c",
            "-o",
            "unit.o",
        )
        run = subprocess.run(
            ["c++", *flags, "unit.cpp"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr


@needs_compiler
def test_a_unit_is_built_once_and_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path))
    build.library(TEXT, "float")
    (made,) = tmp_path.iterdir()
    stamp = made.stat().st_mtime_ns
    build.library.__globals__["_loaded"].cache_clear()
    build.library(TEXT, "float")
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [stamp]
    build.library(TEXT, "double")
    assert len(list(tmp_path.iterdir())) == 2


@needs_compiler
def test_a_build_that_is_killed_leaves_nothing_that_is_taken_for_a_library(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\n{COMPILER} "$@" && [ "$1" = --version ] || {{ touch at_link; sleep 60; }}\n')
    slow.chmod(0o755)
    cache = tmp_path / "cache"
    run = subprocess.Popen(
        [sys.executable, "-c", BUILD], cwd=tmp_path, env={**os.environ, "SEQC_CACHE": str(cache), "CXX": str(slow)},
        start_new_session=True,
    )  # fmt: skip
    while not (tmp_path / "at_link").exists():
        assert run.poll() is None
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    (left,) = cache.iterdir()
    assert left.name.startswith(".build-")
    os.utime(left, (0, 0))
    assert _elsewhere(cache) == "True"
    (made,) = cache.iterdir()
    assert made.suffix == ".so"


@needs_compiler
@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_library_that_is_damaged_is_built_again(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path))
    text = f"// another, of which {share} is left\n{TEXT}"
    build.library(text, "float")
    (made,) = tmp_path.iterdir()
    whole = made.read_bytes()
    made.unlink()  # this process has it open
    made.write_bytes(whole[: int(share * len(whole))])
    build.library.__globals__["_loaded"].cache_clear()
    assert build.library(text, "float").twice is not None
    assert whole in [path.read_bytes() for path in tmp_path.iterdir()]


@needs_compiler
def test_other_flags_or_another_compiler_are_other_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("SEQC_CACHE", str(cache))
    other = tmp_path / "other"
    other.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo 2 || exec {COMPILER} "$@"\n')
    other.chmod(0o755)
    build.library(TEXT, "float")
    monkeypatch.setenv("SEQC_CXXFLAGS", "-O2")
    build.library(TEXT, "float")
    monkeypatch.setenv("CXX", str(other))
    build.library(TEXT, "float")
    assert len(list(cache.iterdir())) == 3


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
try:
    {build}
except Exception as error:
    print(type(error).__name__, error)
"""


@needs_compiler
@pytest.mark.parametrize(
    ("room", "said"), [(10, "NoCompiler what is built cannot be kept in"), (1000, "cannot build the unit")]
)
def test_a_full_disk_is_said_and_leaves_nothing(room: int, said: str, tmp_path: Path) -> None:
    code = FULL.format(room=room, build=BUILD.replace("\n", "\n    "))
    assert said in _elsewhere(tmp_path, code)
    assert not list(tmp_path.iterdir())


@needs_compiler
def test_a_folder_that_may_only_be_read_serves_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path))
    build.library(TEXT, "float")
    build.library.__globals__["_loaded"].cache_clear()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refused)
    assert build.library(TEXT, "float").twice is not None
    with pytest.raises(
        build.NoCompiler, match=r"cannot be kept .* Permission denied; name a folder in SEQC_CACHE"
    ):
        build.library(TEXT, "double")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path / "taken"))
    monkeypatch.setenv("CXX", sys.executable)
    with pytest.raises(build.NoCompiler, match="name a folder in SEQC_CACHE"):
        build.library(TEXT, "float")


@needs_compiler
def test_builds_at_the_same_time_do_not_disturb_one_another(tmp_path: Path) -> None:
    environment = {"SEQC_CACHE": str(tmp_path), "PATH": str(Path(COMPILER or "").parent)}
    runs = [
        subprocess.Popen([sys.executable, "-c", BUILD], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    assert [run.communicate()[0].strip() for run in runs] == ["True"] * 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("missing", ["no-such-compiler", "false"])
def test_without_a_compiler_the_rule_runs_in_pytorch_and_says_so(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "false" and shutil.which("false") is None:
        pytest.skip("there is no program `false`")
    monkeypatch.setenv("CXX", missing)
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path))
    rec = rules.gated_delta(vector_gate=True)
    inputs = {name: x.detach() for name, x in inputs_of(rec, 1, 9).items()}
    with pytest.warns(UserWarning, match=f"rules run in PyTorch alone: .*{missing}"):
        found, _ = fused(rec).double()(**inputs)
    wanted, _ = in_torch(rec).double()(**inputs)
    assert torch.equal(found, wanted)
    assert not list(tmp_path.iterdir())


@needs_compiler
def test_what_is_written_runs_without_seqc(tmp_path: Path) -> None:
    spec = seqc.load("specs/hybrid/griffin.seq").model(d=16, w=24, h=2, n=8, layers=2)
    spec.write("cpu", tmp_path / "built")
    tokens = torch.arange(24).reshape(2, 12)
    code = (
        "import sys, torch; sys.modules['seqc'] = None\n"
        "from safetensors.torch import load_file\nfrom griffin import Griffin\nfrom kernels import attached\n"
        "model = attached(Griffin()); model.load_state_dict(load_file('weights.safetensors'))\n"
        "print(any(hasattr(part, 'fused') for part in model.modules()))\n"
        f"torch.save(model(torch.tensor({tokens.tolist()}))[0], 'out.pt')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "built", capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "True", run.stderr
    found = torch.load(tmp_path / "built" / "out.pt")
    assert error(found, spec.torch()(tokens)[0]) < 1e-5


@needs_compiler
def test_conformance_examines_a_rule_where_it_is_asked_to() -> None:
    spec = seqc.load("specs/delta/gated_delta.seq").rule(n=4, m=3)
    report = seqc.conform(spec, backends=["cpu"], fast=True, only=["values", "gradients", "resets"])
    assert report.passed
    assert {outcome.backend for outcome in report.outcomes} == {"cpu"}
    assert {outcome.backend for outcome in seqc.conform(spec, fast=True, only=["zeros"]).outcomes} == {
        "torch",
        "onnx",
    }
