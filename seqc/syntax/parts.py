"""What the builder holds on the way up, and how a node finds its pieces among its children."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

from lark import Token

from seqc.syntax import tree as t

N = TypeVar("N", bound=t.Node)


@dataclass(frozen=True, slots=True)
class Part(t.Node):
    """A piece of a node on the way up: a header, a list of names."""

    kind: str
    values: tuple[t.Node, ...]


Child = Token | t.Node


def nodes_of(children: Iterable[Child], kinds: tuple[type[N], ...]) -> list[N]:
    return [child for child in children if isinstance(child, kinds)]


def is_expr(child: Child | None) -> TypeGuard[t.Expr]:
    return isinstance(child, (t.Number, t.Bool, t.Name, t.Bracket, t.Unary, t.Binary, t.Call))


def expr_of(children: list[Child]) -> t.Expr | None:
    return next((child for child in children if is_expr(child)), None)


def value_of(children: list[Child]) -> t.Expr:
    value = expr_of(children)
    assert value is not None
    return value


def token_of(child: Child) -> Token:
    assert isinstance(child, Token)
    return child


def ident_of(children: list[Child]) -> t.Ident:
    return nodes_of(children, (t.Ident,))[0]


def idents_of(part: Part) -> tuple[t.Ident, ...]:
    return tuple(nodes_of(part.values, (t.Ident,)))


def axes_of(children: list[Child]) -> tuple[t.Ident, ...] | None:
    return next((idents_of(part) for part in nodes_of(children, (Part,)) if part.kind == "names"), None)


def is_complex(children: list[Child]) -> bool:
    return any(part.kind == "complex" for part in nodes_of(children, (Part,)))


def memory_of(children: list[Child]) -> t.Ident | None:
    return next((idents_of(part)[0] for part in nodes_of(children, (Part,)) if part.kind == "of"), None)


def header_of(children: list[Child]) -> tuple[tuple[t.ValueParam, ...], tuple[t.Setting, ...]]:
    header = next(part for part in nodes_of(children, (Part,)) if part.kind == "header")
    parts = {part.kind: part for part in nodes_of(header.values, (Part,))}
    values = nodes_of(parts["values"].values, (t.ValueParam,)) if "values" in parts else []
    settings = nodes_of(parts["settings"].values, (t.Setting,)) if "settings" in parts else []
    return tuple(values), tuple(settings)


STATEMENTS = (
    t.Memory,
    t.Objective,
    t.Retention,
    t.Learner,
    t.Proximal,
    t.State,
    t.Store,
    t.ParamDecl,
    t.Let,
    t.Update,
    t.Return,
    t.Assign,
    t.Repeat,
    t.If,
)


def statements_of(children: list[Child]) -> tuple[t.Node, ...]:
    return tuple(nodes_of(children, STATEMENTS))
