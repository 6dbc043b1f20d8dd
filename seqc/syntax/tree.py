"""The syntax tree: what was written, before anybody asks what it means.

Nodes are frozen and compare by what they say, never by where they stand: `span` takes no part in
equality, so the tree of a formatted file equals the tree of the original. Every sequence of nodes is a
tuple. Nothing here is resolved: a `Name` may turn out to be a value, an axis, a setting or a word such as
`retained`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

from seqc.source import Span


@dataclass(frozen=True, slots=True)
class Node:
    span: Span = field(compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Ident(Node):
    """A name that introduces something, or the name of an axis, with its own place in the text."""

    text: str

    def __str__(self) -> str:
        return self.text


UnaryOp = Literal["-", "not"]
BinaryOp = Literal["+", "-", "*", "/", "%", "^", "<", "<=", ">", ">=", "==", "!=", "and", "or"]


@dataclass(frozen=True, slots=True)
class Number(Node):
    """`16`, `0.5`, `1e-6`; an int only if it was written without a point and without an exponent."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Bool(Node):
    """`true`, `false`."""

    value: bool


@dataclass(frozen=True, slots=True)
class Name(Node):
    """`S`, and `S'` when primed."""

    name: str
    primed: bool = False


@dataclass(frozen=True, slots=True)
class AxisItem(Node):
    """One entry of a bracket: `n`, or `n -> e`."""

    axis: Ident
    renamed_to: Ident | None = None


