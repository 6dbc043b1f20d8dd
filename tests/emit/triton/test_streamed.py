"""Held memories whose states lie in memory, in Triton's interpreter against the token loop: values and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from seqc.ir import build
from seqc.ir.expr import Expr, Leaf, LeafKind, Reduce
from seqc.ir.traverse import leaves, substitute, walk
from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import MAKERS, aot, kernels_of, of_spec, written
from tests.emit.triton.test_windows import compared

if TYPE_CHECKING:
    from backends.triton import contractions  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton import stream as cut  # noqa: TID251
else:
    from seqc.backends.triton import contractions
    from seqc.backends.triton import stream as cut

pytest.importorskip("triton")

LONG = """
rule hold(q[n], k[n], v[m]; c = 16) {
    memory    M: n -> m
    objective -sum[m](M(k) * v)
    learner   gd(rate = 1, every = c)
    return    M'(q)
}
"""
NETWORK = """
rule network(q[n], k[n], v[m], theta; c = 16) {
    memory    M: n -> m = mlp(hidden = 7 * n, activation = tanh)
    objective 0.5 * sumsq(M(k) - v)
    learner   gd(rate = theta, every = c)
    return    M'(q)
}
"""
MAKERS["streamed, long"] = written(LONG, n=1100, m=3)
MAKERS["streamed, matrix"] = written(LONG.replace("-sum[m](M(k) * v)", "0.5 * sumsq(M(k) - v)"), n=19, m=3)
MAKERS["streamed, network"] = written(NETWORK, n=5, m=3)
MAKERS["streamed, shorter"] = written(NETWORK, n=5, m=3, c=11)
MAKERS["streamed, layers"] = of_spec("deep/ttt", "ttt_mlp", n=5)
MAKERS["streamed, momentum"] = of_spec("deep/titans", "titans", n=9, m=5)
SIZES = {"n": 64, "m": 64}


def streamed(name: str, time: int, resets: bool, begun: bool) -> list[float]:
    """As `compared`, as if nothing fitted into registers, three programs at once."""
    with (
        patch.object(parts.stage, "LIMIT", 0),
        patch.object(parts.stream, "SHARE", 3),
        patch.object(contractions, "LARGEST", 0),
        patch.object(cut, "LONGEST", 5),
    ):
        (made,) = kernels_of(MAKERS[name]()).stages
        assert made.kernels.face.form == "streamed"
        return compared(name, time, resets, begun)


def test_states_in_memory_are_taken_a_tile_at_a_time(interpreted: Interpreted) -> None:
    """Two tiles, of which the second is not whole; sequences begin anew within windows."""
    assert max(interpreted(streamed, "streamed, matrix", 19, True, True)) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["streamed, network", "streamed, shorter", "streamed, momentum", "streamed, layers"]
)
def test_networks_in_memory(name: str, interpreted: Interpreted) -> None:
    assert max(interpreted(streamed, name, 19, True, True)) < 2e-6


def test_what_fits_into_registers_stays_there() -> None:
    forms = {
        name: [
            stage.kernels.face.form for stage in kernels_of(of_spec("deep/titans", name, **SIZES)()).stages
        ]
        for name in ("titans", "titans_linear")
    }
    assert forms == {"titans": ["streamed"], "titans_linear": ["windows"]}


def test_what_has_states_in_memory_has_no_loop_that_keeps_them() -> None:
    assert kernels_of(of_spec("deep/titans", "titans", **SIZES)()).kernel is None


def test_no_token_has_a_layer_written_out() -> None:
    """The second layer of TTT's network, behind a bias, is what it was before the block and what tokens add to it."""
    (stage,) = kernels_of(of_spec("deep/ttt", "ttt_mlp", n=64)()).stages
    assert stage.kernels.face.form == "streamed"
    assert max(room for _, room in stage.kernels.face.room) < 16 * 64 * 256


def test_many_phases_are_several_kernels() -> None:
    """But not of those that go from block to block; all work is counted."""
    (stage,) = kernels_of(of_spec("deep/titans", "titans", **SIZES)()).stages
    face, text = stage.kernels.face, stage.kernels.text
    names = [name for kernel, _ in face.pieces for name in face.each(kernel)]
    assert {kernel for kernel, _ in face.pieces} == {"prepare", "answer", "prepare_back", "differentiate0"}
    assert all(f"def {name}(" in text for name in names)
    assert [*aot.block_kernels(face)] == [*dict.fromkeys(aot.block_kernels(face))]
    assert {*names, "sweep", "sweep_back"} == {*aot.block_kernels(face)}
    with patch.object(cut, "LONGEST", 1000):
        (whole,) = kernels_of(of_spec("deep/titans", "titans", **SIZES)()).stages
    every, once = face.work, whole.kernels.face.work
    assert sum(work[2] for work in every.values()) == sum(work[2] for work in once.values()) > 0


def test_the_phases_beside_the_kernels_are_what_is_written() -> None:
    """A unit holds the functions that `kernels/stream.py` imports, as `kernels/phases.py` has them for one rule."""
    (stage,) = kernels_of(MAKERS["streamed, long"]()).stages
    found = parts.functions(stage.kernels.text)
    assert parts.functions("\n".join(parts.definitions("phases").values())).items() <= found.items()
    kernels = parts.functions("\n".join(parts.definitions("stream").values()))
    differentiate = kernels.pop("differentiate")
    assert (
        differentiate.replace("differentiate", "differentiate0").replace("'gradients'", "'gradients0'")
        == (found["differentiate0"])
    )
    assert kernels.items() <= found.items()


def test_a_sum_over_all_tiles_is_computed_before_what_needs_it_at_each() -> None:
    """Softmax along the axis that is cut: the maximum, then the sum, then each tile."""
    x = Leaf(LeafKind.READ, "x", ("i", "h"))
    top = Reduce("max", ("h",), x)
    near = build.apply("exp", build.sub(x, top))
    root = build.div(near, Reduce("sum", ("h",), near))
    found = parts.phases([root], [Leaf(LeafKind.READ, "y", ("i", "h"))], "h")
    assert [phase.leaf.axes for phase in found] == [("i",), ("i",), ("i", "h")]
    assert [phase.depth for phase in found] == [0, 1, 2]
    known: dict[Expr, Expr] = {}
    for phase in found:
        assert leaves([phase.value]) <= {x, *known}
        known[phase.leaf] = substitute([phase.value], known)[0]
    assert known[found[-1].leaf] is root


def test_what_meets_twice_is_kept_in_between() -> None:
    """A product of three matrices, twice: no phase has a sum inside of a sum."""
    a, b, c = (
        Leaf(LeafKind.READ, name, tuple(axes)) for name, axes in (("a", "ij"), ("b", "jk"), ("c", "ki"))
    )
    inner = Reduce("sum", ("j",), build.mul(a, b))
    roots = [Reduce("sum", ("k",), build.mul(inner, c)), build.apply("exp", inner)]
    targets = [Leaf(LeafKind.READ, name, x.axes) for name, x in zip("yz", roots, strict=True)]
    found = parts.phases(roots, targets, "h")
    assert [(phase.place, phase.depth) for phase in found] == [(None, 0), (0, 1), (1, 1)]
    for phase in found:
        assert sum(isinstance(node, Reduce) for node in walk([phase.value])) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["sweep", "answer", "sweep_back"])
def test_machine_code_spills_nothing(kernel: str) -> None:
    (gpu,) = aot.targets("sm_90")
    (stage,) = kernels_of(of_spec("deep/titans", "titans", **SIZES)()).stages
    assert aot.compiled_blocks(stage.kernels, kernel, gpu, "bfloat16").spills == 0
