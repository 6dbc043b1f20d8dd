"""Scans before they are printed: complex ones as pairs, fewer of them, and readouts behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from seqc.ir import build
from seqc.ir.build import ZERO, apply, where
from seqc.ir.expr import DType, Expr, Index, Leaf, LeafKind, Scan
from seqc.ir.plan import TOKEN
from seqc.ir.traverse import leaves, walk
from seqc.passes.schedule import schedule
from tests.emit.triton.parts import MAKERS, kernels_of, of_spec, written

if TYPE_CHECKING:
    from backends.triton.pairs import paired  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.readouts import with_whole_reads  # noqa: TID251
    from backends.triton.scans import joined, outside_scans  # noqa: TID251
else:
    from seqc.backends.triton.pairs import paired
    from seqc.backends.triton.readouts import with_whole_reads
    from seqc.backends.triton.scans import joined, outside_scans


TWICE = """
rule twice(x[d], a[d]; e = d) {
    param  C[e, d] = normal(0, 1)
    state  h[d] = 0
    h'     = a * h + x
    return sum[d](C * h') * max[d](h')
}
"""


def known(name: str, *axes: str) -> Leaf:
    return Leaf(LeafKind.READ, name, axes)


GATE, X, H, G = known("a", TOKEN, "d"), known("x", TOKEN, "d"), known("h", "d"), known("g", "d")
LAST = apply("eq", Index(TOKEN), build.const(31))
FIRST = apply("eq", Index(TOKEN), ZERO)


def scan(source: Expr) -> Scan:
    return Scan(GATE, source, TOKEN, reverse=True)


def test_what_all_summands_share_is_taken_out_of_a_scan() -> None:
    """So that two scans of the way back become one."""
    plain = build.add(X, where(LAST, G, ZERO))
    times = build.add(build.mul(X, H), where(LAST, build.mul(G, H), ZERO))
    assert outside_scans([scan(plain), scan(times)]) == (scan(plain), build.mul(H, scan(plain)))


@pytest.mark.parametrize(
    "source",
    [
        X,
        H,  # nothing else is left
        build.add(build.mul(X, H), G),
        where(LAST, build.mul(X, X), build.mul(X, H)),
    ],
)
def test_nothing_else_is(source: Expr) -> None:
    assert outside_scans([scan(source)]) == (scan(source),)


def test_products_of_gates_come_from_a_scan_with_these_gates() -> None:
    product = Scan(GATE, where(FIRST, GATE, ZERO), TOKEN)
    other = Scan(GATE, X, TOKEN)
    assert joined([product, other]) == {product: other}
    assert joined([product]) == {}
    assert joined([product, Scan(X, GATE, TOKEN)]) == {}
    assert joined([product, Scan(GATE, known("y", TOKEN, "d", "n"), TOKEN)]) == {}
    assert joined([Scan(GATE, where(LAST, GATE, ZERO), TOKEN), other]) == {}
    assert joined([product, Scan(GATE, build.mul(X, product), TOKEN)]) == {}  # which needs them
    assert joined([scan(where(FIRST, GATE, ZERO)), scan(X)]) == {}


@pytest.mark.parametrize("name", ["diagonal, complex", "turning", "nearly one"])
def test_stages_of_complex_numbers_become_real_but_for_scans(name: str) -> None:
    plan = schedule(MAKERS[name]())
    stage, adjoint = paired(plan.stages[0], plan.adjoints[0])
    assert [state.name for state in stage.carried] == ["h.re", "h.im"]
    assert len(adjoint.inputs) == len(stage.inputs) > len(plan.stages[0].inputs)
    roots = [*stage.updates, *(read.value for read in stage.reads), *adjoint.steps, *adjoint.inputs]
    assert all(leaf.dtype is not DType.COMPLEX for leaf in leaves(roots))
    complex_ones = {type(node).__name__ for node in walk(roots) if node.dtype is DType.COMPLEX}
    assert complex_ones <= {"Scan", "Apply"}


def test_a_stage_of_real_numbers_stays_what_it_is() -> None:
    plan = schedule(MAKERS["diagonal"]())
    assert paired(plan.stages[0], plan.adjoints[0]) == (plan.stages[0], plan.adjoints[0])


def test_a_matrix_of_parameters_reads_the_states_of_all_tokens_at_once() -> None:
    plan = with_whole_reads(schedule(MAKERS["diagonal, complex"]()))
    (read,) = plan.stages[0].reads
    assert read.leaf.axes == plan.stages[0].carried[0].axes
    assert not any(item.constant for item in plan.stages[0].inputs)
    assert read.leaf in leaves(plan.outputs)
    assert with_whole_reads(plan) is plan


def test_states_that_are_read_in_two_ways_are_one_result() -> None:
    plan = with_whole_reads(schedule(written(TWICE, d=5)()))
    (read,) = plan.stages[0].reads
    assert {leaf for leaf in leaves(plan.outputs) if leaf.kind is LeafKind.READ} == {read.leaf}


def test_a_readout_that_leads_to_no_other_axis_stays_in_the_stage() -> None:
    """S4D adds up 3 states a channel: what it answers is less than what it keeps."""
    plan = schedule(of_spec("complex/s4d", "s4d", d=5, n=3)())
    assert with_whole_reads(plan) is plan


def test_complex_rules_have_blocks() -> None:
    (stage,) = kernels_of(MAKERS["turning"]()).stages
    assert stage.kernels.face.tile == 64
    assert stage.kernels.face.exact
    assert kernels_of(MAKERS["no loop"]()).stages
    assert kernels_of(MAKERS["diagonal, complex matrix"]()).stages == []  # a gate a key: a loop