@dataclass(frozen=True, slots=True)
class Bracket(Node):
    """`x[n -> e]`, `index[h]`."""

    value: Expr
    items: tuple[AxisItem, ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    op: UnaryOp
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`op_span` covers the operator alone."""

    op: BinaryOp
    left: Expr
    right: Expr
    op_span: Span = field(compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Keyword(Node):
    """A named argument: `rate = beta`."""

    name: Ident
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`callee[over](args, keywords) -> [result] as as_name`.

    `over` is empty for a call without a bracket; `result` and `as_name` are None where they are not written.
    """

    callee: Name
    over: tuple[Ident, ...]
    args: tuple[Expr, ...]
    keywords: tuple[Keyword, ...]
    result: tuple[Ident, ...] | None = None
    as_name: Ident | None = None

    def keyword(self, name: str) -> Keyword | None:
        return next((keyword for keyword in self.keywords if keyword.name.text == name), None)


Expr = Number | Bool | Name | Bracket | Unary | Binary | Call


@dataclass(frozen=True, slots=True)
class Target(Node):
    """The left side of `let u[w] = …` or `x[d] = …`; `axes` is None where no bracket is written."""

    name: Ident
    axes: tuple[Ident, ...] | None


@dataclass(frozen=True, slots=True)
class Memory(Node):
    """`memory S: n -> m`, `memory M: n -> m = mlp(…)`; a vector, `memory h: d`, has no inputs and the
    outputs `(d,)`.
    """

    name: Ident
    inputs: tuple[Ident, ...]
    outputs: tuple[Ident, ...]
    complex: bool
    structure: Call | None


@dataclass(frozen=True, slots=True)
class Objective(Node):
    expr: Expr


@dataclass(frozen=True, slots=True)
class Retention(Node):
    """`retention alpha * S`; with several memories `retention S: alpha * S` says which one is meant."""

    memory: Ident | None
    expr: Expr


@dataclass(frozen=True, slots=True)
class Learner(Node):
    """`learner gd(rate = beta)`, or `learner S: gd(…)`."""

    memory: Ident | None
    call: Call


@dataclass(frozen=True, slots=True)
class Proximal(Node):
    """`proximal soft_threshold(mu)`, or `proximal S: …`."""

    memory: Ident | None
    call: Call


@dataclass(frozen=True, slots=True)
class State(Node):
    """`state S[m, n] = 0`, `state z[n] complex = 0`; `initial` is None where nothing is written."""

    name: Ident
    axes: tuple[Ident, ...]
    complex: bool
    initial: Expr | None


@dataclass(frozen=True, slots=True)
class Store(Node):
    """`store K[s, n] = k, window = w`: the first axis grows by one at every token."""

    name: Ident
    axes: tuple[Ident, ...]
    value: Expr
    options: tuple[Keyword, ...]


@dataclass(frozen=True, slots=True)
class ParamDecl(Node):
    """`param decay[d] = uniform(0, 1)`."""

    name: Ident
    axes: tuple[Ident, ...]
    initial: Expr


@dataclass(frozen=True, slots=True)
class Let(Node):
    """`let u[w] = …`, `let a[i], b[i] = split(…)`."""

    targets: tuple[Target, ...]
    value: Expr


@dataclass(frozen=True, slots=True)
class Update(Node):
    """`S' = …`; `name` is without the prime."""

    name: Ident
    value: Expr


@dataclass(frozen=True, slots=True)
class Return(Node):
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Assign(Node):
    """`x[d] = embed(tokens, vocab)`, `x = x + …` in a block or a model."""

    target: Target
    value: Expr


@dataclass(frozen=True, slots=True)
class Repeat(Node):
    """`repeat layers { … }`, `repeat 4 shared { … }`, `repeat layers as l { … }`."""

    count: Expr
    shared: bool
    index: Ident | None
    body: tuple[BlockStatement, ...]


@dataclass(frozen=True, slots=True)
class If(Node):
    """`if c { … } else { … }`; `else if` is an `If` alone in `orelse`."""

    condition: Expr
    then: tuple[BlockStatement, ...]
    orelse: tuple[BlockStatement, ...]


RuleStatement = (
    Memory
    | Objective
    | Retention
    | Learner
    | Proximal
    | State
    | Store
    | ParamDecl
    | Let
    | Update
    | Repeat
    | Return
)
BlockStatement = Let | ParamDecl | Assign | Repeat | If | Return


@dataclass(frozen=True, slots=True)
class ValueParam(Node):
    """`q[n]`, `alpha`, `tokens`: a scalar (or the tokens) has no axes."""

    name: Ident
    axes: tuple[Ident, ...]


@dataclass(frozen=True, slots=True)
class Setting(Node):
    """What follows the `;` of a header: `w`, `n = d / h`."""

    name: Ident
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Rule(Node):
    name: Ident
    values: tuple[ValueParam, ...]
    settings: tuple[Setting, ...]
    body: tuple[RuleStatement, ...]


@dataclass(frozen=True, slots=True)
class Block(Node):
    name: Ident
    values: tuple[ValueParam, ...]
    settings: tuple[Setting, ...]
    body: tuple[BlockStatement, ...]


@dataclass(frozen=True, slots=True)
class Model(Node):
    name: Ident
    values: tuple[ValueParam, ...]
    settings: tuple[Setting, ...]
    body: tuple[BlockStatement, ...]


@dataclass(frozen=True, slots=True)
class Use(Node):
    """`use std` (`library` is true, `path` the name) or `use "lib/blocks.seq"`; `path` is without the quotes."""

    path: str
    library: bool


Item = Use | Rule | Block | Model


@dataclass(frozen=True, slots=True)
class File(Node):
    """`version` is None where the file does not begin with `language 1`."""

    version: int | None
    items: tuple[Item, ...]


_field_names: dict[type[Node], tuple[str, ...]] = {}


def _fields(kind: type[Node]) -> tuple[str, ...]:
    if kind not in _field_names:
        _field_names[kind] = tuple(item.name for item in fields(kind) if item.compare)
    return _field_names[kind]


def children(node: Node) -> list[Node]:
    """The nodes directly below `node`, in the order of their fields."""
    found: list[Node] = []
    for name in _fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, Node):
            found.append(value)
        elif isinstance(value, tuple):
            found += [part for part in value if isinstance(part, Node)]
    return found


def walk(node: Node) -> Iterator[Node]:
    """`node` and everything below it, parents first, in the order of the text."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(reversed(children(current)))
