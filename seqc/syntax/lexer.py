"""Text to tokens, with everything that is wrong below the level of the grammar: characters, numbers,
brackets, limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import cast

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters
from lark.utils import TextSlice

from seqc.bundled import folder
from seqc.diagnostics.base import Bag
from seqc.diagnostics.limits import FileTooLong, NameTooLong, NestingTooDeep, NumberTooLarge
from seqc.diagnostics.syntax import (
    KEYWORDS,
    InvalidNumber,
    UnclosedBracket,
    UnexpectedCharacter,
    UnmatchedBracket,
    UnterminatedText,
)
from seqc.diagnostics.warnings import ContinuedLine, Continues
from seqc.source import Source, Span

MAX_CHARACTERS = 256 * 1024
MAX_TOKENS = 40_000
MAX_NESTING = 64
MAX_NAME = 64
MAX_DIGITS = 40
MAX_INTEGER = 2**31 - 1
# After so many faults in one text the rest is not read.
MAX_FAULTS = 20

OPENING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
# The token that Lark expects after the last one.
END = "$END"
CLOSING = {closing: opening for opening, closing in OPENING.items()}
SPELLED = {"LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}"}
KEYWORD_TOKENS = frozenset(word.upper() for word in KEYWORDS)
ITEM_STARTS = frozenset({"RULE", "BLOCK", "MODEL", "USE", "LANGUAGE"})
STATEMENT_STARTS = frozenset(
    {
        "MEMORY",
        "OBJECTIVE",
        "RETENTION",
        "LEARNER",
        "PROXIMAL",
        "STATE",
        "STORE",
        "PARAM",
        "LET",
        "REPEAT",
        "IF",
        "RETURN",
    }
)

OPERAND_ENDS = frozenset({"NAME", "PRIMED", "NUMBER", "TRUE", "FALSE", "RPAR", "RSQB"})
CALLABLE_ENDS = frozenset({"NAME", "PRIMED", "RPAR", "RSQB"})

_POINT_NUMBER = re.compile(r"\.[0-9]+([eE][+-]?[0-9]+)?")
_MORE_NUMBER = re.compile(r"\.[0-9]*([eE][+-]?[0-9]+)?")


@cache
def grammar() -> Lark:
    """The parser of `grammar/seq.lark`, built once in a process."""
    return Lark(
        (folder("grammar") / "seq.lark").read_text(encoding="utf-8"),
        start="file",
        parser="lalr",
        lexer="basic",
        strict=True,
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


def lex(text: str, start: int = 0) -> Iterator[Token]:
    """The tokens from an offset on; raises `UnexpectedCharacters`. (`Lark.lex` would build a lexer every time.)"""
    parser = grammar().parse_interactive(TextSlice(text, start, len(text)))
    read = cast("Callable[[object], Iterator[Token]]", parser.lexer_thread.lex)
    return read(parser.parser_state)


@dataclass(frozen=True, slots=True)
class Offsets:
    """Start and end of a token in its text."""

    start: int
    end: int


def offsets(token: Token) -> Offsets:
    start = token.start_pos
    assert start is not None
    return Offsets(start, start + len(token))


def span_of(source: Source, token: Token) -> Span:
    start = token.start_pos
    assert start is not None
    return Span(source, start, start + len(token))


def tokenize(source: Source, bag: Bag) -> list[Token]:
    """The tokens of the text. A fault goes into the bag and leaves out its token, so that the rest can be
    read.
    """
    if len(source.text) > MAX_CHARACTERS:
        bag.add(FileTooLong(source.span(0, 0), len(source.text), MAX_CHARACTERS, "characters"))
        return []
    tokens: list[Token] = []
    start = 0
    while start < len(source.text) and len(bag) < MAX_FAULTS:
        try:
            for token in lex(source.text, start):
                tokens.append(token)
                if len(tokens) > MAX_TOKENS:
                    bag.add(FileTooLong(span_of(source, token), len(tokens), MAX_TOKENS, "words"))
                    return []
            break
        except UnexpectedCharacters as stop:
            start = _skip_fault(source, stop.pos_in_stream or 0, tokens, bag)
    _check_words(source, tokens, bag)
    return tokens


def _skip_fault(source: Source, at: int, tokens: list[Token], bag: Bag) -> int:
    """Report the character that no token begins with; the offset at which to go on."""
    text = source.text
    if text[at] == '"':
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        bag.add(UnterminatedText(source.span(at, end)))
        return end
    if text[at] == ".":
        before = (
            tokens[-1] if tokens and offsets(tokens[-1]).end == at and tokens[-1].type == "NUMBER" else None
        )
        match = _MORE_NUMBER.match(text, at) if before is not None else _POINT_NUMBER.match(text, at)
        if match is not None:
            start = at if before is None else offsets(before).start
            written = text[start : match.end()]
            fixed = f"0{written}" if before is None else written.replace(".", ".0", 1)
            well_formed = written.count(".") == 1 and len(written) <= MAX_DIGITS
            bag.add(
                InvalidNumber(
                    source.span(start, match.end()), written[:MAX_DIGITS], fixed if well_formed else None
                )
            )
            if before is None:
                tokens.append(Token("NUMBER", "0", at))
            return match.end()
    bag.add(UnexpectedCharacter(source.span(at, at + 1), text[at]))
    end = at + 1
    while end < len(text) and text[end] == text[at]:
        end += 1
    return end


def _check_words(source: Source, tokens: list[Token], bag: Bag) -> None:
    """Lengths of names, sizes of numbers, numbers that run into a name, and brackets inside brackets."""
    previous: Token | None = None
    depth = 0
    for token in tokens:
        depth += (token.type in OPENING) - (token.type in CLOSING)
        if depth > MAX_NESTING:
            bag.add(NestingTooDeep(span_of(source, token), MAX_NESTING))
            return
        if token.type in ("NAME", "PRIMED"):
            if len(token) > MAX_NAME + (token.type == "PRIMED"):
                bag.add(NameTooLong(span_of(source, token), len(token.rstrip("'")), MAX_NAME))
            elif previous is not None and previous.type == "NUMBER" and _touch(previous, token):
                span = span_of(source, previous).to(span_of(source, token))
                bag.add(InvalidNumber(span, span.text, f"{previous} * {token}"))
        elif token.type == "NUMBER":
            _check_number(source, token, bag)
        previous = token


def _touch(left: Token, right: Token) -> bool:
    return offsets(left).end == offsets(right).start


def _check_number(source: Source, token: Token, bag: Bag) -> None:
    if len(token) > MAX_DIGITS:
        bag.add(NumberTooLarge(span_of(source, token), f"at most {MAX_DIGITS} characters"))
    elif token.isdecimal():
        if int(token) > MAX_INTEGER:
            bag.add(NumberTooLarge(span_of(source, token), f"at most the value {MAX_INTEGER:,}, or a point"))
    elif not math.isfinite(float(token)):
        bag.add(NumberTooLarge(span_of(source, token), "a value that a 64-bit float can hold"))


def check_brackets(source: Source, tokens: list[Token], bag: Bag) -> bool:
    """True if every bracket of the tokens has its partner; reports the first that
    has not.

    A word that can only begin a statement or an item closes, for this purpose, what should have been
    closed before it.
    """
    stack: list[Token] = []
    for previous, token in zip([None, *tokens], tokens, strict=False):
        if token.type in OPENING:
            stack.append(token)
        elif token.type in CLOSING:
            if not stack or (stack[-1].type == "LBRACE" and token.type != "RBRACE"):
                bag.add(UnmatchedBracket(span_of(source, token), SPELLED[token.type]))
                return False
            if OPENING[stack[-1].type] != token.type:
                _unclosed(source, stack[-1], token, bag)
                return False
            stack.pop()
        elif token.type in STATEMENT_STARTS and _in_brackets(stack) and _begins_line(source, previous, token):
            _unclosed(source, stack[-1], token, bag)
            return False
    if stack:
        _unclosed(source, stack[-1], None, bag)
    return not stack


def _in_brackets(stack: list[Token]) -> bool:
    """Inside `(` or `[` within a body; a header has no statements."""
    return len(stack) > 1 and stack[-1].type != "LBRACE" and stack[0].type == "LBRACE"


def _begins_line(source: Source, previous: Token | None, token: Token) -> bool:
    return previous is None or "\n" in source.text[offsets(previous).end : offsets(token).start]


def _unclosed(source: Source, opening: Token, before: Token | None, bag: Bag) -> None:
    at = None if before is None else span_of(source, before)
    closing = SPELLED[OPENING[opening.type]]
    bag.add(UnclosedBracket(span_of(source, opening), SPELLED[opening.type], closing, at))


def check_layout(source: Source, tokens: list[Token], bag: Bag) -> None:
    """Warn of a line that begins with `(`, `[` or `-` and continues a statement, unless brackets are open."""
    depth = 0
    for previous, token in pairwise(tokens):
        if previous.type in ("LPAR", "LSQB"):
            depth += 1
        elif previous.type in ("RPAR", "RSQB"):
            depth -= 1
        if depth or token.type not in ("LPAR", "LSQB", "MINUS"):
            continue
        kind = _continuation(previous, token)
        if kind is not None and _begins_line(source, previous, token):
            bag.add(ContinuedLine(span_of(source, token), kind, span_of(source, previous)))


def _continuation(previous: Token, token: Token) -> Continues | None:
    if token.type == "MINUS":
        return "a subtraction" if previous.type in OPERAND_ENDS else None
    if previous.type not in CALLABLE_ENDS:
        return None
    return "a call" if token.type == "LPAR" else "a bracket"
