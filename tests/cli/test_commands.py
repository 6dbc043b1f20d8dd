"""Each command does what its help says, and leaves with the documented exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from seqc.cli import main
from seqc.cli.list import table

KEEP = "rule keep(x[d]; rate = 0.5) {\n    state  h[d] = 0\n    h'     = rate * h + x\n    return h'\n}\n"
BROKEN = "rule keep(x[d]) {\n    return y\n}\n"
TWO = """
rule two(x[d]) {
    state a[d] = 0
    state b[d] = 0
    a' = 0.5 * a + x
    b' = b + a'
    return a' + x
}
"""
# 0 / 0 at the first token.
NAN = "rule lost(x[d]) {\n    state  h[d] = 0\n    let    r = h / (x - x)\n    h'     = h + r\n    return h'\n}\n"
SMALL = ("--set", "d=8", "--set", "w=12", "--set", "h=1", "--set", "n=8", "--set", "layers=1")


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Seqc(Protocol):
    def __call__(self, *arguments: str | Path) -> Done: ...


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


# --- new, check, fmt -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", [(), ("--like", "griffin")])
def test_a_new_spec_is_right_and_laid_out(seqc: Seqc, like: tuple[str, ...]) -> None:
    assert seqc("new", "mine", *like).code == 0
    assert "model mine(" in Path("mine.seq").read_text()
    done = seqc("check", "mine.seq")
    assert (done.code, done.err) == (0, "")
    assert seqc("fmt", "--check", "mine.seq") == Done(0, "", "")


def test_a_copy_of_any_spec_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the name that is changed stands in rules, blocks and models alike."""
    import seqc
    from seqc import bundled
    from seqc.cli.new import command

    monkeypatch.chdir(tmp_path)
    for path in bundled.specs():
        name = f"own_{path.stem}"
        command(name, str(path))
        spec = seqc.load(f"{name}.seq")
        assert name in (*spec.rules, *spec.blocks, *spec.models)


def test_new_does_not_overwrite(seqc: Seqc, keep: Path) -> None:
    done = seqc("new", "keep")
    assert done.code == 1
    assert "`keep.seq` is there already" in done.err
    assert keep.read_text() == KEEP


@pytest.mark.parametrize("name", ["../escape", "a b", "1st", "", "x" * 61, "naïve"])
def test_new_takes_names_only(seqc: Seqc, name: str) -> None:
    assert seqc("new", name).code == 2
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["memory", "repeat", "swiglu"])
def test_new_leaves_the_language_its_names(seqc: Seqc, name: str) -> None:
    done = seqc("new", name)
    assert done.code == 2
    assert f"`{name}` has a meaning in the language already" in done.err
    assert list(Path().iterdir()) == []


def test_check_says_what_is_wrong(seqc: Seqc) -> None:
    Path("broken.seq").write_text(BROKEN)
    done = seqc("check", "broken.seq")
    assert done.code == 1
    assert "--> broken.seq:2:12" in done.err
    (diagnostic,) = seqc("check", "broken.seq", "--json").json
    assert (diagnostic["file"], diagnostic["line"], diagnostic["column"]) == ("broken.seq", 2, 12)
    assert diagnostic["severity"] == "error"


def test_check_of_a_right_spec_is_an_empty_list(seqc: Seqc, keep: Path) -> None:
    assert seqc("check", keep, "--format", "json").json == []


def test_check_knows_the_settings(seqc: Seqc) -> None:
    assert seqc("check", "griffin", "--set", "d=64").code == 0
    done = seqc("check", "griffin", "--set", "dd=64")
    assert done.code == 1
    assert "`dd`" in done.err


def test_fmt_rewrites_in_place(seqc: Seqc, keep: Path) -> None:
    keep.write_text(KEEP.replace("    ", "  ").replace("state  h", "state h"))
    assert seqc("fmt", "--check", keep).code == 1
    assert keep.read_text() != KEEP
    assert seqc("fmt", keep) == Done(0, "formatted keep.seq\n", "")
    assert seqc("fmt", "griffin").code == 1  # never the spec that comes with seqc
    assert keep.read_text() == KEEP


