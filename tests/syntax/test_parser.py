"""What a text becomes."""

from __future__ import annotations

import re
import time

import pytest

from seqc.diagnostics import Bag, SpecError
from seqc.diagnostics.syntax import KEYWORDS
from seqc.source import Source
from seqc.syntax import parse, parse_text
from seqc.syntax import tree as t
from seqc.syntax.lexer import grammar
from tests.syntax.programs import FIVE, OTHER


def expression(text: str) -> t.Expr:
    rule = parse_text(f"rule r() {{ return {text} }}").items[0]
    assert isinstance(rule, t.Rule)
    statement = rule.body[0]
    assert isinstance(statement, t.Return)
    return statement.values[0]


def spelled(node: t.Node) -> str:
    """An expression with every pair of parentheses written."""
    match node:
        case t.Binary(op, left, right):
            return f"({spelled(left)} {op} {spelled(right)})"
        case t.Unary(op, operand):
            return f"({op} {spelled(operand)})"
        case t.Name(name, primed):
            return name + "'" * primed
        case t.Number(value):
            return str(value)
        case _:
            return node.span.text


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a - b - c", "((a - b) - c)"),
        ("a + b * c", "(a + (b * c))"),
        ("-a^2", "(- (a ^ 2))"),
        ("2^-a", "(2 ^ (- a))"),
        ("a^b^c", "(a ^ (b ^ c))"),
        ("-a * b", "((- a) * b)"),
        ("a / b % c", "((a / b) % c)"),
        ("a + 1 < b and not c or d", "((((a + 1) < b) and (not c)) or d)"),
        ("S' * S", "(S' * S)"),
        ("(a - (b - c))", "(a - (b - c))"),
    ],
)
def test_operators_bind_as_in_the_reference(text: str, meaning: str) -> None:
    assert spelled(expression(text)) == meaning


def test_the_programs_parse() -> None:
    kinds = [type(item).__name__ for item in parse_text(FIVE).items]
    assert kinds == ["Rule", "Rule", "Rule", "Rule", "Block", "Model"]
    assert parse_text(OTHER).version == 1


def test_every_kind_of_node_comes_up() -> None:
    seen = {type(node) for file in (FIVE, OTHER) for node in t.walk(parse_text(file))}
    nodes = {value for value in vars(t).values() if isinstance(value, type) and issubclass(value, t.Node)}
    assert seen == nodes - {t.Node}


def test_a_call_keeps_what_is_written_around_it() -> None:
    call = expression("linear[h, e](x, 1, bias = true) as z -> [d]")
    assert isinstance(call, t.Call)
    assert call.callee.name == "linear"
    assert [axis.text for axis in call.over] == ["h", "e"]
    assert [keyword.name.text for keyword in call.keywords] == ["bias"]
    assert call.result is not None
    assert [axis.text for axis in call.result] == ["d"]
    assert str(call.as_name) == "z"
    assert call == expression("linear[h, e](x, 1, bias = true) -> [d] as z")


def test_a_bracket_that_is_not_called_renames() -> None:
    bracket = expression("f(x)[n -> e, m]")
    assert isinstance(bracket, t.Bracket)
    assert [(item.axis.text, item.renamed_to and item.renamed_to.text) for item in bracket.items] == [
        ("n", "e"),
        ("m", None),
    ]


def test_the_index_of_a_repetition_is_not_the_name_of_a_call() -> None:
    model = parse_text("model m(x[d]; a) { repeat max(a, 2) - f(a) as l { x = x } return x }").items[0]
    assert isinstance(model, t.Model)
    repeat = model.body[0]
    assert isinstance(repeat, t.Repeat)
    assert str(repeat.index) == "l"
    assert repeat.count == expression("max(a, 2) - f(a)")


def test_spans_cover_the_text_of_their_nodes() -> None:
    source = Source(OTHER)
    file = parse(source, Bag())
    assert file is not None
    texts = {node.span.text for node in t.walk(file)}
    assert {
        "S: momentum(rate = 0.1, decay = 0.9, window = 4, weights = k)".removeprefix("S: "),
        "n -> m",
    } & texts
    assert "param scale[d] = 1" in texts
    assert "linear[e](c) as z_proj -> [d]" in texts
    for node in t.walk(file):
        for child in t.children(node):
            assert node.span.start <= child.span.start <= child.span.end <= node.span.end


def test_equality_ignores_places() -> None:
    assert parse_text("rule r(x) { return x }") == parse_text("rule r(x)\n{\n  return x # here\n}")
    assert parse_text("rule r(x) { return x }") != parse_text("rule r(x) { return -x }")


def test_keywords_are_those_of_the_grammar() -> None:
    words = {terminal.pattern.value for terminal in grammar().terminals}
    assert {word for word in words if re.fullmatch("[a-z]+", word)} == KEYWORDS


@pytest.mark.parametrize("word", sorted(KEYWORDS))
def test_no_keyword_is_a_name(word: str) -> None:
    for text in (
        f"rule r({word}) {{ return 1 }}",
        f"rule r() {{ let {word} = 1 return 1 }}",
        f"rule {word}() {{ return 1 }}",
    ):
        with pytest.raises(SpecError) as caught:
            parse_text(text)
        assert "E0104" in caught.value.codes, str(caught.value)


def test_several_faults_are_reported_in_one_run() -> None:
    text = """\
rule a(x[d] y[d]) {
    let z = x *
    let w x
    return z @ w
}

rule b(x[d]) {
    return exp(x
}

rule c(x) {
    return (x + )
}
"""
    with pytest.raises(SpecError) as caught:
        parse_text(text)
    found = [(diagnostic.code, diagnostic.span.line) for diagnostic in caught.value.diagnostics]
    assert found == [("E0118", 1), ("E0106", 2), ("E0119", 3), ("E0101", 4), ("E0102", 8), ("E0106", 12)]


def test_a_long_file_parses_quickly() -> None:
    text = FIVE * 6
    assert text.count("\n") > 300
    parse_text(FIVE)
    start = time.process_time()
    parse_text(text)
    assert time.process_time() - start < 1.0  # about 0.05 s on an idle machine
