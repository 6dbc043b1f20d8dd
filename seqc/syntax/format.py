"""`seqc fmt`: one way to lay out a program.

Spaces, indentation, blank lines and columns follow from the text; line breaks inside a statement, and
comments, are the author's and stay. In a rule the words `memory`, `objective`, … form a column; in a block so
do the `=` of neighbouring `let`s; comments at the ends of neighbouring lines are aligned. A line that begins
with `-`, `(` or `[` and continues the one before it (warning W0101) is joined or broken elsewhere.

The work is done on tokens: what is not a space or a line break is never touched, except that a comma is
dropped where it closes a list on the same line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from lark import Token

from seqc.diagnostics.base import Bag, SpecError
from seqc.source import Source
from seqc.syntax import tree as t
from seqc.syntax.lexer import CALLABLE_ENDS, KEYWORD_TOKENS, OPERAND_ENDS, offsets, tokenize
from seqc.syntax.parser import parse
from seqc.syntax.parts import STATEMENTS

INDENT = 4
WIDTH = 110
# Left sides that differ more than this in length are not aligned.
WIDEST_STEP = 8

_COMMENT = re.compile(r"#[^\r\n]*")
_NEWLINE = re.compile(r"\r\n?|\n")
_OPENERS = frozenset({"LPAR", "LSQB"})
_CLOSERS = frozenset({"RPAR", "RSQB"})
_TIGHT_BEFORE = frozenset({"COMMA", "SEMICOLON", "RPAR", "RSQB", "COLON", "POWER"})
_TIGHT_AFTER = frozenset({"LPAR", "LSQB", "POWER"})
_COMPARISONS = frozenset({"LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "UNEQUAL"})
_OPERATORS = _COMPARISONS | {"PLUS", "MINUS", "TIMES", "DIVIDE", "MODULO", "POWER", "AND", "OR"}
_BREAKS_AFTER = _OPERATORS | {"ASSIGN", "COMMA", "ARROW"}


@dataclass(slots=True)
class Piece:
    """A token, or a comment on a line of its own, inside a line."""

    kind: str
    text: str
    breaks: bool = False  # a new row begins with it
    comment: str | None = None  # ends the row after it


@dataclass(slots=True)
class Line:
    """What begins on a row of its own: a statement, a header, a closing brace, a comment."""

    depth: int
    pieces: list[Piece]
    blank: bool = False  # an empty row precedes it
    in_rule: bool = False
    word: int = 0  # the first word is padded to this width
    left: int = 0  # what precedes `=` is padded to this width

    @property
    def kind(self) -> str:
        return self.pieces[0].kind


@dataclass(slots=True)
class Row:
    text: str
    comment: str | None = None


@dataclass(slots=True)
class Gap:
    """What stands between two tokens; `blank` and the flags of `own` say whether an empty row precedes."""

    newline: bool = False
    blank: bool = False
    trailing: str | None = None
    own: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])


def format_text(text: str, name: str = "<text>") -> str:
    """The text laid out anew; raises `SpecError` if it is not a program."""
    return format_source(Source(text, name))


def format_source(source: Source) -> str:
    bag = Bag()
    file = parse(source, bag)
    if file is None:
        raise SpecError(bag.diagnostics)
    lines = _Assembler(source, file).lines()
    for line in lines:
        _settle_breaks(line)
    _set_columns(lines)
    rows = [row for line in lines for row in _rows(line)]
    return "".join(f"{text}\n" for text in _aligned(rows))


class _Assembler:
    """Distributes tokens and comments over lines."""

    def __init__(self, source: Source, file: t.File) -> None:
        self.source = source
        self.tokens = tokenize(source, Bag())
        self.starts = {node.span.start for node in t.walk(file) if isinstance(node, STATEMENTS)}
        self.rules = {item.span.start for item in file.items if isinstance(item, t.Rule)}
        self.items = {item.span.start for item in file.items}
        self.uses = {item.span.start for item in file.items if isinstance(item, t.Use)}
        self.depth = 0
        self.in_rule = False
        # Comments from before a `{` that stays on its row; they move behind it.
        self.held: list[str] = []
        self.done: list[Line] = []

    def lines(self) -> list[Line]:
        previous: Token | None = None
        for token in self.tokens:
            gap = self.gap(previous, offsets(token).start)
            self.place(previous, token, gap)
            previous = token
        gap = self.gap(previous, len(self.source.text))
        self.attach(gap)
        self.comments(gap.own)
        return self.done

    def gap(self, previous: Token | None, end: int) -> Gap:
        start = 0 if previous is None else offsets(previous).end
        return _gap(self.source.text[start:end], previous is None)

    def place(self, previous: Token | None, token: Token, gap: Gap) -> None:
        if token.type == "LBRACE" or (token.type == "ELSE" and previous is not None):
            self.held += [comment for comment in [gap.trailing] if comment is not None]
            self.held += [comment for comment, _ in gap.own]
            self.add(token, breaks=False)
        elif self.begins_line(previous, token):
            self.attach(gap)
            self.begin(token, gap)
        else:
            self.attach(gap)
            for comment, _ in gap.own:
                self.done[-1].pieces.append(Piece("COMMENT", comment, breaks=True))
            self.add(token, breaks=gap.newline)
        if token.type == "LBRACE":
            self.depth += 1
            self.comments([(comment, False) for comment in self.held])
            self.held.clear()

    def begins_line(self, previous: Token | None, token: Token) -> bool:
        if previous is None or token.type == "RBRACE" or previous.type == "LBRACE":
            return True
        start = offsets(token).start
        return start in self.items or (start in self.starts and previous.type != "ELSE")

    def begin(self, token: Token, gap: Gap) -> None:
        start = offsets(token).start
        if start in self.items:
            self.in_rule = start in self.rules
            self.separate(start, gap)
        self.comments(gap.own)
        closes = token.type == "RBRACE"
        self.depth -= closes
        piece = Piece(token.type, str(token))
        opened = bool(self.done) and self.done[-1].pieces[-1].kind == "LBRACE"
        blank = gap.blank and not closes and not opened and bool(self.done)
        self.done.append(Line(self.depth, [piece], blank, self.in_rule and not closes and self.depth == 1))

    def separate(self, start: int, gap: Gap) -> None:
        """Between items there is an empty row, above the comments that precede the second one."""
        if not self.done or (start in self.uses and self.done[-1].kind in ("USE", "COMMENT")):
            return
        if gap.own:
            gap.own[0] = (gap.own[0][0], True)
        else:
            gap.blank = True

    def comments(self, own: Iterable[tuple[str, bool]]) -> None:
        for comment, blank in own:
            opened = not self.done or self.done[-1].pieces[-1].kind == "LBRACE"
            self.done.append(Line(self.depth, [Piece("COMMENT", comment)], blank and not opened))

    def attach(self, gap: Gap) -> None:
        if gap.trailing is None:
            return
        if self.done[-1].kind == "COMMENT":
            self.comments([(gap.trailing, False)])
        else:
            self.done[-1].pieces[-1].comment = gap.trailing

    def add(self, token: Token, breaks: bool) -> None:
        self.done[-1].pieces.append(Piece(token.type, str(token), breaks))


def _gap(text: str, first: bool) -> Gap:
    gap = Gap()
    rows = _NEWLINE.split(text)
    for i, row in enumerate(rows):
        comment = _COMMENT.search(row)
        gap.newline = gap.newline or i > 0
        if comment is None:
            # The first row ends a line of code and the last one begins one: neither is empty.
            gap.blank = gap.blank or (0 < i < len(rows) - 1)
        elif i == 0 and not first:
            gap.trailing = comment.group().rstrip()
        else:
            gap.own.append((comment.group().rstrip(), gap.blank))
            gap.blank = False
    return gap


def _settle_breaks(line: Line) -> None:
    """Decide which of the author's line breaks inside a statement stay."""
    depth = 0
    for previous, piece in pairwise(line.pieces):
        depth += (previous.kind in _OPENERS) - (previous.kind in _CLOSERS)
        if previous.comment is not None or "COMMENT" in (previous.kind, piece.kind):
            piece.breaks = True
        elif piece.kind in ("COMMA", "SEMICOLON", "COLON"):
            piece.breaks = False
        elif piece.breaks and depth == 0:
            piece.breaks = previous.kind in _BREAKS_AFTER or piece.kind in _OPERATORS
            if piece.kind == "MINUS" and previous.kind in OPERAND_ENDS:
                piece.breaks = False
                _next(line, piece).breaks = True


