"""No text makes anything but a syntax tree or a `SpecError`; `tests/fuzz` goes on from there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqc.diagnostics import Bag, SpecError, render_all, to_json
from seqc.source import Source
from seqc.syntax import format_text, parse, parse_text


def read(text: str) -> None:
    """The text as far as the syntax tree, and back."""
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


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="rule xS'(){}[]->=+-*/^%<>!,;:.\"#\n 01e_", max_size=80))
def test_soup(text: str) -> None:
    read(text)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    read(f"rule r(x) {{ return {text} }}")


def test_a_spec_error_prints_itself() -> None:
    with pytest.raises(SpecError) as caught:
        parse_text("rule r(x) { return y z }", "a.seq")
    assert "a.seq:1:22" in str(caught.value)