@pytest.mark.parametrize("command", ["check", "explain", "trace", "fmt", "conform", "run"])
@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", ".", "\udcff", "nowhere/a.seq", "-"])
def test_strange_names_are_the_users_mistake(seqc: Seqc, command: str, name: str) -> None:
    if (command, name) == ("fmt", "-"):
        return
    more = ("--prompt", "x") if command == "run" else ()
    done = seqc(command, name, *more)
    assert done.code in (1, 2), done.err
    assert len(done.err) < 6000


# --- explain, trace ------------------------------------------------------------------------------------------------


def test_explain_a_rule(seqc: Seqc, keep: Path) -> None:
    done = seqc("explain", keep, "--set", "d=8")
    assert done.code == 0
    for line in ("with d = 8", "h'         = rate * h + x", "class     K1", "32 bytes in 1 tensor"):
        assert line in done.out.replace("0.5 * h", "rate * h"), done.out


def test_explain_gives_a_line_its_own_place(seqc: Seqc) -> None:
    Path("two.seq").write_text(TWO)
    found = {
        (line["kind"], line["name"]): line["place"] for line in _rule(seqc("explain", "two.seq", "--json"))
    }
    assert found["state", "b[d]"] is None
    assert found["update", "b'"] == "two.seq:6:10"
    assert found["return", ""] == "two.seq:7:12"


def _rule(done: Done) -> Any:
    return done.json["rules"][0]["recurrence"]


def test_explain_as_json(seqc: Seqc) -> None:
    facts = seqc("explain", "griffin", "--json").json
    assert facts["kind"] == "model"
    assert {rule["name"] for rule in facts["rules"]} >= {"rg_lru"}
    assert facts["states"]["growth"] == "constant"
    assert facts["parameters"]["count"] == sum(
        _product(tensor["shape"]) for tensor in facts["parameters"]["tensors"]
    )
    assert facts["cost"]["decode"]["flops_per_token"] > 2 * 0.9 * facts["parameters"]["count"]


