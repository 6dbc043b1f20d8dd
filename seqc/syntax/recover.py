"""Finding every syntax fault of a text that has at least one, and saying each in the words of the
language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import cast

from lark import Token
from lark.exceptions import UnexpectedToken as ParserStopped
from lark.parsers.lalr_interactive_parser import InteractiveParser

from seqc.diagnostics import situations
from seqc.diagnostics.base import Bag, Diagnostic
from seqc.diagnostics.items import LateVersion, OutsideItem
from seqc.diagnostics.situations import SituationFault, UnusedValue
from seqc.diagnostics.syntax import MissingValue, ReservedWord, UnexpectedToken
from seqc.diagnostics.words import ticked
from seqc.source import Source, Span
from seqc.syntax.lexer import (
    CLOSING,
    END,
    ITEM_STARTS,
    KEYWORD_TOKENS,
    MAX_FAULTS,
    OPENING,
    STATEMENT_STARTS,
    check_brackets,
    grammar,
    lex,
    span_of,
)

# Tokens that may be fed again while looking for further faults: bounds the time that a hostile text can take.
MAX_REPEATED = 30_000

# So many states of the parser tell one situation from another.
TAIL = 2

_Situation = tuple[tuple[int, ...], str]
_HEADERS = frozenset({"RULE", "BLOCK", "MODEL"})
# After these stands a name, even if it is a reserved word.
_NAMING = _HEADERS | {"LET", "COMMA", "LPAR", "LSQB", "SEMICOLON", "PARAM", "STATE"}
_COMPOUND = frozenset({"REPEAT", "IF"})
_VALUE_STARTS = frozenset({"NUMBER", "LPAR", "MINUS"})
_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a path in quotation marks",
    "PRIMED": "a state with its prime",
    "ARROW": "`->`",
    "ASSIGN": "`=`",
    "COLON": "`:`",
    "COMMA": "`,`",
    "SEMICOLON": "`;`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    END: "the end of the file",
}


def report_faults(source: Source, tokens: list[Token], bag: Bag) -> None:
    budget = MAX_REPEATED
    # Where a character, a number or a bracket is wrong, the grammar would only say it again.
    known = {diagnostic.span.line for diagnostic in bag}
    items = _items(tokens)
    for item, following in zip(items, [*items[1:], []], strict=True):
        if len(bag) >= MAX_FAULTS:
            return
        budget = _report_item(source, item, following[:1], bag, budget, known)


def _items(tokens: list[Token]) -> list[list[Token]]:
    """The tokens cut before every word that can only begin an item. An item never begins inside another."""
    items: list[list[Token]] = [[]]
    previous = ""
    for token in tokens:
        # A reserved word used as a name begins nothing.
        if token.type in ITEM_STARTS and previous not in _NAMING:
            items.append([])
        items[-1].append(token)
        previous = token.type
    return [item for item in items if item]


def _report_item(
    source: Source, item: list[Token], following: list[Token], bag: Bag, budget: int, known: set[int]
) -> int:
    """Report the faults of one item, one statement after the other; the budget that is left."""
    if _is_late_version(source, item[0]):
        bag.add(LateVersion(span_of(source, item[0])))
        return budget
    if not check_brackets(source, item, bag):
        return budget
    while len(bag) < MAX_FAULTS:
        stop = _first_fault(item)
        if stop is None:
            return budget
        at, parser = stop
        around = item[max(at - 1, 0) : at + 1]
        if known.isdisjoint(span_of(source, token).line for token in around):
            bag.add(_describe(source, item, following, at, parser))
        remaining = _without_fault(item, at)
        budget -= len(remaining)
        if len(remaining) >= len(item) or not remaining or budget < 0:
            return budget
        item = remaining
    return budget


def _is_late_version(source: Source, token: Token) -> bool:
    before = source.text[: span_of(source, token).start]
    comments = all(not line.strip() or line.lstrip().startswith("#") for line in before.splitlines())
    return token.type == "LANGUAGE" and not comments


def _first_fault(item: list[Token]) -> tuple[int, InteractiveParser] | None:
    """The index of the token at which the parser stops (the length of the item: its end), and the parser
    there.
    """
    parser = grammar().parse_interactive()
    for i, token in enumerate(item):
        try:
            parser.feed_token(token)
        except ParserStopped:
            return i, parser
    try:
        parser.feed_token(Token(END, ""))
    except ParserStopped:
        return len(item), parser
    return None


def _without_fault(item: list[Token], at: int) -> list[Token]:
    """The item without the statement that has the fault, or with another header if the fault is in the
    header.
    """
    body = next((i for i, token in enumerate(item) if token.type == "LBRACE"), None)
    if item[0].type not in _HEADERS or body is None:
        return []
    if _closed(item[:at]):
        return item[:at]
    if at <= body:
        return [*_made(item[0], "RULE", "NAME", "LPAR", "RPAR"), *item[body:]]
    starts = _statement_starts(item, body)
    # A statement that is cut short is noticed at the first word of the next one.
    last = at - 1 if at == len(item) or at in starts or item[at].type in ("RBRACE", *STATEMENT_STARTS) else at
    start = max((i for i in starts if i <= last), default=body + 1)
    end = min((i for i in starts if i > last), default=len(item))
    if start >= end:
        return []
    if item[start].type in _COMPOUND:
        opening = next((i for i in range(start, end) if item[i].type == "LBRACE"), None)
        if opening is not None and last < opening:
            return [*item[:start], *_made(item[start], "REPEAT", "NUMBER"), *item[opening:]]
    # Braces stay, so that those of the rest still match.
    braces = [token for token in item[start:end] if token.type in ("LBRACE", "RBRACE")]
    kept = braces if all(token.type == "RBRACE" for token in braces) else []
    return [*item[:start], *kept, *item[end:]] if end - start > len(kept) else []


def _made(at: Token, *types: str) -> list[Token]:
    words = {"RULE": "rule", "NAME": "x", "LPAR": "(", "RPAR": ")", "REPEAT": "repeat", "NUMBER": "1"}
    return [Token(kind, words[kind], at.start_pos) for kind in types]


def _statement_starts(item: list[Token], body: int) -> set[int]:
    """Where statements begin: at their words, and at a name or a state that is followed by `=`, outside
    brackets.
    """
    starts: set[int] = set()
    depth = 0
    for i in range(body + 1, len(item)):
        kind = item[i].type
        if kind in ("LPAR", "LSQB"):
            depth += 1
        elif kind in ("RPAR", "RSQB"):
            depth -= 1
        elif kind in STATEMENT_STARTS or (depth == 0 and kind in ("NAME", "PRIMED") and _is_binding(item, i)):
            starts.add(i)
    return starts


def _is_binding(item: list[Token], i: int) -> bool:
    if item[i - 1].type not in (
        "LBRACE",
        "RBRACE",
        "NAME",
        "PRIMED",
        "NUMBER",
        "RPAR",
        "RSQB",
        "TRUE",
        "FALSE",
    ):
        return False
    i += 1
    if i < len(item) and item[i].type == "LSQB":
        while i < len(item) and item[i].type != "RSQB":
            i += 1
        i += 1
    return i < len(item) and item[i].type == "ASSIGN"


def _describe(
    source: Source, item: list[Token], following: list[Token], at: int, parser: InteractiveParser
) -> Diagnostic:
    token = item[at] if at < len(item) else None
    previous = item[at - 1] if at else None
    span = span_of(source, token) if token is not None else span_of(source, item[-1]).at_end
    found = _found(token or (following[0] if following else None))
    if previous is None:
        if token is not None and token.type not in ITEM_STARTS:
            return OutsideItem(span, found)
    elif at and item[0].type in _HEADERS and _closed(item[:at]):
        return OutsideItem(span, found)
    by_case = _cases().get(_situation(parser, token))
    if by_case is not None:
        if by_case is UnusedValue and previous is not None and previous.type in ("NAME", "PRIMED"):
            span = span_of(source, previous)
        return by_case(span)
    expected = _accepted(parser)
    if (
        token is not None
        and "NAME" in expected
        and token.type in KEYWORD_TOKENS
        and _is_used_as_name(item, at)
    ):
        return ReservedWord(span, str(token))
    if expected >= _VALUE_STARTS and (token is None or token.type != "ASSIGN"):
        return MissingValue(
            _gap(source, previous, span), found, str(previous) if previous is not None else None
        )
    return UnexpectedToken(span, found, _expected_words(expected))


def _accepted(parser: InteractiveParser) -> set[str]:
    accepts = cast("Callable[[], set[str]]", parser.accepts)
    return accepts()


def _gap(source: Source, previous: Token | None, span: Span) -> Span:
    """Where something is missing: the word before the gap if the next one stands on another line."""
    if previous is None:
        return span
    before = span_of(source, previous)
    return before if before.line != span.line else span


def _closed(tokens: list[Token]) -> bool:
    depth = 0
    for token in tokens:
        depth += (token.type in OPENING) - (token.type in CLOSING)
    return depth == 0 and tokens[-1].type == "RBRACE"


def _is_used_as_name(item: list[Token], at: int) -> bool:
    """A reserved word is meant as a name unless it clearly begins the next statement."""
    if item[at].type not in STATEMENT_STARTS or at + 1 >= len(item):
        return True
    return item[at + 1].type not in ("NAME", "PRIMED", "NUMBER")


def _found(token: Token | None) -> str:
    if token is None:
        return _WORDS[END]
    if token.type == "STRING":
        return "a path in quotation marks"
    return ticked(str(token))


def _expected_words(expected: set[str]) -> tuple[str, ...]:
    """What could stand here, in at most four words; operators and further statements are not worth a
    mention.
    """
    words = [_WORDS[kind] for kind in sorted(expected) if kind in _WORDS and kind not in ("MINUS", "PRIMED")]
    if "NAME" in expected and expected & STATEMENT_STARTS:
        words = ["a statement"] + [word for word in words if word == _WORDS["RBRACE"]]
    elif len(words) > 4:
        words = [word for word in words if word not in ("`(`", "`[`", "`->`")]
    return tuple(words) if len(words) <= 4 else ()


def _situation(parser: InteractiveParser, token: Token | None) -> _Situation:
    """What the parser has just read, as its last states, and the kind of the word that stopped it."""
    return tuple(parser.parser_state.state_stack[-TAIL:]), END if token is None else token.type


def _written_out(cases: tuple[str, ...]) -> Iterator[str]:
    """In a case, `@` is the beginning of a statement, wherever one can stand."""
    bodies = ("rule r() {", "block r() {", "model r() {", "repeat 1 {", "if 1 {", "if 1 { } else {")
    for case in cases:
        if not case.startswith("@"):
            yield case
            continue
        for body in bodies:
            before = body if body.endswith("() {") else f"block r() {{ {body}"
            yield f"{before} {case[1:]}"
            yield f"{before} let a = 1 {case[1:]}"


@cache
def _cases() -> dict[_Situation, type[SituationFault]]:
    """Situation of the parser and kind of the next word, as in the `cases` of the classes, and the class
    that tells.
    """
    table: dict[_Situation, type[SituationFault]] = {}
    for kind in vars(situations).values():
        if not (isinstance(kind, type) and issubclass(kind, SituationFault)):
            continue
        for case in _written_out(kind.cases):
            tokens = list(lex(case))
            stop = _first_fault(tokens)
            assert stop is not None, f"{case!r} has no fault"
            assert stop[0] == len(tokens) - 1, f"the fault of {case!r} is not its last word"
            key = _situation(stop[1], tokens[-1])
            assert table.setdefault(key, kind) is kind, f"{case!r} is also a case of {table[key].__name__}"
    return table
