"""Every primitive of the table is spelled, and means what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqc.ir import build
from seqc.ir.expr import Const, DType, Expr, Leaf, LeafKind
from seqc.ir.ops import OPS, RANDOM
from seqc.ir.recurrence import Recurrence

from .parts import COMPLEX_PRIMITIVES, PRIMITIVES
from .running import export

PARTS = {"complex", "polar", "real", "imag", "conj"}  # real only in name
BOOLEAN = {"and", "or", "not"}
POSITIVE = {"log", "sqrt", "inv_softplus", "pow", "sqrt_bounded", "log1p"}


def test_no_row_is_missing() -> None:
    assert set(OPS) - RANDOM - PARTS == set(PRIMITIVES)
    assert set(COMPLEX_PRIMITIVES) <= set(OPS)
    assert set(COMPLEX_PRIMITIVES) >= PARTS


def stateless(*outputs: Expr) -> Recurrence:
    x, y = (Leaf(LeafKind.INPUT, name, ("d",)) for name in "xy")
    return Recurrence("f", (x, y), (), (), (), (), outputs, (("d",),) * len(outputs), {"d": 40})


def application(op: str) -> Expr:
    x: Expr = Leaf(LeafKind.INPUT, "x", ("d",))
    y: Expr = Leaf(LeafKind.INPUT, "y", ("d",))
    if op in BOOLEAN:
        parts = [build.apply("gt", z, Const(0)) for z in (x, y)]
        return build.where(build.apply(op, *parts[: OPS[op].arity]), x, y)
    if op == "where":
        return build.where(build.apply("gt", x, y), x, y)
    if op in POSITIVE:
        x = build.add(build.apply("abs", x), Const(1e-3))
    if op == "sqrt_bounded":
        return build.apply(op, x, Const(1000))
    result = build.apply(op, *(x, y)[: OPS[op].arity])
    return build.where(result, Const(1), Const(-1)) if result.dtype is DType.BOOL else result


@pytest.mark.parametrize("op", sorted(set(PRIMITIVES)))
def test_values(tmp_path: Path, op: str) -> None:
    exported = export(
        stateless(build.add(application(op), build.mul(Const(0), Leaf(LeafKind.INPUT, "y", ("d",))))),
        tmp_path,
    )
    inputs = exported.inputs(
        2, 3, {"x": lambda r, s: 2 * r.standard_normal(s), "y": lambda r, s: r.uniform(0.5, 2, s)}
    )
    np.testing.assert_allclose(
        exported.whole(inputs)[0][0], exported.expected(inputs)[0], rtol=3e-6, atol=1e-6
    )


@pytest.mark.parametrize("op", ["expm1", "log1p"])
def test_no_cancellation_near_zero(tmp_path: Path, op: str) -> None:
    x = Leaf(LeafKind.INPUT, "x", ("d",))
    y = Leaf(LeafKind.INPUT, "y", ("d",))
    exported = export(stateless(build.apply(op, x), y), tmp_path)
    inputs = exported.inputs(1, 1, {"x": lambda r, s: r.standard_normal(s) * 1e-6})
    np.testing.assert_allclose(exported.whole(inputs)[0][0], exported.expected(inputs)[0], rtol=1e-6)


@pytest.mark.parametrize("op", ["mul", "div", "add", "sub"])
def test_complex_arithmetic(tmp_path: Path, op: str) -> None:
    x, y = (Leaf(LeafKind.INPUT, name, ("d",)) for name in "xy")
    a = build.apply("complex", x, build.add(y, Const(1)))
    b = build.apply("exp", build.apply("complex", build.mul(Const(0.1), y), x))
    z = build.apply(op, a, build.apply("conj", b))
    shown = [build.apply("real", z), build.apply("imag", z), build.apply("abs", z)]
    exported = export(stateless(*shown), tmp_path)
    inputs = exported.inputs(1, 2)
    for found, wanted in zip(exported.whole(inputs)[0], exported.expected(inputs), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("powers", [(1, 2), (2, 2), (3, 0), (3, 2)])
def test_a_sum_of_a_product_with_a_factor_more_than_once(tmp_path: Path, powers: tuple[int, int]) -> None:
    x, y = (Leaf(LeafKind.INPUT, name, ("d",)) for name in "xy")
    w = Leaf(LeafKind.INPUT, "w", ("d", "e"))
    product = build.product([w, *[x] * powers[0], *[y] * powers[1]])
    whole = Recurrence(
        *("f", (x, y, w), (), (), (), ()),
        (build.sum_over(("d",), product), build.sum_over(("d", "e"), product)),
        (("e",), ()),
        {"d": 7, "e": 3},
    )
    exported = export(whole, tmp_path)
    inputs = exported.inputs(2, 3)
    for found, wanted in zip(exported.whole(inputs)[0], exported.expected(inputs), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
