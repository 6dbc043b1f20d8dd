"""What expressions of blocks are rewritten to: the same values, with smaller sums, smaller shifts, and less work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from seqc.ir import build
from seqc.ir.build import ONE, ZERO, apply, where
from seqc.ir.expr import Expr, Index, Leaf, LeafKind, Reduce, Scan, Shift, Solve
from seqc.ir.traverse import walk
from seqc.oracle.evaluate import Frame, evaluate, order
from tests.emit.triton.parts import kernels_of, of_spec

if TYPE_CHECKING:
    from backends.triton import common, contractions, shifts  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.layout import Layout  # noqa: TID251
else:
    from seqc.backends.triton import common, contractions, shifts
    from seqc.backends.triton.layout import Layout

SIZES = {"i": 16, "j": 16, "h": 64, "m": 64, "n": 8}


def leaf(name: str, axes: str) -> Leaf:
    return Leaf(LeafKind.READ, name, tuple(axes))


def drawn(*found: Leaf) -> dict[Expr, Tensor]:
    return {x: torch.rand([SIZES[axis] for axis in x.axes], dtype=torch.float64) for x in found}


def values(roots: Sequence[Expr], known: Mapping[Expr, Tensor]) -> list[Tensor]:
    """Their axes in alphabetical order."""
    renamed = {axis: SIZES[axis.split("~")[0]] for root in roots for x in walk([root]) for axis in x.axes}
    found = evaluate(order(roots), Frame((), renamed, known))
    return [found[root].permute([root.axes.index(axis) for axis in sorted(root.axes)]) for root in roots]


def largest(root: Expr) -> int:
    return max(_size(node) for node in walk([root]) if isinstance(node, Reduce))


def moved(roots: Sequence[Expr]) -> int:
    return sum(_size(node) for node in walk(roots) if isinstance(node, Shift))


def _size(node: Expr) -> int:
    return prod(SIZES[axis.split("~")[0]] for axis in node.axes)


def function(text: str, name: str) -> str:
    """The text of a function of a unit."""
    return text.split(f"def {name}(")[1].split("@triton.jit")[0]


@pytest.mark.parametrize("own", ["jh", "ih"])
def test_sums_of_matrices_at_all_tokens_come_last(own: str) -> None:
    """`Σ_h x·(w - Σ_i k·g)`: the sum over h comes first; where `x` has an `i` too, that of the inner sum is renamed."""
    x, w, k, g = leaf("x", own), leaf("w", "hm"), leaf("k", "ih"), leaf("g", "jim")
    root = Reduce("sum", ("h",), build.mul(x, build.sub(w, Reduce("sum", ("i",), build.mul(k, g)))))
    (found,) = contractions.reordered([root], SIZES)
    known = drawn(x, w, k, g)
    assert largest(root) >= 16 * 64 * 64 > largest(found)
    for one, other in zip(values([root], known), values([found], known), strict=True):
        assert torch.allclose(one, other)


def test_sums_of_what_is_small_stay_as_they_are() -> None:
    x, w, k, g = leaf("x", "jh"), leaf("w", "hn"), leaf("k", "ih"), leaf("g", "jin")
    root = Reduce("sum", ("h",), build.mul(x, build.sub(w, Reduce("sum", ("i",), build.mul(k, g)))))
    assert contractions.reordered([root], SIZES) == (root,)


def _between(gates: Expr) -> Scan:
    """The products of gates after `j` up to `i`."""
    return Scan(gates, where(apply("eq", Index("i"), Index("j")), ONE, ZERO), "i")


@pytest.mark.parametrize("by", [1, 2, -1])
def test_shifts_go_to_smaller_blocks(by: int) -> None:
    a, x, k = leaf("a", "in"), leaf("x", "ij"), leaf("k", "jn")
    product, difference = build.mul(build.mul(x, k), a), build.sub(build.mul(x, k), build.mul(a, k))
    follow = Scan(build.rename(a, {}), build.mul(x, k), "i", reverse=by < 0)
    roots = [Shift("i", by, each) for each in (product, difference, follow)]
    roots += [Shift("i", by, _between(a))] if by > 0 else []
    found, known = shifts.inward(roots, SIZES), drawn(a, x, k)
    assert moved(found) < moved(roots) / 4
    for one, other in zip(values(roots, known), values(found, known), strict=True):
        assert torch.allclose(one, other)


def test_shifts_stay_where_that_moves_less() -> None:
    a, b, c = leaf("a", "in"), leaf("b", "in"), leaf("c", "n")
    kept = [
        Shift("i", 1, build.mul(a, b)),  # two blocks in place of one
        Shift("i", 1, build.add(a, c)),  # zeros come from both
        Shift("i", -1, Scan(a, b, "i")),  # what follows the last is not known
        Shift("i", 1, Scan(a, c, "i")),  # the first has a source where nothing comes from
    ]
    assert shifts.inward(kept, SIZES) == tuple(kept)


def test_what_is_dear_and_needed_twice_is_common() -> None:
    """Solutions of a system within two cotangents; not the elementwise gate, nor what one of them alone needs.

    Products of matrices are, too, where there are several systems, and nothing where there is none.
    """
    layout = Layout(SIZES, (), "m", 16, {}, 16)
    x, k, g = leaf("x", "ih"), leaf("k", "jh"), leaf("g", "ij")
    scores = build.mul(Reduce("sum", ("h",), build.mul(x, k)), g)
    solved = Solve(g, leaf("b", "ih"), "i", "j")
    alone = Reduce("sum", ("j",), build.mul(scores, leaf("v", "jm")))
    groups = [
        [alone, solved],
        [Reduce("sum", ("i",), build.mul(scores, leaf("u", "im")))],
        [apply("exp", solved)],
    ]
    assert list(common.common(groups, layout, 1)) == [solved]
    assert {*common.common(groups, layout, 2)} == {scores, solved}
    assert common.common(groups, layout, 0) == {}
    assert not common.partial(scores, layout)
    assert common.partial(Reduce("sum", ("m",), build.mul(leaf("u", "im"), leaf("v", "jm"))), layout)
    assert common.partial(scores, Layout(SIZES, ("h",), "m", 16, {}, 16))  # heads that share the scores


def test_what_is_common_is_computed_by_several_kernels_if_it_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each product of the chain below needs the one before; a kernel knows what earlier ones have written."""
    chain: list[Expr] = [leaf("x0", "ij")]
    for k in range(1, 8):
        step = build.mul(build.rename(chain[-1], {"j": "h"}), leaf(f"w{k}", "hj"))
        chain.append(Reduce("sum", ("h",), step))
    found = {node: Leaf(LeafKind.READ, f"%common{k}", node.axes) for k, node in enumerate(chain[1:])}
    monkeypatch.setattr(common, "MOST", 3)
    assert [len(piece) for piece in common.pieces(found)] == [3, 3, 1]
    assert [*common.pieces(found)[1]] == chain[4:7]
    monkeypatch.setattr(common, "MOST", 100)
    assert [len(piece) for piece in common.pieces(found)] == [7]
    assert common.pieces({}) == []


def test_cotangents_of_a_delta_rule_have_the_solutions_in_common() -> None:
    (stage,) = kernels_of(of_spec("delta/gated_delta", "gated_delta", n=64, m=64)()).stages
    face = stage.kernels.face
    assert face.combines == ["combine0"]
    assert len(face.parts) == len(face.common) > 1
    assert (1, True) in face.parts
    assert "inverse" in function(stage.kernels.text, "meet0")
    assert not any("inverse" in function(stage.kernels.text, f"gradients{k}") for k, _ in face.writes)
