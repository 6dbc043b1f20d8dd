"""No text makes anything but a tree or a `SpecError`."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqc.diagnostics import Bag, SpecError, render_all, to_json
from seqc.source import Source
from seqc.syntax import format_text, parse, parse_text
from tests.syntax.programs import FIVE, OTHER

SEEDS = [FIVE.encode(), OTHER.encode()]
WORDS = (
    b"rule block model let state memory return repeat if else as ( ) [ ] { } -> = == ' \" , ; : . ^ - # 1e9 \xff \x00"
).split()


def mutate(seed: bytes, rng: random.Random) -> bytes:
    text = bytearray(seed)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(text) + 1)
        match rng.randrange(5):
            case 0:
                text[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del text[at : at + rng.randint(1, 30)]
            case 2:
                text[at:at] = b" " + rng.choice(WORDS) + b" "
            case 3:
                other = rng.randrange(len(text) + 1)
                text[at:at] = text[other : other + rng.randint(1, 60)]
            case _:
                text[at : at + 1] = rng.choice(WORDS)
    return bytes(text)


def check(text: str) -> None:
    bag = Bag()
    source = Source(text, "fuzz.seq")
    file = parse(source, bag)
    assert (file is None) == bag.has_errors
    render_all(bag.diagnostics)
    assert all(to_json(diagnostic)["code"] == diagnostic.code for diagnostic in bag)
    spans = [diagnostic.span for diagnostic in bag]
    assert all(0 <= span.start <= span.end <= len(text) for span in spans)
    if file is not None:
        once = format_text(text)
        assert parse_text(once) == file
        assert format_text(once) == once


def mutants(seed: int, count: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        text = mutate(rng.choice(SEEDS), rng).decode("utf-8", "replace")
        try:
            check(text)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{text!r}") from error


def test_mutated_programs() -> None:
    mutants(seed=1, count=300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_mutated_programs(seed: int) -> None:
    mutants(seed, count=2_000)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="rule xS'(){}[]->=+-*/^%<>!,;:.\"#\n 01e_", max_size=80))
def test_soup(text: str) -> None:
    check(text)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    check(f"rule r(x) {{ return {text} }}")


def test_a_spec_error_prints_itself() -> None:
    with pytest.raises(SpecError) as caught:
        parse_text("rule r(x) { return y z }", "a.seq")
    assert "a.seq:1:22" in str(caught.value)
