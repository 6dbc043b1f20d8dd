"""Text and JSON of random expressions."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given, settings
from pydantic import BaseModel

from seqc.ir import build
from seqc.ir import expr as expr_module
from seqc.ir.expr import Const, Expr, Leaf, LeafKind
from seqc.ir.forms import (
    FORMS,
    FunctionForm,
    ParameterForm,
    RecurrenceForm,
    RepeatForm,
    StateForm,
    StoreForm,
)
from seqc.ir.program import Function, Repeat
from seqc.ir.recurrence import Parameter, Recurrence, State, Store
from seqc.ir.serial import InvalidForm, expressions_from_json, expressions_to_json, from_json, to_json
from seqc.ir.text import format_expr, format_recurrence
from tests.oracle.rules import gated_delta, softmax_attention
from tests.properties.expressions import expressions


@settings(max_examples=150, deadline=None)
@given(expressions(steps=12, differentiable=False))
def test_json_reads_back_as_the_same_object(expr: Expr) -> None:
    assert expressions_from_json(expressions_to_json([expr])) == (expr,)


@settings(max_examples=100, deadline=None)
@given(expressions(steps=12, differentiable=False))
def test_text_has_balanced_brackets_on_one_line(expr: Expr) -> None:
    text = format_expr(expr)
    assert "\n" not in text
    for left, right in ("()", "[]"):
        assert text.count(left) == text.count(right)


def test_numbers_survive() -> None:
    numbers = tuple(map(Const, (0.0, -0.0, 0.1, 1e300, float("inf"), float("-inf"), float("nan"))))
    read = expressions_from_json(expressions_to_json(numbers))
    assert all(a is b for a, b in zip(read, numbers, strict=True))


@pytest.mark.parametrize("rule", [gated_delta(), softmax_attention()], ids=lambda rule: rule.name)
def test_a_recurrence_reads_back_equal(rule: Recurrence) -> None:
    text = to_json(rule)
    read = from_json(text)
    assert isinstance(read, Recurrence)
    assert to_json(read) == text
    assert read.updates == rule.updates
    assert read.outputs == rule.outputs
    assert format_recurrence(read) == format_recurrence(rule)


def test_a_deep_expression() -> None:
    x: Expr = Leaf(LeafKind.INPUT, "x", ("n",))
    deep = x
    for _ in range(20_000):
        deep = build.apply("sin", deep)
    assert format_expr(deep).endswith(")" * 100)
    assert expressions_from_json(expressions_to_json([deep])) == (deep,)


def test_a_shared_expression_is_not_written_out() -> None:
    x: Expr = Leaf(LeafKind.INPUT, "x", ("n",))
    for _ in range(100):
        x = build.mul(x, build.add(x, Const(1.0)))
    assert len(format_expr(x)) < 5000


X, Y = Leaf(LeafKind.INPUT, "x", ("n",)), Leaf(LeafKind.INPUT, "y", ("n",))


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (build.neg(build.mul(X, Y)), "-x * y"),
        (build.sub(X, build.sub(Y, X)), "x - (y - x)"),
        (build.add(X, build.add(Y, X)), "x + y + x"),
        (build.mul(X, build.div(Y, X)), "x * (y / x)"),
        (build.mul(build.add(X, Y), Const(-2.5)), "(x + y) * -2.5"),
        (build.apply("pow", build.neg(X), Const(2.0)), "(-x) ^ 2"),
        (build.neg(build.apply("pow", X, Y)), "-x ^ y"),
        (build.sum_over("n", build.mul(X, Y)), "sum[n](x * y)"),
        (build.rename(build.add(X, Y), {"n": "m"}), "(x + y)[n -> m]"),
    ],
    ids=str,
)
def test_parentheses_are_the_fewest(expr: Expr, text: str) -> None:
    assert format_expr(expr) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"format": "seqc.expressions", "version": 2, "nodes": [], "roots": []}',
        '{"format": "seqc.expressions", "version": 1, "nodes": [], "roots": [0]}',
        '{"format": "seqc.expressions", "version": 1, "nodes": [{"node": "flip", "arg": 0}], "roots": []}',
        '{"format": "seqc.expressions", "version": 1, "nodes": [{"node": "apply", "op": "rm"}], "roots": []}',
    ],
)
def test_what_is_not_the_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidForm):
        expressions_from_json(text)


def test_the_version_is_written() -> None:
    assert json.loads(to_json(gated_delta()))["version"] == 1


@pytest.mark.parametrize("node", list(FORMS))
def test_a_form_holds_every_field_of_its_node(node: type[Expr]) -> None:
    own = {field.name for field in fields(node) if field.init}
    assert set(FORMS[node].model_fields) - {"node"} == own


@pytest.mark.parametrize(
    ("held", "form", "elsewhere"),
    [
        (Parameter, ParameterForm, set[str]()),
        (State, StateForm, set[str]()),
        (Store, StoreForm, set[str]()),
        (Recurrence, RecurrenceForm, {"callable", "nodes"}),
        (Function, FunctionForm, {"callable", "nodes", "names"}),
        (Repeat, RepeatForm, {"callable"}),
    ],
)
def test_a_form_holds_every_field_of_what_is_made_of_nodes(
    held: type, form: type[BaseModel], elsewhere: set[str]
) -> None:
    own = {field.name for field in fields(held)} - {"bindings"}
    assert set(form.model_fields) - elsewhere == own - elsewhere


def test_every_node_has_a_form() -> None:
    assert set(FORMS) == {node for node in vars(expr_module).values() if _is_node(node)}


def _is_node(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Expr) and value is not Expr
