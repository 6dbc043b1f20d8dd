"""`derive` against automatic differentiation of the oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqc.ir.expr import Apply, Const, DType, Expr, Index, Leaf, LeafKind, Shift
from seqc.ir.ops import OPS
from seqc.ir.traverse import leaves
from seqc.oracle.evaluate import Frame, evaluate, order, spread
from seqc.passes.derive import gradient
from tests.properties.expressions import COMPLEX_LEAVES, LEAVES, SIZES, applied, expressions, values


def check(expr: Expr, seed: int, ties: bool = False) -> None:
    """Compare the derived cotangent of every leaf with the automatic one."""
    wrt = sorted(
        (leaf for leaf in leaves([expr]) if leaf in (*LEAVES, *COMPLEX_LEAVES)), key=lambda x: x.name
    )
    given_ = values(seed, ties)
    tracked: dict[Expr, Tensor] = {leaf: given_[leaf].requires_grad_() for leaf in wrt}
    frame = Frame((), SIZES, tracked)
    out = spread(evaluate(order([expr]), frame)[expr], expr.axes, expr.axes, frame)
    if not out.requires_grad or not bool((out.detach().abs() < 1e6).all()):
        return
    g = Leaf(LeafKind.COTANGENT, "g", expr.axes, expr.dtype)
    cotangent = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(seed + 1))
    wanted = torch.autograd.grad(
        out, [tracked[leaf] for leaf in wrt], cotangent, allow_unused=True, materialize_grads=True
    )
    derived = gradient(expr, wrt, g)
    plain: dict[Expr, Tensor] = {leaf: x.detach() for leaf, x in tracked.items()}
    frame = Frame((), SIZES, {**plain, g: cotangent})
    found = evaluate(order(derived), frame)
    for leaf, expression, want in zip(wrt, derived, wanted, strict=True):
        got = spread(found[expression], expression.axes, leaf.axes, frame)
        assert set(expression.axes) <= set(leaf.axes)
        assert leaf.dtype is DType.COMPLEX or not got.is_complex()
        torch.testing.assert_close(got.to(want.dtype), want, rtol=1e-8, atol=1e-8)


def test_a_cotangent_that_is_zero_is_not_moved() -> None:
    """The slope of 1^x is log 1, which is written as 0."""
    z = next(leaf for leaf in LEAVES if not leaf.axes)
    moved = Shift("t", -5, Apply("sin", (Apply("add", (Index("t"), z)),)))
    check(Apply("pow", (Const(1.0), moved)), 0)


@settings(max_examples=150, deadline=None)
@given(expressions(), st.integers(0, 1000))
def test_gradient_is_the_automatic_one(expr: Expr, seed: int) -> None:
    check(expr, seed)


@settings(max_examples=50, deadline=None)
@given(expressions(steps=4, allow_complex=False), st.integers(0, 1000))
def test_gradient_at_ties(expr: Expr, seed: int) -> None:
    check(expr, seed, ties=True)


@pytest.mark.parametrize("op", sorted(op for op, row in OPS.items() if row.gradient is not None))
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_gradient_of_each_primitive(op: str, kind: str) -> None:
    first = COMPLEX_LEAVES if kind == "complex" else LEAVES[:2]
    args = [first[0], first[1], LEAVES[0]] if op != "where" else [LEAVES[1], first[0], first[1]]
    for seed in range(3):
        check(applied(op, args[: OPS[op].arity]), seed)
