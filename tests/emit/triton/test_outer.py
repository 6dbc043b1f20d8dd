"""Cotangents of weights as products over all tokens, behind a loop that writes their factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import MAKERS, aot, kernels_of, of_spec, written

if TYPE_CHECKING:
    from backends.triton import aot_write  # noqa: TID251  # what `seqc.backends` is in a checkout
else:
    from seqc.backends.triton import aot_write

pytest.importorskip("triton")

# A matrix for each head and one for all, one that is read both ways, and two that read what all heads share.
HEADS = """
rule heads(x[e], z[h, d]; j = d) {
    param  own[h, d, j] = normal(0, 0.3)
    param  common[d, j] = normal(0, 0.3)
    param  both[d, j] = normal(0, 0.3)
    param  given[d, e] = normal(0, 0.3)
    param  gains[h, d, e] = normal(0, 0.3)
    param  bias[d] = normal(0, 0.3)
    state  y[h, d] = 0.1
    let    last = y[d -> j]
    let    there = sum[j](own * last) - sum[j](common * last)
    let    back = sum[j](both * last) - sum[j](both[d -> j, j -> d] * last)
    let    new = sum[e](given * x) + sum[e](gains * x)
    y'     = tanh(z + bias + there + back * sigmoid(new) + new)
    return y'
}
"""
# What is added for each slot is a product of values of slots, summed over them.
SLOTTED = """
rule slotted(x[d]; j = d, s = 3) {
    param  W[d, j] = normal(0, 0.3)
    param  first[s, d] = normal(0, 0.5)
    state  S[s, d] = first
    S'     = tanh(x + sum[j](W * S[d -> j]))
    return max[s](S')
}
"""
# Each number of a weight is read by itself, or with another weight of the same size.
ELEMENTS = """
rule elements(x[d]; j = d) {
    param  W[d, j] = normal(0, 0.3)
    param  scale[d, j] = normal(0, 0.3)
    state  h[d] = 0.1
    let    sharp = tanh(scale * h)
    h'     = tanh(x + sum[j](W * sharp))
    return h'
}
"""
MAKERS.update(
    {
        "weights of heads": written(HEADS, h=2, d=20, e=11),
        "weights of slots": written(SLOTTED, d=35),
        "weights of elements": written(ELEMENTS, d=9),
        "weights, wide": of_spec("nonlinear/lstm", "lstm", d=33),
    }
)


def compared(name: str) -> list[float]:
    return parts.compared(name, 35, True, begun=True)


@pytest.mark.parametrize(
    ("name", "products"),
    [
        ("weights of heads", {"own", "common", "both", "given", "gains"}),
        ("weights of slots", {"W"}),
        ("weights of elements", set[str]()),
        ("weights, wide", {"R_i.weight", "R_f.weight", "R_z.weight", "R_o.weight"}),
    ],
)
def test_weights_whose_cotangents_are_products(
    name: str, products: set[str], interpreted: Interpreted
) -> None:
    """They follow the loop; of all others a program adds up its own."""
    face = kernels_of(MAKERS[name]()).kernel.interface
    called = [port.name for port in face.constants]
    assert {called[product.constant] for product in face.products} == products
    assert {called[k] for k in face.summed}.isdisjoint(products)
    assert max(interpreted(compared, name)) < 2e-6


def test_factors_are_written_once_and_inputs_are_read_where_they_lie() -> None:
    """Of four gates the weights have five factors; those of an input have that input."""
    face = kernels_of(MAKERS["weights, wide"]()).kernel.interface
    assert [port.shape for port in face.sides] == [(33,)] * 5
    face = kernels_of(MAKERS["weights of heads"]()).kernel.interface
    places = {face.constants[p.constant].name: {p.left, p.right} for p in face.products}
    (x,) = (k for k, port in enumerate(face.inputs) if port.name.endswith("x"))
    assert x in places["given"] & places["gains"]


def test_what_is_read_both_ways_has_a_product_for_each() -> None:
    face = kernels_of(MAKERS["weights of heads"]()).kernel.interface
    each = [face.constants[p.constant].name for p in face.products]
    assert (each.count("both"), each.count("common"), each.count("own")) == (2, 1, 1)


def test_small_weights_stay_in_registers() -> None:
    """A few numbers of the way back are not worth as many of every token."""
    face = kernels_of(of_spec("nonlinear/gru", "gru", d=3)()).kernel.interface
    assert face.products == face.sides == []


def test_machine_code_says_where_the_terms_lie() -> None:
    """Of four gates behind the cotangents of four inputs."""
    (gpu,) = aot.targets("sm_90")
    rule = kernels_of(MAKERS["weights, wide"]())
    back = next(each for each in aot.sources(rule, gpu, "bfloat16") if each.kernel == "backward")
    assert len(back.types["d_inputs"]) == 9
    facts = aot_write.products(rule.kernel.interface)
    places = [place for fact in facts for name, place in fact["of"] if name == "d_inputs"]
    assert [fact["equation"] for fact in facts] == ["yza,yzb->ab"] * 4
    assert {*places} == {4, 5, 6, 7, 8}
    assert {back.types["d_inputs"][place] for place in places} == {"*fp32"}
