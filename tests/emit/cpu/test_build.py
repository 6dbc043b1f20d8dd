"""Building units: what is stored, what is said without a compiler, and what the text promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
def test_a_build_that_was_killed_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path))
    (tmp_path / ".build-killed").mkdir()
    (tmp_path / ".build-killed" / "unit.so").write_bytes(b"half")
    assert build.library(TEXT, "float").twice is not None


@needs_compiler
def test_a_library_that_is_damaged_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path))
    text = f"// another\n{TEXT}"
    build.library(text, "float")
    (made,) = tmp_path.iterdir()
    made.unlink()
    made.write_bytes(b"half a library")
    build.library.__globals__["_loaded"].cache_clear()
    assert build.library(text, "float").twice is not None


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("SEQC_CACHE", str(tmp_path / "taken"))
    monkeypatch.setenv("CXX", sys.executable)
    with pytest.raises(build.NoCompiler, match="name a folder in SEQC_CACHE"):
        build.library(TEXT, "float")


@needs_compiler
def test_builds_at_the_same_time_do_not_disturb_one_another(tmp_path: Path) -> None:
    load = f"runpy.run_path({build.__file__!r})['library']({TEXT!r}, 'float')"
    code = f"import runpy; print(bool({load}.twice))"
    environment = {"SEQC_CACHE": str(tmp_path), "PATH": str(Path(COMPILER or "").parent)}
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
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


MEASURE = """
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
namespace math {
%s
}
template <class F, class G> double worst(F ours, G exact, float low, float high) {
    double most = 0;
    for (int k = 0; k <= 200000; ++k) {
        const float x = low + (high - low) * (k / 200000.0f);
        const double wanted = exact(static_cast<double>(x));
        const float rounded = static_cast<float>(wanted);
        const float next = std::nextafter(std::fabs(rounded), std::numeric_limits<float>::infinity());
        most = std::fmax(most, std::fabs(ours(x) - wanted) / (next - std::fabs(rounded)));
    }
    return most;
}
int main() {
    const float big = std::numeric_limits<float>::infinity(), none = std::numeric_limits<float>::quiet_NaN();
#define ROW(name, exact, low, high) \\
    std::printf("%%s %%.3f %%g %%g %%g\\n", #name, worst([](float x) { return math::name(x); }, \\
        [](double x) { return exact; }, low, high), math::name(big), math::name(-big), math::name(none))
    ROW(exp, std::exp(x), -87.0f, 88.5f);
    ROW(expm1, std::expm1(x), -20.0f, 88.0f);
    ROW(expm1, std::expm1(x), -0.4f, 0.4f);
    ROW(log, std::log(x), 1e-38f, 4.0f);
    ROW(log1p, std::log1p(x), -0.99f, 1.0f);
    ROW(tanh, std::tanh(x), -12.0f, 12.0f);
    ROW(sigmoid, 1 / (1 + std::exp(-x)), -85.0f, 85.0f);
    ROW(softplus, std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))), -80.0f, 80.0f);
    std::printf("%%g %%g %%g\\n", math::exp(-200.0f), math::log(0.0f), math::log(-1.0f));
}
"""


@needs_compiler
def test_elementary_functions_keep_their_stated_errors(tmp_path: Path) -> None:
    source = Path(build.__file__ or "").with_name("math.h").read_text()
    (tmp_path / "measure.cpp").write_text(MEASURE % source)
    command = [
        "c++",
        "-std=c++17",
        "-O2",
        "-ffp-contract=fast",
        "-march=native",
        "measure.cpp",
        "-o",
        "measure",
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    lines = subprocess.run(
        ["./measure"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    stated = {"exp": 2, "expm1": 2, "log": 2, "log1p": 3, "tanh": 3, "sigmoid": 3, "softplus": 4}
    edges = {
        "exp": ("inf", "0"), "expm1": ("inf", "-1"), "log": ("inf", "nan"), "log1p": ("inf", "nan"),
        "tanh": ("1", "-1"), "sigmoid": ("1", "0"), "softplus": ("inf", "0"),
    }  # fmt: skip
    for line in lines[:8]:
        name, worst, *ends, undefined = line.split()
        assert float(worst) <= stated[name], line
        assert tuple(end.lstrip("-") if end == "-nan" else end for end in ends) == edges[name]
        assert undefined.endswith("nan")
    assert lines[8].split()[:2] == ["0", "-inf"]