def _next(line: Line, piece: Piece) -> Piece:
    return line.pieces[next(i for i, other in enumerate(line.pieces) if other is piece) + 1]


def _set_columns(lines: list[Line]) -> None:
    """Pad the first words of a rule's statements, and what precedes the `=` of neighbouring `let`s."""
    body: list[Line] = []
    run: list[Line] = []
    for line in [*lines, Line(0, [Piece("RBRACE", "}")])]:
        if line.in_rule:
            body.append(line)
        elif line.kind == "RBRACE" and not line.depth and body:
            _pad_words(body)
            body = []
        if run and (line.blank or not _is_plain_let(line)):
            widths = [len(_left(member)) for member in run]
            for member in run:
                member.left = max(widths) if max(widths) - min(widths) <= WIDEST_STEP else 0
            run = []
        if _is_plain_let(line):
            run.append(line)


def _pad_words(body: list[Line]) -> None:
    width = max((len(line.pieces[0].text) for line in body if line.kind in KEYWORD_TOKENS), default=0)
    for line in body:
        line.word = width


def _is_plain_let(line: Line) -> bool:
    left = _left(line)
    several = "," in re.sub(r"\[[^\]]*\]", "", left)
    return line.kind == "LET" and not line.in_rule and not several


def _left(line: Line) -> str:
    """The statement up to its `=`, if that is on one row; else nothing."""
    until = next((i for i, piece in enumerate(line.pieces) if piece.kind == "ASSIGN"), 0)
    pieces = line.pieces[:until]
    if any(piece.breaks or piece.comment is not None for piece in pieces):
        return ""
    return _joined(pieces)