def _product(shape: list[int]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def test_explain_lists_the_tensors_of_repeated_layers_once(seqc: Seqc) -> None:
    done = seqc("explain", "griffin")
    assert "layers.*.recurrent.u.linear.weight         [192, 128] x 2" in done.out
    assert "layers.*.local_attention.y.attend_window.K  [tokens, 1, 64] x 2  (a window)" in done.out


def test_explain_a_code(seqc: Seqc) -> None:
    done = seqc("explain", "e0101")
    assert done.code == 0
    assert "E0101" in done.out
    assert "Wrong" in done.out
    assert seqc("explain", "E9999").code == 1


def test_explain_shows_implicit_attention(seqc: Seqc) -> None:
    done = seqc("explain", "linear_attention", "--name", "linear_attention", "--attention", "--tokens", "5")
    assert "output[t, m] = sum over s of A[t, s] * v[s, m], over 5 tokens" in done.out
    assert "the output is linear in k too (--of)" in done.out
    arguments = ("griffin", "--attention", "--prompt", "def", *SMALL)
    facts = seqc("explain", *arguments, "--json").json
    assert [len(found["matrix"]) for found in facts["attention"]] == [3] * len(facts["attention"])
    assert {found["rule"] for found in facts["attention"]} >= {"rg_lru"}
    assert "d = 0, largest" in seqc("explain", *arguments).out


def test_explain_says_why_there_is_no_implicit_attention(seqc: Seqc, keep: Path) -> None:
    done = seqc("explain", "gru", "--name", "gru", "--attention")
    assert done.code == 1
    assert "error[E1001]: no output of `gru` is linear in the past of any of its inputs" in done.err
    done = seqc("explain", keep, "--attention", "--of", "y")
    assert done.code == 1
    assert "it is linear in `x`" in done.err


def test_explain_shows_stability(seqc: Seqc, keep: Path) -> None:
    done = seqc("explain", keep, "--stability")
    assert "half-life    1 token\n" in done.out
    assert "perturbations fade" in done.out
    (state,) = seqc("explain", keep, "--stability", "--json").json["stability"][0]["states"]
    assert state["rate"] == 0.5
    assert seqc("explain", "griffin", "--stability", "--prompt", "", *SMALL).code == 1
    assert seqc("explain", keep, "--stability", "--tokens", "1").code == 2


def test_trace_shows_names_and_states(seqc: Seqc) -> None:
    done = seqc("trace", "griffin", "--name", "rg_lru", "--set", "d=3", "--at", "2", "--json")
    assert done.code == 0
    assert {entry["name"] for entry in done.json["entries"]} >= {"x", "log_a", "h", "return"}
    assert all(entry["token"] == 2 for entry in done.json["entries"])


def test_trace_finds_the_first_value_that_is_not_a_number(seqc: Seqc) -> None:
    Path("lost.seq").write_text(NAN)
    done = seqc("trace", "lost.seq", "--set", "d=2")
    assert done.code == 1
    assert "the first value that is not a number is at token 0" in done.out
    assert "lost.seq:3" in done.out


# --- compile, run --------------------------------------------------------------------------------------------------


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


# --- bench ---------------------------------------------------------------------------------------------------------


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


# --- conform -------------------------------------------------------------------------------------------------------


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


# --- list ----------------------------------------------------------------------------------------------------------


def test_list(seqc: Seqc) -> None:
    names = {spec["name"] for spec in seqc("list", "--json").json}
    assert "griffin" in names
    head, *lines = seqc("list").out.splitlines()
    assert head.split() == ["name", "family", "class", "schedule", "conform", "error", "about"]
    assert not any(line.endswith("…") for line in lines)
    assert {target["target"] for target in seqc("list", "targets", "--json").json} >= {"torch", "onnx"}
    assert "E0101" in {code["code"] for code in seqc("list", "codes", "--json").json}


@pytest.mark.parametrize(("width", "headings"), [(80, 4), (60, 3), (30, 2), (None, 5)])
def test_a_narrow_list_has_fewer_columns(width: int | None, headings: int) -> None:
    row: dict[str, object] = {"name": "n" * 10, "class": "c" * 12, "mode": "m" * 18, "error": "e" * 30}
    rows = [row | {"items": {}, "about": "a" * length} for length in (5, 90)]
    head, short, long = table(rows, width)
    assert len(head.split()) == headings
    assert short.endswith("  aaaaa")
    assert len(long) == (width or 10 + 12 + 18 + 30 + 8 + 90)
    assert long.endswith("…") == (width is not None)


def test_list_shows_what_was_recorded(seqc: Seqc, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"kind": "rule", "classes": [{"code": "K2"}], "mode": "chunk"}
    one = {
        "backends": {"torch": {"passed": 9, "failed": 0}, "onnx": {"passed": 9, "failed": 0}},
        "worst_error": 2e-7,
        "ill_conditioned": 0,
        "worst_ill_conditioned": 0,
    }
    two = {
        "backends": {"torch": {"passed": 9, "failed": 1}, "onnx": {"passed": 0, "failed": 0}},
        "worst_error": 0,
        "ill_conditioned": 0,
        "worst_ill_conditioned": 0,
    }
    row = {"facts": {"retain": facts, "retnet": facts}, "findings": {"retain": one, "retnet": two}}
    monkeypatch.setattr("seqc.zoo.read", lambda: {"linear/retnet.seq": row})
    specs = {spec["name"]: spec for spec in seqc("list", "--json").json}
    assert [specs["retnet"][key] for key in ("class", "schedule", "conform", "error")] == [
        "K2",
        "chunk",
        "onnx*",
        "2e-07",
    ]
    assert specs["retnet"]["items"]["retain"]["worst_error"] == 2e-7
    assert specs["griffin"]["conform"] == "not examined"
