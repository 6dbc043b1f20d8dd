"""Text to syntax tree.

A text without a fault is parsed once, as a whole. Otherwise each item is parsed on its own, and an item
with a fault again without the statement that has it, so that one run reports several.
"""

from __future__ import annotations

from lark import Token, Tree
from lark.exceptions import UnexpectedToken as ParserStopped

from seqc.diagnostics.base import Bag, SpecError
from seqc.source import Source
from seqc.syntax import tree as t
from seqc.syntax.build import build
from seqc.syntax.lexer import END, check_layout, grammar, tokenize
from seqc.syntax.recover import report_faults


def parse(source: Source, bag: Bag) -> t.File | None:
    """The tree of a text; None if the bag has received an error. Warnings go into the bag as well."""
    found = Bag()
    file = _parse(source, found)
    bag.extend(found)
    return None if found.has_errors else file


def parse_text(text: str, name: str = "<text>") -> t.File:
    """The tree of a text; raises `SpecError`. Warnings are dropped."""
    bag = Bag()
    file = parse(Source(text, name), bag)
    if file is None:
        raise SpecError(bag.diagnostics)
    return file


def _parse(source: Source, bag: Bag) -> t.File | None:
    tokens = tokenize(source, bag)
    if bag.has_errors and not tokens:
        return None
    tree = None if bag.has_errors else parse_tokens(tokens)
    if tree is None:
        report_faults(source, tokens, bag)
        assert bag.has_errors
        return None
    check_layout(source, tokens, bag)
    return build(source, tree, bag)


def parse_tokens(tokens: list[Token]) -> Tree[Token] | None:
    """Lark's tree, or None if the tokens are not a file."""
    parser = grammar().parse_interactive()
    try:
        for token in tokens:
            parser.feed_token(token)
        result: Tree[Token] = parser.feed_token(Token(END, ""))
    except ParserStopped:
        return None
    return result
