"""Texts that are made to hurt: each gives a diagnostic, quickly."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator

import pytest

from seqc.diagnostics import SpecError
from seqc.syntax import format_text, parse_text
from seqc.syntax import tree as t
from seqc.syntax.build import MAX_DEPTH
from seqc.syntax.lexer import MAX_CHARACTERS, MAX_NAME, MAX_NESTING, MAX_TOKENS

BODY = "rule r(x) { return %s }"

HOSTILE = {
    "characters": ("E0801", "#" * (MAX_CHARACTERS + 1)),
    "words": ("E0801", "a " * (MAX_TOKENS + 1)),
    "parentheses": ("E0802", BODY % ("(" * 30_000)),
    "balanced parentheses": ("E0802", BODY % ("(" * 10_000 + "x" + ")" * 10_000)),
    "blocks": ("E0802", "model m(x) {" + "repeat 1 {" * 10_000),
    "a sum": ("E0802", BODY % " + ".join(["x"] * 10_000)),
    "signs": ("E0802", BODY % ("-" * 10_000 + "x")),
    "powers": ("E0802", BODY % "^".join(["x"] * 10_000)),
    "else if": ("E0802", "model m(x) { if 1 { } " + "else if 1 { } " * 4_000 + "}"),
    "digits": ("E0803", BODY % ("9" * 100_000)),
    "a large integer": ("E0803", BODY % "99999999999999"),
    "a large exponent": ("E0803", BODY % "1e99999999"),
    "a name": ("E0804", BODY % ("x" * 100_000)),
    "quotation marks": ("E0107", 'use "' + "x" * 50_000),
    "control characters": ("E0101", "\x00\x1b[2J\u202e" * 1_000),
    "faults everywhere": ("E0106", BODY % "" * 5_000),
    "faults in one rule": ("E0106", "rule r() {" + "let x = * " * 9_000 + "}"),
    "surrogates": ("E0101", "\ud800" * 100),
}


@pytest.fixture
def alone() -> Iterator[None]:
    """Time is that of the test: no collection goes through what thousands of other tests have left."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_quickly(name: str) -> None:
    code, text = HOSTILE[name]
    parse_text("use std")
    start = time.thread_time()
    with pytest.raises(SpecError) as caught:
        parse_text(text)
    assert code in caught.value.codes
    assert len(str(caught.value)) < 20_000
    assert time.thread_time() - start < 2.0


def test_what_the_limits_allow_is_parsed_and_walked() -> None:
    deep = "(" * (MAX_NESTING - 1) + "x" + ")" * (MAX_NESTING - 1)
    long = " + ".join(["x"] * MAX_DEPTH)
    name = "x" * MAX_NAME
    file = parse_text(BODY % f"{deep}, {long}, {name}")
    assert sum(1 for _ in t.walk(file)) > MAX_DEPTH
    room = sys.getrecursionlimit()
    assert hash(file) == hash(parse_text(format_text(BODY % f"{deep}, {long}, {name}")))
    assert room == sys.getrecursionlimit()


def test_messages_cannot_drive_a_terminal() -> None:
    with pytest.raises(SpecError) as caught:
        parse_text("rule r() { return \x1b[31m \u202e \x07 }")
    assert not set(str(caught.value)) & set("\x1b\u202e\x07")
