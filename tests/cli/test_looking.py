"""`seqc explain`, `trace` and `list` do what their help says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqc.cli.list import table
from tests.cli.parts import SMALL, Done, Seqc

TWO = """
rule two(x[d]) {
    state a[d] = 0
    state b[d] = 0
    a' = 0.5 * a + x
    b' = b + a'
    return a' + x
}
"""
NAN = "rule lost(x[d]) {\n    state  h[d] = 0\n    let    r = h / (x - x)\n    h'     = h + r\n    return h'\n}\n"

# --- explain, trace --------------------------------------------------------------------------------------------------


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


# --- list ------------------------------------------------------------------------------------------------------------


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
