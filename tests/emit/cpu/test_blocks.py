"""Blocks of tokens as products of matrices against the token loop, and where they are chosen."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import seqc
from benchmarks.cpu import CORRECT, RULES, WRITE
from benchmarks.cpu import rule as matrix
from benchmarks.fit_blocks import TABLE, both, recurrence
from seqc.explain import text
from seqc.ir.recurrence import Recurrence
from tests.emit.cpu import zoo
from tests.emit.cpu.outside import outside
from tests.emit.cpu.parts import fused, has_blocks, in_blocks, plain, text_of
from tests.emit.cpu.test_memory import SANITIZED
from tests.emit.cpu.test_rules import with_threads
from tests.emit.torch.rules import error, everything, inputs_of

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")

NORMALISED = """
rule normalised(q[n], k[n], v[m], g) {
    param  w[n] = uniform(0.5, 1)
    state  S[m, n] = 0.1
    state  z[n, m] = 0
    S'     = g * S + v * (w * k)
    z'     = w * z + v * k
    return sum[n](S' * q) + sum[n](z * k)
}
"""
TEXTS = {title: text for title, (text, _) in RULES.items()} | {"normalised": NORMALISED}
SIZES = ((5, 7), (16, 40))
BLOCK = 16


def made(title: str, n: int, m: int) -> Recurrence:
    return seqc.loads(TEXTS[title]).rule(n=n, m=m).recurrence


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("title", TEXTS)
def test_blocks_compute_what_tokens_compute(title: str, n: int, m: int) -> None:
    rec = made(title, n, m)
    module, tokens = in_blocks(rec).double(), plain(rec).double()
    tokens.load_state_dict(module.state_dict())
    assert "forwards_in_blocks" in text_of(module)
    for time in (1, BLOCK, 2 * BLOCK + 1, 70):
        inputs = inputs_of(rec, 2, time)
        for reset in (None, torch.rand(2, time, generator=torch.Generator().manual_seed(5)) < 0.04):
            found, wanted = everything(module, inputs, reset=reset), everything(tokens, inputs, reset=reset)
            assert all(error(x, y) < 1e-12 for x, y in zip(found, wanted, strict=True))


@pytest.mark.parametrize("gate", [0.0, 1.0, 1e-38, -1.0])
@pytest.mark.parametrize("title", ["one gate a head", "gated linear attention", "gated delta"])
def test_any_gate_gives_single_precision(title: str, gate: float) -> None:
    rec = made(title, 8, 16)
    inputs = inputs_of(rec, 2, 5 * BLOCK)
    name = "g" if "g" in inputs else "w"
    inputs[name] = torch.where(torch.rand(inputs[name].shape) < 0.3, gate, inputs[name].float()).double()
    given = {key: x.float() for key, x in inputs.items()}
    found = zoo.everything(in_blocks(rec).float(), given)
    wanted = zoo.everything(plain(rec).double(), {key: x.double() for key, x in given.items()})
    for side, other in zip(found, wanted, strict=True):
        assert all(error(x.double(), y) < 1e-5 for x, y in zip(side, other, strict=True))


@pytest.mark.slow
def test_so_they_do_for_all_rules_of_the_specs() -> None:
    errors: dict[str, float] = {}
    for name, rec in zoo.rules_with_units():
        if has_blocks(rec):
            errors[name] = zoo.apart(in_blocks(rec).double(), rec, 2 * BLOCK + 3)
    assert len(errors) > 10
    assert {name: error for name, error in errors.items() if not error < 1e-9} == {}


@pytest.mark.parametrize("cut", [BLOCK, 21])
def test_a_sequence_may_be_cut_anywhere(cut: int) -> None:
    rec = made("gated delta", 5, 7)
    module, inputs = in_blocks(rec).double(), inputs_of(rec, 2, 70)
    whole, last = module(**inputs)
    first, state = module(**{name: x[:, :cut] for name, x in inputs.items()})
    rest, end = module(**{name: x[:, cut:] for name, x in inputs.items()}, state=state)
    assert error(torch.cat([first, rest], 1), whole) < 1e-12
    assert error(end["S"], last["S"]) < 1e-12


@pytest.mark.parametrize("title", TEXTS)
def test_one_thread_and_two_give_the_same_bits(title: str) -> None:
    rec = made(title, 5, 7)
    module, inputs = in_blocks(rec).double(), inputs_of(rec, 3, 70)
    one, two = (with_threads(module, inputs, threads) for threads in (1, 2))
    assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))


@pytest.mark.parametrize("title", ["one gate a head", "delta"])
def test_blocks_stay_within_their_tensors(
    title: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rec = made(title, 5, 7)
    module: Any = outside(in_blocks(rec), monkeypatch, tmp_path, SANITIZED)
    assert zoo.apart(module, rec, 2 * BLOCK + 3) < 1e-9


def test_a_unit_with_blocks_compiles_alone_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "unit.cpp"
    file.write_text(text_of(in_blocks(made("gated delta", 16, 40))), encoding="utf-8")
    flags = ("-std=c++17", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror", "-O2")
    run = subprocess.run(
        ["c++", *flags, "-c", str(file), "-o", str(tmp_path / "unit.o")], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


# --- What is chosen ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", json.loads(TABLE.read_text(encoding="utf-8")), ids=str)
def test_what_is_chosen_takes_little_more_than_the_faster_way(row: dict[str, Any]) -> None:
    ways = both(recurrence(row["rule"], row["n"], row["m"]))
    alone, together = (sum(x.seconds for x in own[: 1 + row["training"]]) for own in ways)
    chosen = row["loop" if alone < together else "blocks"]
    assert chosen <= 1.3 * min(row["loop"], row["blocks"])


def test_the_table_has_pairs_in_which_either_way_is_faster() -> None:
    better = [row["loop"] < row["blocks"] for row in json.loads(TABLE.read_text(encoding="utf-8"))]
    assert 10 < sum(better) < len(better) - 10


def test_small_memories_are_taken_by_tokens_and_large_ones_in_blocks() -> None:
    small, some, large = (text_of(fused(made("one gate a head", d, d))) for d in (16, 64, 128))
    assert "in_blocks" not in small
    assert ("forwards_in_blocks(threads" in some, "backwards_in_blocks(\n" in some) == (False, True)
    assert "forwards_in_blocks(threads" in large


def test_tokens_forwards_and_blocks_backwards_agree() -> None:
    rec = made("one gate a head", 64, 64)
    assert zoo.apart(fused(rec).double(), rec, 2 * BLOCK + 3) < 1e-9


def test_bfloat16_is_widened() -> None:
    rec = made("one gate a head", 16, 40)
    rounded = {name: x.bfloat16() for name, x in inputs_of(rec, 2, 37).items()}
    found = zoo.everything(in_blocks(rec), rounded)
    wanted = zoo.everything(plain(rec).double(), {name: x.double() for name, x in rounded.items()})
    for side, other, most in zip(found, wanted, (5e-3, 2e-2), strict=True):
        assert all(error(x.double(), y) < most for x, y in zip(side, other, strict=True))


@pytest.mark.parametrize("make", [in_blocks, fused])
@pytest.mark.parametrize("own", [matrix("", "0.9", f"tanh({WRITE})"), matrix(", w[m]", "w", WRITE)])
def test_what_is_no_product_of_matrices_is_taken_by_tokens(make: Any, own: str) -> None:
    assert "in_blocks" not in text_of(make(seqc.loads(own).rule(n=128, m=128).recurrence))


def test_so_is_what_solves_a_system_for_every_column() -> None:
    own = matrix(", w[n], u[m]", "w * u", CORRECT.replace("beta", "1"))
    assert "in_blocks" not in text_of(in_blocks(seqc.loads(own).rule(n=128, m=128).recurrence))


def test_explain_says_where_there_are_blocks() -> None:
    facts = seqc.loads(TEXTS["one gate a head"]).rule(n=64, m=64).report()
    how = facts["rules"][0]["schedule"]["targets"]["cpu"]["how"]
    assert how == {"blocks of 16 tokens": "backwards, as products of matrices"}
    assert "blocks of 16 tokens      backwards, as products of matrices" in text(facts)
