"""Programs made from the grammar, right and broken, and text of other languages in every place of a program."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqc.diagnostics import SpecError
from seqc.syntax import format_text, parse_text
from seqc.syntax import tree as t
from tests.syntax.mutants import TOKEN
from tests.syntax.programs import FIVE, OTHER
from tests.syntax.test_fuzz import read

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = st.sampled_from(["x", "y", "S", "alpha", "rms_norm", "_a1"])
axes = st.lists(st.sampled_from(["n", "m", "d"]), min_size=1, max_size=3, unique=True).map(", ".join)
numbers = st.sampled_from(["0", "1", "0.5", "1e-6", "2.5E3", "64"])
leaves = names | numbers | names.map("{}'".format) | st.sampled_from(["true", "false"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "/", "%", "^"])
    arguments = st.lists(inner, max_size=3).map(", ".join)
    call = st.builds("{}({})".format, names, arguments)
    return st.one_of(
        st.builds("({} {} {})".format, inner, operators, inner),
        st.builds("{} {} {}".format, inner, operators, inner),
        st.builds("(-{})".format, inner),
        st.builds("(not {})".format, inner),
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "and", "or"]),
            inner,
        ),
        st.builds("{}[{}]({})".format, names, axes, inner),
        st.builds("{}({}, rate = {})".format, names, inner, inner),
        st.builds("({})[n -> e]".format, inner),
        st.builds("{} -> [{}]".format, call, axes),
        st.builds("{} as z -> [{}]".format, call, axes),
        call,
    )


expressions = st.recursive(leaves, larger, max_leaves=8)
let = st.builds("let {}[{}] = {}".format, names, axes, expressions)
in_rules = st.one_of(
    let,
    st.builds("{}' = {}".format, names, expressions),
    st.builds("memory {}: {} -> {}".format, names, axes, axes),
    st.builds("memory {}: {} complex".format, names, axes),
    st.builds("objective {}".format, expressions),
    st.builds("retention {}".format, expressions),
    st.builds("learner S: gd(rate = {})".format, expressions),
    st.builds("proximal ridge({})".format, expressions),
    st.builds("state {}[{}] = {}".format, names, axes, expressions),
    st.builds("state {} complex".format, names),
    st.builds("store {}[s, n] = {}, window = {}".format, names, expressions, numbers),
    st.builds("param {}[{}] = {}".format, names, axes, expressions),
)


def around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    body = st.lists(inner, max_size=3).map("\n".join)
    return st.one_of(
        st.builds("repeat {} as l {{ {} }}".format, numbers, body),
        st.builds("repeat {} shared {{ {} }}".format, names, body),
        st.builds("if {} {{ {} }}".format, numbers, body),
        st.builds("if {} {{ {} }} else if {} {{ {} }} else {{ {} }}".format, names, body, names, body, body),
    )


in_blocks = st.recursive(let | st.builds("{} = {}".format, names, expressions), around, max_leaves=5)


def item(kind: str, statements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    header = "{}(x[d], y; n = {})"
    return st.builds(
        (kind + " " + header + " {{\n{}\nreturn {}\n}}").format,
        names,
        expressions,
        st.lists(statements, max_size=5).map("\n".join),
        expressions,
    )


programs = st.lists(
    item("rule", in_rules) | item("block", in_blocks) | item("model", in_blocks), max_size=3
).map("\n".join)


@quick
@given(programs)
def test_what_the_grammar_makes_is_parsed_and_laid_out(text: str) -> None:
    file = parse_text(text)
    once = format_text(text)
    assert parse_text(once) == file
    assert format_text(once) == once


@quick
@given(
    programs, st.integers(0, 10_000), st.sampled_from(["", "(", ")", "{", "}", "=", "let", "->", "3", "'"])
)
def test_what_is_broken_is_refused_or_still_right(text: str, place: int, instead: str) -> None:
    words = TOKEN.findall(text)
    if words:
        words[place % len(words)] = instead
    read("".join(words))


PAYLOADS = [
    "__import__('os').system('x')",
    "x; import os",
    '"""\nimport os\n"""',
    "../../etc/passwd",
    "x\n    return 1",
    "{x!r}",
    "ai.onnx::If",
    "x\u202e\u2066",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_of_other_languages_never_becomes_a_name(payload: str) -> None:
    words = TOKEN.findall(FIVE + OTHER)
    places = [i for i, word in enumerate(words) if word[0].isalnum() or word[0] == '"'][::17]
    for place in places:
        text = "".join([*words[:place], payload, *words[place + 1 :]])
        try:
            file = parse_text(text)
        except SpecError:
            continue
        for node in t.walk(file):
            if isinstance(node, t.Ident | t.Name):
                assert re.fullmatch(
                    r"[A-Za-z_][A-Za-z0-9_]*", node.text if isinstance(node, t.Ident) else node.name
                )
