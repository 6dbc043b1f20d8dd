"""`seqc quantize`: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqc
from seqc import quantization
from seqc.backend import backend
from seqc.bundled import folder
from seqc.cli import main
from seqc.errors import UserError
from seqc.quantization import judge
from seqc.runtime import load_runner, throughput

SIZES = {"d": 72, "w": 80, "h": 2, "n": 16, "layers": 1}
GRIFFIN = seqc.load(folder("specs") / "hybrid" / "griffin.seq").model(**SIZES)
TEXT = "".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(60))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "built"
    GRIFFIN.onnx(path)
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    monkeypatch.setattr(quantization, "throughput", partial(throughput, prompt=8, steps=2, repeats=1))


def said_by(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands on the standard error, wherever its lines end: that depends on how long the paths are."""
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_a_folder_becomes_one_that_runs(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ("quantize", built, "-o", "small", "--format", "4bit", "--calibrate", "text.txt")
    assert run(*wanted) == 0
    shown = capsys.readouterr().out
    for words in ("perplexity", "error of the logits", "size, MB", "decode, tokens/s", "text.txt", "in 4bit"):
        assert words in shown
    assert {path.name for path in Path("small").iterdir()} == {
        "README.md",
        "manifest.json",
        "prefill.onnx",
        "step.onnx",
        "weights.data",
    }
    assert run("run", "small", "-p", "def ", "-l", "4", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) == 4
    assert run(*wanted, "--json") == 0  # what it wrote is replaced
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (report["version"], report["format"], report["block"]) == (1, "4bit", None)
    assert report["calibrated"] + report["judged"] == len(TEXT)
    assert 0.05 < report["logits_error"] < 0.6
    assert report["after"]["bytes"] < 0.25 * report["before"]["bytes"]
    assert report["after"]["bytes"] == sum(
        (Path("small") / name).stat().st_size for name in ("prefill.onnx", "step.onnx", "weights.data")
    )


def test_a_spec_is_compiled_first(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [part for name, size in SIZES.items() for part in ("--set", f"{name}={size}")]
    assert (
        run("quantize", "griffin", *sizes, "-w", built / "weights.safetensors", "-o", "small", "--json") == 0
    )
    assert json.loads(capsys.readouterr().out)["format"] == "int8"
    done = seqc.quantize(built, "again")
    assert 1e-3 < (done.logits_error or 0) < 0.2
    assert done.judged_by == "what the model writes itself"
    for file in ("prefill.onnx", "step.onnx", "weights.data"):
        assert (Path("small") / file).read_bytes() == (Path("again") / file).read_bytes()


def test_what_reads_no_tokens_is_measured_by_its_size(tmp_path: Path) -> None:
    spec = seqc.loads("model m(x[d]; d = 72) {\n    return linear(x) -> [d]\n}\n")
    spec.model().onnx("in")
    done = seqc.quantize("in", "out", "8bit")
    assert (done.before.perplexity, done.logits_error, done.judged) == (None, None, 0)
    assert done.after.bytes < done.before.bytes
    with pytest.raises(UserError, match="cannot read a text"):
        seqc.quantize("in", "out", calibrate="text.txt")


def test_the_same_model_is_judged_to_be_the_same(built: Path) -> None:
    """Against the perplexity of all tokens but the first of a piece, computed at once."""
    runner, tokens = load_runner(built), np.frombuffer(TEXT.encode(), np.uint8)[:700].astype(np.int64)
    quality = judge(runner, runner, tokens.tolist())
    assert (quality.error, quality.same) == (0.0, 1.0)
    losses: list[float] = []
    for start in (0, 512):
        piece = tokens[start : start + 513]
        logits = runner.prefill(piece[None, :-1])[0]["logits"][0].astype(np.float64)
        scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses += [-float(scores[i, token]) for i, token in enumerate(piece[1:])]
    assert quality.before == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--format", "int3"), 1, "there is no format `int3`"),
        (("--block", "32"), 1, "`int8` has no blocks"),
        (("--format", "4bit", "--block", "31"), 1, "no blocks of 31"),
        (("--calibrate", "nothing.txt"), 1, "nothing.txt"),
        (("--evaluate", "."), 1, "cannot read `.`"),
        (("--calibrate", "short.txt"), 1, "too short"),
        (("--tokenizer", "nothing.json"), 1, "nothing.json"),
        (("--set", "d=8"), 2, "compiled already"),
    ],
)
def test_nothing_is_written_on_error(
    built: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], code: int, said: str
) -> None:
    Path("short.txt").write_text("x" * 100)
    assert run("quantize", built, "-o", "small", *more) == code
    assert said in said_by(capsys)
    assert {path.name for path in Path().iterdir()} == {"text.txt", "short.txt"}


def test_folders_that_cannot_be_quantised(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GRIFFIN.write("torch", "module")
    assert run("quantize", "module", "-o", "small") == 1
    assert "compile it for onnx" in said_by(capsys)
    assert run("quantize", ".", "-o", "small") == 1
    assert "manifest.json" in said_by(capsys)
    assert run("quantize", built, "-o", built) == 1
    assert "would be replaced" in said_by(capsys)
    seqc.quantize(built, "small", "8bit")
    assert run("quantize", "small", "-o", "smaller") == 1
    assert "quantised already" in capsys.readouterr().err
    (Path("small") / "step.onnx").write_bytes(b"nothing")
    assert run("quantize", "small", "-o", "smaller") == 1
    assert "is damaged" in capsys.readouterr().err


def test_a_folder_stays_when_the_next_one_fails(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seqc.quantize(built, "small", "8bit")
    before = {path.name: path.read_bytes() for path in Path("small").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(backend("onnx")), "quantize", full)
    with pytest.raises(UserError, match="No space left on device"):
        seqc.quantize(built, "small", "int8")
    assert {path.name: path.read_bytes() for path in Path("small").iterdir()} == before
    assert {path.name for path in Path().iterdir()} == {"small", "text.txt"}
