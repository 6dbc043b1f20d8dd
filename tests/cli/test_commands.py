"""`seqc compile`, `run`, `bench` and `conform` do what their help says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.parts import KEEP, SMALL, Seqc

# --- compile, run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_compile_and_run(seqc: Seqc, target: str) -> None:
    done = seqc("compile", "griffin", "--target", target, "-o", "built", *SMALL, "--json")
    assert done.code == 0
    names = {file["file"] for file in done.json["files"]}
    assert names >= {"manifest.json", "README.md"}
    assert {path.name for path in Path().iterdir()} == {"built"}
    done = seqc("run", "built", "--prompt", "def ", "--length", "5", "--json")
    assert done.code == 0
    assert len(done.json["bytes"]) == 5


def test_both_targets_continue_alike(seqc: Seqc) -> None:
    for target in ("torch", "onnx"):
        weights = () if target == "torch" else ("--weights", "torch/weights.safetensors")
        assert seqc("compile", "griffin", "-t", target, "-o", target, *SMALL, *weights).code == 0
    runs = [
        seqc("run", target, "-p", "import", "-l", "20", "--json").json["bytes"]
        for target in ("torch", "onnx")
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--target", "fortran"),
        ("--set", "layers=0.5"),
        ("--set", "nothing=1"),
        ("--target", "onnx", "--profile", "slow"),
        ("--weights", "missing.safetensors"),
        ("--weights", "x" * 5000),
        ("--out", "x" * 5000),
    ],
)
def test_nothing_is_written_on_error(seqc: Seqc, wrong: tuple[str, ...]) -> None:
    done = seqc("compile", "griffin", "-o", "built", *wrong)
    assert done.code == 1, done.err
    assert list(Path().iterdir()) == []


def test_weights_that_no_memory_holds_are_refused(seqc: Seqc) -> None:
    done = seqc("compile", "griffin", "-o", "built", "--set", "d=131072")
    assert done.code == 1
    assert "GiB of memory" in done.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("vocabulary", [8, 300])
def test_run_wants_a_model_of_bytes(seqc: Seqc, vocabulary: int) -> None:
    more = ("--set", f"vocab={vocabulary}")
    assert seqc("compile", "griffin", "-t", "onnx", "-o", "built", *SMALL, *more).code == 0
    done = seqc("run", "built", "--prompt", "x")
    assert done.code == 1
    assert f"{vocabulary} tokens" in done.err


def test_run_samples(seqc: Seqc) -> None:
    assert seqc("compile", "griffin", "-t", "onnx", "-o", "built", *SMALL).code == 0
    hot = ("run", "built", "-p", "x", "-l", "30", "--json", "--temperature", "5")
    texts = [seqc(*hot, "--seed", str(seed)).json["tokens"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    greedy = seqc("run", "built", "-p", "x", "-l", "30", "--json").json["tokens"]
    assert seqc(*hot, "--top-k", "1").json["tokens"] == greedy
    assert seqc("run", "built", "-p", "x", "--top-k", "1").code == 2
    assert seqc("run", "built", "-p", "x", "--tokenizer", "nothing.json").code == 1


def test_weights_must_fit(seqc: Seqc) -> None:
    assert seqc("compile", "griffin", "-t", "onnx", "-o", "one", *SMALL).code == 0
    assert (Path("one") / "weights.safetensors").is_file()
    done = seqc(
        "compile", "griffin", "-o", "two", "-w", "one/weights.safetensors", *SMALL, "--set", "vocab=8"
    )
    assert done.code == 1
    assert "`embed.weight` is [256, 8]" in done.err
    Path("bad.safetensors").write_bytes(b"not tensors")
    done = seqc("compile", "griffin", "-o", "two", "-w", "bad.safetensors", *SMALL)
    assert done.code == 1
    assert "as safetensors" in done.err
    assert not Path("two").exists()


def test_run_wants_a_compiled_folder(seqc: Seqc, keep: Path) -> None:
    assert seqc("run", ".", "--prompt", "x").code == 1
    assert seqc("run", "nowhere", "--prompt", "x").code == 1


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_a_damaged_folder_is_no_traceback(seqc: Seqc, target: str) -> None:
    assert seqc("compile", "griffin", "--target", target, "-o", "built", *SMALL).code == 0
    manifest = json.loads(Path("built/manifest.json").read_text())
    victims = [path for path in Path("built").iterdir() if path.suffix in {".onnx", ".py"}]
    if target == "torch":
        victims.append(Path("built/weights.safetensors"))
    for victim in victims:
        whole = victim.read_bytes()
        victim.unlink()
        assert seqc("run", "built", "--prompt", "x").code == 1
        victim.write_bytes(whole)
    for key in ("module", "class") if target == "torch" else ("inputs", "outputs", "states"):
        Path("built/manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != key}))
        done = seqc("run", "built", "--prompt", "x")
        assert (done.code, "Traceback" in done.err) == (1, False), done.err


# --- bench -----------------------------------------------------------------------------------------------------------


def test_bench_measures_every_target_that_runs(seqc: Seqc) -> None:
    done = seqc("bench", "griffin", "--length", "16", *SMALL, "--json")
    assert done.code == 0
    rows = {row["target"]: row for row in done.json["rows"]}
    assert {"torch", "cpu", "onnx"} <= {*rows}
    assert all(row[kind]["median"] > 0 for row in rows.values() for kind in ("forward", "step"))
    assert ["backward" in rows[name] for name in ("torch", "onnx")] == [True, False]


def test_bench_measures_rules_and_their_schedules(seqc: Seqc) -> None:
    rule = ("bench", "gated_delta", "--name", "gated_delta", "--set", "n=4", "--set", "m=4", "--length", "16")
    done = seqc(*rule, "--target", "torch", "--target", "onnx:ort", "--schedule", "all", "--json")
    measured = {(row["target"], row["schedule"]) for row in done.json["rows"]}
    assert {("torch", "default"), ("torch", "chunk"), ("torch", "loop"), ("onnx:ort", "loop")} <= measured
    assert done.json["unit"] == "ms"
    shown = seqc(*rule, "--target", "torch", "--batch", "2").out
    assert "with backward, ms" in shown


def test_bench_says_what_it_does_not_measure(seqc: Seqc) -> None:
    Path("cell.seq").write_text(CELL)
    cell = ("bench", "cell.seq", "--set", "d=3", "--length", "8")
    done = seqc(*cell, "--target", "torch", "--target", "onnx", "--schedule", "newton", "--json")
    assert [row["target"] for row in done.json["rows"]] == ["torch"]
    assert "not measured: onnx, newton: " in done.err
    assert seqc(*cell, "--target", "onnx", "--schedule", "newton").code == 1
    done = seqc(*cell, "--target", "onnx:none")
    assert (done.code, "no profile `none`" in done.err) == (1, True)


# --- conform ---------------------------------------------------------------------------------------------------------


def test_conform_reports(seqc: Seqc, keep: Path) -> None:
    done = seqc(
        "conform", keep, "--fast", "--check", "values", "--check", "steps", "--junit", "report.xml", "--json"
    )
    assert done.code == 0
    assert done.json["passed"] is True
    assert {outcome["backend"] for outcome in done.json["outcomes"]} >= {"torch", "onnx"}
    assert Path("report.xml").read_text().startswith("<?xml")


CELL = "rule cell(x[d]) {\n    state  h[d] = 0\n    h'     = tanh(0.5 * h + x)\n    return h'\n}\n"


def test_a_schedule_is_compiled(seqc: Seqc) -> None:
    Path("cell.seq").write_text(CELL)
    for mode, solver in (("newton", "(NewtonStage)"), ("loop", "(Stage)")):
        assert seqc("compile", "cell.seq", "--set", "d=3", "--schedule", mode, "-o", mode).code == 0
        assert solver in Path(mode, "cell.py").read_text()


@pytest.mark.parametrize("command", [("compile", "-o", "built"), ("conform", "--fast")])
def test_a_schedule_that_a_rule_lacks_is_met_with_those_it_has(seqc: Seqc, command: tuple[str, ...]) -> None:
    Path("cell.seq").write_text(CELL)
    done = seqc(command[0], "cell.seq", "--set", "d=3", "--schedule", "scan", *command[1:])
    assert done.code == 1
    assert "E0902" in done.err
    assert "`newton` and `loop`" in done.err
    assert not Path("built").exists()


def test_onnx_has_no_newton(seqc: Seqc) -> None:
    Path("cell.seq").write_text(CELL)
    done = seqc("compile", "cell.seq", "--set", "d=3", "--schedule", "newton", "-t", "onnx", "-o", "built")
    assert (done.code, Path("built").exists()) == (1, False)
    assert "E0901" in done.err


def test_conform_examines_a_schedule(seqc: Seqc) -> None:
    Path("both.seq").write_text(CELL + KEEP)
    report = seqc("conform", "both.seq", "--fast", "--check", "values", "--schedule", "newton", "--json").json
    examined = {
        (one["target"], one["backend"], one["mode"])
        for one in report["outcomes"]
        if one["status"] == "passed"
    }
    assert examined == {("cell", "torch", "newton")}


def test_conform_wants_something_to_examine(seqc: Seqc) -> None:
    Path("part.seq").write_text("block keep(x[d]) {\n    return x\n}\n")
    done = seqc("conform", "part.seq")
    assert done.code == 1
    assert "this spec has no rule" in done.err


def test_conform_fails_loudly(seqc: Seqc, keep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqc import oracle

    right = oracle.run_recurrence

    def wrong(*arguments: Any, **options: Any) -> Any:
        outputs, state = right(*arguments, **options)
        return tuple(1.001 * output for output in outputs), state

    monkeypatch.setattr("seqc.conformance.case.run_recurrence", wrong)
    done = seqc("conform", keep, "--fast", "--target", "onnx", "--check", "values")
    assert done.code == 1
    assert "failed" in done.out