def _joined(pieces: list[Piece]) -> str:
    text = ""
    for i, piece in enumerate(pieces):
        text += (" " if i and _spaced(pieces, i) else "") + piece.text
    return text


def _rows(line: Line) -> Iterator[Row]:
    """The rows of a line. A row that is not the first is indented once for every row with an open bracket."""
    if line.blank:
        yield Row("")
    pieces = [piece for i, piece in enumerate(line.pieces) if not _is_idle_comma(line.pieces, i)]
    base = " " * (INDENT * line.depth)
    text = ""
    opened: list[int] = []
    number = 0
    for i, piece in enumerate(pieces):
        if piece.kind in _CLOSERS:
            opened.pop()
        if i and (piece.breaks or pieces[i - 1].comment is not None):
            yield Row(base + text, pieces[i - 1].comment)
            number += 1
            levels = len(set(opened)) if piece.kind in _CLOSERS else max(1, len(set(opened)))
            text = " " * (INDENT * levels) + piece.text
        else:
            text = _extended(line, pieces, i, text)
        if piece.kind in _OPENERS:
            opened.append(number)
    yield Row(base + text, pieces[-1].comment)


def _extended(line: Line, pieces: list[Piece], i: int, text: str) -> str:
    piece = pieces[i]
    if i == 1:
        text = text.ljust(line.word)
    if line.left and piece.kind == "ASSIGN" and all(other.kind != "ASSIGN" for other in pieces[:i]):
        text = text.ljust(line.left)
    return text + (" " if i and _spaced(pieces, i) else "") + piece.text


def _is_idle_comma(pieces: list[Piece], i: int) -> bool:
    if pieces[i].kind != "COMMA" or pieces[i].comment is not None:
        return False
    following = pieces[i + 1]
    return following.kind in ("RPAR", "SEMICOLON") and not following.breaks


def _spaced(pieces: list[Piece], i: int) -> bool:
    """Whether a space stands before piece `i`, which is not the first of its row."""
    piece, previous = pieces[i], pieces[i - 1]
    if piece.kind in _TIGHT_BEFORE or previous.kind in _TIGHT_AFTER:
        return False
    if piece.kind == "LPAR" and previous.kind == "COMPLEX":
        return False
    if piece.kind in _OPENERS:
        return previous.kind not in CALLABLE_ENDS and not _is_sign(pieces, i - 1)
    return not _is_sign(pieces, i - 1)


def _is_sign(pieces: list[Piece], i: int) -> bool:
    """Whether piece `i` is a minus with nothing to its left to subtract from."""
    if pieces[i].kind != "MINUS":
        return False
    before = next((piece for piece in reversed(pieces[:i]) if piece.kind != "COMMENT"), None)
    return before is None or before.kind not in OPERAND_ENDS


def _aligned(rows: list[Row]) -> Iterator[str]:
    """The texts of the rows, with the comments of neighbouring rows in one column where there is room."""
    run: list[Row] = []
    for row in rows:
        if row.comment is not None:
            run.append(row)
            continue
        yield from _with_comments(run)
        run = []
        yield row.text
    yield from _with_comments(run)


def _with_comments(run: list[Row]) -> Iterator[str]:
    column = max((len(row.text) for row in run), default=0)
    fits = all(column + 2 + len(row.comment or "") <= WIDTH for row in run)
    for row in run:
        yield f"{row.text.ljust(column) if fits else row.text}  {row.comment}"
