"""The slopes that Newton's iteration is made with are the entries of the Jacobian that autograd finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqc.ir import build
from seqc.ir.expr import Const, Expr, Leaf, LeafKind
from seqc.oracle.evaluate import Frame, evaluate, order
from seqc.passes.jacobian import entrywise, is_entrywise

SIZES = {"d": 3, "e": 3, "h": 2}
STATES = [Leaf(LeafKind.STATE, name, ("h", "d")) for name in ("p", "q")]
OTHERS = [
    Leaf(LeafKind.INPUT, "x", ("d",)),
    Leaf(LeafKind.INPUT, "y", ("h", "d")),
    Leaf(LeafKind.INPUT, "g", ("h",)),
]
MATRIX = Leaf(LeafKind.PARAM, "R", ("h", "d", "e"))
UNARY = ("tanh", "sigmoid", "sin", "neg", "silu", "softplus")


def leaves_of(draw: st.DrawFn) -> Expr:
    return draw(st.sampled_from([*STATES, *STATES, *OTHERS, Const(0.5)]))


@st.composite
def updates(draw: st.DrawFn, matrices: bool) -> Expr:
    """A function of two states; with `matrices`, sums over renamed entries too."""

    def expression(depth: int) -> Expr:
        kind = draw(st.integers(0, 5)) if depth else 0
        if kind == 0:
            return leaves_of(draw)
        if kind == 1:
            return build.apply(draw(st.sampled_from(UNARY)), expression(depth - 1))
        if kind == 2 and matrices:
            inner = expression(depth - 1)
            return build.sum_over(["e"], build.mul(MATRIX, build.rename(inner, {"d": "e"})))
        if kind == 3 and matrices:
            return build.sum_over(["d"], build.mul(expression(depth - 1), OTHERS[0]))
        if kind == 4:
            chosen = build.apply("gt", expression(depth - 1), Const(0.1))
            return build.where(chosen, expression(depth - 1), expression(depth - 1))
        return build.apply(
            draw(st.sampled_from(["add", "mul", "sub"])), expression(depth - 1), expression(depth - 1)
        )

    return expression(3)


def value(expr: Expr, known: dict[Expr, Tensor]) -> Tensor:
    """[h, d], spread where the expression is constant."""
    found = evaluate(order([expr]), Frame((), SIZES, known))[expr]
    at = [expr.axes.index(axis) for axis in ("h", "d") if axis in expr.axes]
    found = found.permute(at) if at else found
    for place, axis in enumerate(("h", "d")):
        found = found if axis in expr.axes else found.unsqueeze(place)
    return found.expand(SIZES["h"], SIZES["d"])


def check(update: Expr) -> None:
    gen = torch.Generator().manual_seed(0)
    known: dict[Expr, Tensor] = {
        leaf: torch.randn([SIZES[a] for a in leaf.axes], generator=gen, dtype=torch.float64)
        for leaf in (*STATES, *OTHERS, MATRIX)
    }
    exact = is_entrywise([update], STATES)
    for state in STATES:

        def of_state(x: Tensor, state: Leaf = state) -> Tensor:
            return value(update, {**known, state: x}).reshape(-1)

        jacobian: Tensor = torch.autograd.functional.jacobian(of_state, known[state]).reshape(6, 6)
        slope = value(entrywise(update, state), known).reshape(-1)
        assert torch.allclose(slope, jacobian.diagonal(), atol=1e-12)
        if exact:
            assert torch.equal(jacobian, jacobian.diagonal().diag())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(updates(matrices=False))
def test_elementwise_updates_have_nothing_off_the_diagonal(update: Expr) -> None:
    assert is_entrywise([update], STATES)
    check(update)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(updates(matrices=True))
def test_behind_matrices_it_is_the_diagonal(update: Expr) -> None:
    check(update)


def test_a_name_that_a_sum_binds_is_not_the_place_of_the_update() -> None:
    """Both sums of a matrix applied twice run over names that stand outside too."""
    p = STATES[0]
    once = build.sum_over(["e"], build.mul(MATRIX, build.rename(p, {"d": "e"})))
    check(build.sum_over(["e"], build.mul(MATRIX, build.rename(build.apply("tanh", once), {"d": "e"}))))


def test_a_transposed_state_meets_itself_on_its_diagonal_only() -> None:
    square = Leaf(LeafKind.STATE, "S", ("d", "e"))
    slope = entrywise(build.rename(square, {"d": "e", "e": "d"}), square)
    found = evaluate(order([slope]), Frame((), SIZES, {}))[slope]
    assert torch.equal(found.double(), torch.eye(3).double())


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(updates(matrices=True))
def test_many(update: Expr) -> None:
    check(update)
