"""Lark's tree to our own, and the faults that an LALR grammar does not see.

The parser accepts a little more than the language: `(a + b)(c)`, `x -> [d]`, statements of a block in a
rule. Here they are refused, in the words of the language. No recursion: a text cannot make the stack
overflow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import cast

from lark import Token, Tree

from seqc.diagnostics.base import Bag, Diagnostic
from seqc.diagnostics.calls import (
    NameWithoutCall,
    NotALearner,
    NotCallable,
    PositionalAfterKeyword,
    RenameInCall,
    RepeatedArgument,
    ResultWithoutCall,
)
from seqc.diagnostics.items import MisplacedStatement, ReturnNotLast, UnknownVersion
from seqc.diagnostics.limits import NestingTooDeep
from seqc.diagnostics.syntax import ReservedWord
from seqc.source import Source, Span
from seqc.syntax import tree as t
from seqc.syntax.lexer import KEYWORD_TOKENS, MAX_DIGITS, span_of
from seqc.syntax.parts import (
    Child,
    Part,
    axes_of,
    expr_of,
    header_of,
    ident_of,
    idents_of,
    is_complex,
    is_expr,
    memory_of,
    nodes_of,
    statements_of,
    token_of,
    value_of,
)

# Levels of expressions and blocks inside one another; low enough for the passes that recurse over the tree.
MAX_DEPTH = 100

_LEVELS = frozenset({"binary", "unary", "bracket", "call", "keyword", "repeat", "if"})
_STATEMENTS_OF_RULES: dict[type[t.Node], str] = {
    t.Memory: "`memory`",
    t.Objective: "`objective`",
    t.Retention: "`retention`",
    t.Learner: "`learner`",
    t.Proximal: "`proximal`",
    t.State: "`state`",
    t.Store: "`store`",
    t.Update: "the equation of a state",
}
_STATEMENTS_OF_BLOCKS: dict[type[t.Node], tuple[str, str]] = {
    t.Assign: (
        "an assignment",
        "write `let name = ...` for a value, or `name' = ...` for the next value of a state",
    ),
    t.If: ("`if`", "choose between values with `where(condition, a, b)`"),
}
_NOT_IN_REPETITIONS: dict[type[t.Node], str] = {
    t.ParamDecl: "`param`",
    t.If: "`if`",
}


def build(source: Source, tree: Tree[Token], bag: Bag) -> t.File | None:
    """The tree of a file; None if it is nested too deeply. Other faults go into the bag and are built
    around.
    """
    return Builder(source, bag).run(tree)


class Builder:
    def __init__(self, source: Source, bag: Bag) -> None:
        self.source = source
        self.bag = bag
        # `x as l` where x is not a call: right after `repeat`, wrong elsewhere. Pairs of the expression
        # and the name.
        self.named: list[tuple[t.Node, t.Ident]] = []

    def run(self, root: Tree[Token]) -> t.File | None:
        """Convert children before parents, with a stack of our own."""
        done: list[Child] = []
        pending: list[tuple[Tree[Token] | Token, bool, int]] = [(root, False, 0)]
        while pending:
            node, ready, depth = pending.pop()
            if not isinstance(node, Tree):
                done.append(node)
            elif ready:
                first = len(done) - len(node.children)
                children = done[first:]
                del done[first:]
                done.append(self.convert(str(node.data), children))
            else:
                depth += node.data in _LEVELS
                if depth > MAX_DEPTH:
                    self.bag.add(NestingTooDeep(self.first_span(node), MAX_DEPTH))
                    return None
                pending.append((node, True, depth))
                pending.extend((child, False, depth) for child in reversed(node.children))
        for _, name in self.named:
            self.bag.add(NameWithoutCall(name.span))
        return cast(t.File, done[0])

    def convert(self, rule: str, children: list[Child]) -> t.Node:
        handler: Callable[[list[Child], Span], t.Node] = getattr(self, f"on_{rule}")
        if not children:
            return handler(children, self.source.span(0, len(self.source.text)))
        first = self.span(children[0])
        if len(children) == 1:
            return handler(children, first)
        return handler(children, first.to(self.span(children[-1])))

    def span(self, child: Child) -> Span:
        return span_of(self.source, child) if isinstance(child, Token) else child.span

    def first_span(self, node: Tree[Token]) -> Span:
        leaf: Tree[Token] | Token = node
        while isinstance(leaf, Tree):
            leaf = leaf.children[0]
        return span_of(self.source, leaf)

    def on_file(self, children: list[Child], span: Span) -> t.File:
        version: int | None = None
        number = next(
            (child for child in children if isinstance(child, Token) and child.type == "NUMBER"), None
        )
        if number is not None:
            version = 1
            if str(number) != "1":
                self.bag.add(UnknownVersion(span_of(self.source, number), str(number)))
        return t.File(version, tuple(nodes_of(children, (t.Use, t.Rule, t.Block, t.Model))), span=span)

    def on_use_library(self, children: list[Child], span: Span) -> t.Use:
        name = token_of(children[1])
        return t.Use(str(name), True, span=span)

    def on_use_file(self, children: list[Child], span: Span) -> t.Use:
        return t.Use(str(token_of(children[1]))[1:-1], False, span=span)

    def on_rule(self, children: list[Child], span: Span) -> t.Rule:
        values, settings = header_of(children)
        body = self.body("rule", statements_of(children))
        for statement in body:
            if type(statement) in _STATEMENTS_OF_BLOCKS:
                what, advice = _STATEMENTS_OF_BLOCKS[type(statement)]
                self.bag.add(
                    MisplacedStatement(self.head(statement), what, "rule", "block or a model", advice)
                )
            elif isinstance(statement, t.Repeat):
                self.refuse_in_repetition(statement)
        return t.Rule(
            ident_of(children), values, settings, cast("tuple[t.RuleStatement, ...]", body), span=span
        )

    def on_block(self, children: list[Child], span: Span) -> t.Block:
        values, settings = header_of(children)
        body = self.sequence_body("block", statements_of(children))
        return t.Block(ident_of(children), values, settings, body, span=span)

    def on_model(self, children: list[Child], span: Span) -> t.Model:
        values, settings = header_of(children)
        body = self.sequence_body("model", statements_of(children))
        return t.Model(ident_of(children), values, settings, body, span=span)

    def sequence_body(self, where: str, statements: tuple[t.Node, ...]) -> tuple[t.BlockStatement, ...]:
        body = self.body(where, statements)
        for statement in body:
            self.refuse_rule_statement(statement, where)
            if isinstance(statement, t.Return) and where not in ("block", "model"):
                advice = "bind a name here, and return it at the end"
                self.bag.add(
                    MisplacedStatement(self.head(statement), "`return`", where, "block or a model", advice)
                )
        return cast("tuple[t.BlockStatement, ...]", body)

    def refuse_in_repetition(self, repeat: t.Repeat) -> None:
        """What a `repeat` of a rule does not take: it computes, and has nothing to share."""
        pending = [repeat]
        while pending:
            outer = pending.pop()
            if outer.shared:
                advice = "leave out `shared`: a `repeat` of a rule has no parameters of its own"
                self.bag.add(
                    MisplacedStatement(self.head(outer), "`shared`", "rule", "block or a model", advice)
                )
            for statement in outer.body:
                if isinstance(statement, t.Repeat):
                    pending.append(statement)
                elif type(statement) in _NOT_IN_REPETITIONS:
                    what = _NOT_IN_REPETITIONS[type(statement)]
                    self.bag.add(MisplacedStatement(self.head(statement), what, "`repeat` of a rule", "rule"))

    def refuse_rule_statement(self, statement: t.Node, where: str) -> None:
        if type(statement) in _STATEMENTS_OF_RULES:
            what = _STATEMENTS_OF_RULES[type(statement)]
            self.bag.add(MisplacedStatement(self.head(statement), what, where, "rule"))

    def body(self, where: str, statements: tuple[t.Node, ...]) -> tuple[t.Node, ...]:
        for statement, following in pairwise(statements):
            if isinstance(statement, t.Return):
                self.bag.add(ReturnNotLast(self.head(following), where, self.head(statement)))
                break
        return statements

    def head(self, statement: t.Node) -> Span:
        """The first word of a statement, or the name that it binds."""
        if isinstance(statement, t.Assign):
            return statement.target.name.span
        if isinstance(statement, t.Update):
            return statement.name.span
        text = statement.span.text
        length = next((i for i, char in enumerate(text) if not (char.isalnum() or char == "_")), len(text))
        return Span(self.source, statement.span.start, statement.span.start + length)

    def on_header(self, children: list[Child], span: Span) -> Part:
        return Part("header", tuple(nodes_of(children, (Part,))), span=span)

    def on_value_params(self, children: list[Child], span: Span) -> Part:
        return Part("values", tuple(nodes_of(children, (t.ValueParam,))), span=span)

    def on_value_param(self, children: list[Child], span: Span) -> t.ValueParam:
        return t.ValueParam(ident_of(children), axes_of(children) or (), span=span)

    def on_settings(self, children: list[Child], span: Span) -> Part:
        return Part("settings", tuple(nodes_of(children, (t.Setting,))), span=span)

    def on_setting(self, children: list[Child], span: Span) -> t.Setting:
        return t.Setting(ident_of(children), expr_of(children), span=span)

    def on_name(self, children: list[Child], span: Span) -> t.Ident:
        return t.Ident(str(token_of(children[0])), span=span)

    def on_names(self, children: list[Child], span: Span) -> Part:
        return Part("names", tuple(nodes_of(children, (t.Ident,))), span=span)

    def on_axes(self, children: list[Child], span: Span) -> Part:
        (names,) = nodes_of(children, (Part,))
        return Part("names", names.values, span=span)

    def on_target(self, children: list[Child], span: Span) -> t.Target:
        return t.Target(ident_of(children), axes_of(children), span=span)

    def on_memory(self, children: list[Child], span: Span) -> t.Memory:
        lists = [idents_of(part) for part in nodes_of(children, (Part,)) if part.kind == "names"]
        inputs, outputs = (lists[0], lists[1]) if len(lists) == 2 else ((), lists[0])
        structure = self.required_call(
            children, "the structure of a memory", "mlp(hidden = 4 * n, activation = silu)"
        )
        return t.Memory(ident_of(children), inputs, outputs, is_complex(children), structure, span=span)

    def on_objective(self, children: list[Child], span: Span) -> t.Objective:
        return t.Objective(value_of(children), span=span)

    def on_retention(self, children: list[Child], span: Span) -> t.Retention:
        return t.Retention(memory_of(children), value_of(children), span=span)

    def on_learner(self, children: list[Child], span: Span) -> t.Node:
        call = self.required_call(children, "a learner", "gd(rate = 0.1)")
        return t.Learner(memory_of(children), call or self.no_call(span), span=span)

    def on_proximal(self, children: list[Child], span: Span) -> t.Node:
        call = self.required_call(children, "a proximal operator", "soft_threshold(0.1)")
        return t.Proximal(memory_of(children), call or self.no_call(span), span=span)

    def on_of(self, children: list[Child], span: Span) -> Part:
        return Part("of", (ident_of(children),), span=span)

    def required_call(self, children: list[Child], what: str, example: str) -> t.Call | None:
        value = expr_of(children)
        if value is None or isinstance(value, t.Call):
            return value
        self.bag.add(NotALearner(value.span, what, example))
        return None

    def no_call(self, span: Span) -> t.Call:
        """Stands for a call after the fault has been reported."""
        return t.Call(t.Name("missing", span=span), (), (), (), span=span)

    def on_state(self, children: list[Child], span: Span) -> t.State:
        return t.State(
            ident_of(children), axes_of(children) or (), is_complex(children), expr_of(children), span=span
        )

    def on_store(self, children: list[Child], span: Span) -> t.Store:
        options = tuple(nodes_of(children, (t.Keyword,)))
        self.check_repeated(options)
        return t.Store(ident_of(children), axes_of(children) or (), value_of(children), options, span=span)

    def on_complex(self, children: list[Child], span: Span) -> Part:
        return Part("complex", (), span=span)

    def on_update(self, children: list[Child], span: Span) -> t.Update:
        return t.Update(self.primed_ident(token_of(children[0])), value_of(children), span=span)

    def primed_ident(self, token: Token) -> t.Ident:
        whole = span_of(self.source, token)
        name = str(token)[:-1]
        if name.upper() in KEYWORD_TOKENS and name.islower():
            self.bag.add(ReservedWord(whole, name))
        return t.Ident(name, span=Span(self.source, whole.start, whole.end - 1))

    def on_param(self, children: list[Child], span: Span) -> t.ParamDecl:
        return t.ParamDecl(ident_of(children), axes_of(children) or (), value_of(children), span=span)

    def on_let(self, children: list[Child], span: Span) -> t.Let:
        return t.Let(tuple(nodes_of(children, (t.Target,))), value_of(children), span=span)

    def on_assign(self, children: list[Child], span: Span) -> t.Assign:
        (target,) = nodes_of(children, (t.Target,))
        return t.Assign(target, value_of(children), span=span)

    def on_return(self, children: list[Child], span: Span) -> t.Return:
        return t.Return(tuple(child for child in children if is_expr(child)), span=span)

    def on_repeat(self, children: list[Child], span: Span) -> t.Repeat:
        count, index = self.take_index(value_of(children))
        shared = next((part for part in nodes_of(children, (Part,)) if part.kind == "shared"), None)
        if shared is not None and shared.values:
            if index is not None:
                self.bag.add(NameWithoutCall(index.span))
            index = cast(t.Ident, shared.values[0])
        body = self.sequence_body("`repeat`", statements_of(children))
        return t.Repeat(count, shared is not None, index, body, span=span)

    def on_shared(self, children: list[Child], span: Span) -> Part:
        return Part("shared", tuple(nodes_of(children, (t.Ident,))), span=span)

    def take_index(self, expr: t.Expr) -> tuple[t.Expr, t.Ident | None]:
        """Undo `as l` at the right end of a count: there it names the index of the repetition."""
        if isinstance(expr, t.Binary):
            right, index = self.take_index(expr.right)
            return (
                (expr, None)
                if index is None
                else (replace(expr, right=right, span=expr.left.span.to(right.span)), index)
            )
        if isinstance(expr, t.Call) and expr.as_name is not None and not self.in_parentheses(expr):
            return replace(expr, as_name=None), expr.as_name
        for i, (node, name) in enumerate(self.named):
            if node is expr:
                del self.named[i]
                return expr, name
        return expr, None

    def on_if(self, children: list[Child], span: Span) -> t.If:
        orelse: tuple[t.Node, ...] = ()
        last = children[-1]
        if isinstance(last, Part) and last.kind == "else":
            orelse = last.values
        elif isinstance(last, t.If):
            orelse = (last,)
        has_else = any(isinstance(child, Token) and child.type == "ELSE" for child in children)
        then = self.sequence_body("`if`", statements_of(children[:-1] if has_else else children))
        return t.If(value_of(children), then, cast("tuple[t.BlockStatement, ...]", orelse), span=span)

    def on_else_block(self, children: list[Child], span: Span) -> Part:
        return Part("else", self.sequence_body("`else`", statements_of(children)), span=span)

    def on_number(self, children: list[Child], span: Span) -> t.Number:
        text = str(token_of(children[0]))
        # A number that is too long was reported with its token.
        text = text if len(text) <= MAX_DIGITS else "0"
        return t.Number(int(text) if text.isdecimal() else float(text), span=span)

    def on_value(self, children: list[Child], span: Span) -> t.Name:
        return t.Name(str(token_of(children[0])), span=span)

    def on_primed(self, children: list[Child], span: Span) -> t.Name:
        return t.Name(self.primed_ident(token_of(children[0])).text, True, span=span)

    def on_true(self, children: list[Child], span: Span) -> t.Bool:
        return t.Bool(True, span=span)

    def on_false(self, children: list[Child], span: Span) -> t.Bool:
        return t.Bool(False, span=span)

    def on_group(self, children: list[Child], span: Span) -> t.Expr:
        return replace(value_of(children), span=span)

    def on_unary(self, children: list[Child], span: Span) -> t.Unary:
        return t.Unary(cast(t.UnaryOp, str(token_of(children[0]))), value_of(children), span=span)

    def on_binary(self, children: list[Child], span: Span) -> t.Binary:
        left, operator, right = children
        assert is_expr(left)
        assert is_expr(right)
        return t.Binary(
            cast(t.BinaryOp, str(token_of(operator))), left, right, span=span, op_span=self.span(operator)
        )

    def on_axis_item(self, children: list[Child], span: Span) -> t.AxisItem:
        idents = tuple(nodes_of(children, (t.Ident,)))
        return t.AxisItem(idents[0], idents[1] if len(idents) > 1 else None, span=span)

    def on_bracket(self, children: list[Child], span: Span) -> t.Bracket:
        return t.Bracket(value_of(children), tuple(nodes_of(children, (t.AxisItem,))), span=span)

    def on_keyword(self, children: list[Child], span: Span) -> t.Keyword:
        return t.Keyword(ident_of(children), value_of(children), span=span)

    def on_arguments(self, children: list[Child], span: Span) -> Part:
        arguments = tuple(child for child in children if isinstance(child, t.Node))
        first = next((argument for argument in arguments if isinstance(argument, t.Keyword)), None)
        if first is not None:
            for argument in arguments[arguments.index(first) :]:
                if not isinstance(argument, t.Keyword):
                    self.bag.add(PositionalAfterKeyword(argument.span, first.span))
        self.check_repeated(tuple(argument for argument in arguments if isinstance(argument, t.Keyword)))
        return Part("arguments", arguments, span=span)

    def check_repeated(self, keywords: tuple[t.Keyword, ...]) -> None:
        seen: dict[str, t.Keyword] = {}
        for keyword in keywords:
            first = seen.setdefault(keyword.name.text, keyword)
            if first is not keyword:
                self.bag.add(RepeatedArgument(keyword.name.span, keyword.name.text, first.name.span))

    def on_call(self, children: list[Child], span: Span) -> t.Expr:
        callee = value_of(children)
        over: tuple[t.Ident, ...] = ()
        if isinstance(callee, t.Bracket) and not self.in_parentheses(callee):
            over = self.over(callee)
            callee = callee.value
        if not isinstance(callee, t.Name) or self.in_parentheses(callee):
            opening = self.span(children[1])
            begins_line = "\n" in self.source.text[callee.span.end : opening.start]
            self.bag.add(NotCallable(callee.span, begins_line))
            return callee
        return self.call(callee, over, children, span)

    def on_complex_call(self, children: list[Child], span: Span) -> t.Expr:
        """`complex(re, im)`: the one reserved word that is also an operation."""
        word = token_of(children[0])
        return self.call(t.Name(str(word), span=self.span(word)), (), children, span)

    def call(self, callee: t.Name, over: tuple[t.Ident, ...], children: list[Child], span: Span) -> t.Call:
        arguments = next(
            (part.values for part in nodes_of(children, (Part,)) if part.kind == "arguments"), ()
        )
        args = tuple(argument for argument in arguments if is_expr(argument))
        keywords = tuple(argument for argument in arguments if isinstance(argument, t.Keyword))
        return t.Call(callee, over, args, keywords, span=span)

    def over(self, bracket: t.Bracket) -> tuple[t.Ident, ...]:
        for item in bracket.items:
            if item.renamed_to is not None:
                self.bag.add(RenameInCall(item.span))
        return tuple(item.axis for item in bracket.items)

    def on_result(self, children: list[Child], span: Span) -> t.Expr:
        value = value_of(children)
        if not isinstance(value, t.Call) or value.result is not None or self.in_parentheses(value):
            return self.refuse(ResultWithoutCall(self.span(children[1]).to(span.at_end)), value)
        return replace(value, result=axes_of(children), span=span)

    def on_named(self, children: list[Child], span: Span) -> t.Expr:
        value = value_of(children)
        name = ident_of(children)
        if isinstance(value, t.Call) and value.as_name is None and not self.in_parentheses(value):
            return replace(value, as_name=name, span=span)
        self.named.append((value, name))
        return value

    def in_parentheses(self, expr: t.Node) -> bool:
        return self.source.text.startswith("(", expr.span.start)

    def refuse(self, diagnostic: Diagnostic, instead: t.Expr) -> t.Expr:
        self.bag.add(diagnostic)
        return instead
