"""The oracle on memories that learn as they read, against plain loops with gradients worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from seqc.ir.recurrence import Recurrence
from seqc.oracle import run_recurrence
from tests.parity.naive import miras as loops
from tests.parity.naive.network import Network, gelu_tanh, gelu_tanh_slope, silu, silu_slope
from tests.parity.specs import apply, close, random, rule, written

Array = NDArray[np.float64]
BATCH, TIME, KEY, VALUE = 2, 11, 4, 3
TOLERANCE = 1e-9
MOST = {"alpha": 1.0, "eta": 0.3, "theta": 0.9, "g": 1.0, "beta": 1.0, "rate": 0.2, "b": 1.0, "delta": 6.0}
GENTLE = {"alpha": 0.3, "eta": 0.9, "theta": 0.2}  # of Titans, whose theta is the rate

pytestmark = pytest.mark.against("the equations, in NumPy")
PERIODS = pytest.mark.parametrize("period", [1, 4])


def given(recurrence: Recurrence, **most: float) -> dict[str, Tensor]:
    """Inputs by name: vectors are normal, numbers lie between 0 and `most`, or what `MOST` says."""
    drawn: dict[str, Tensor] = {}
    for seed, leaf in enumerate(recurrence.inputs):
        x = random(BATCH, TIME, *(recurrence.sizes[axis] for axis in leaf.axes), seed=seed)
        drawn[leaf.name] = x if leaf.axes else {**MOST, **most}[leaf.name] * torch.sigmoid(x)
    return drawn


def weights(recurrence: Recurrence) -> dict[str, Tensor]:
    """Random, and near 1 for the scale of the norm."""
    drawn: dict[str, Tensor] = {}
    for seed, parameter in enumerate(recurrence.parameters):
        x = random(*(recurrence.sizes[axis] for axis in parameter.axes), seed=30 + seed) / 2
        drawn[parameter.name] = 1 + x / 2 if "norm" in parameter.name else x
    return drawn


def start(own: Mapping[str, Tensor], memory: str) -> list[Array]:
    """The first matrices; a bias becomes a last column."""
    matrices: list[Array] = []
    while (matrix := own.get(f"{memory}.{len(matrices)}.weight")) is not None:
        bias = own.get(f"{memory}.{len(matrices)}.bias")
        matrices.append(matrix.numpy() if bias is None else torch.column_stack([matrix, bias]).numpy())
    return matrices


def rows(loop: Callable[..., Array], inputs: Mapping[str, Tensor], **fixed: object) -> Tensor:
    """A loop over every row of a batch."""
    answers = [loop(**{name: x[row].numpy() for name, x in inputs.items()}, **fixed) for row in range(BATCH)]
    return torch.from_numpy(np.stack(answers))


def same(recurrence: Recurrence, loop: Callable[..., Array], **fixed: object) -> None:
    """The rule is the loop, with the network of Miras: `u + LN(W1 gelu(W0 u))`."""
    x, own = given(recurrence), weights(recurrence)
    net = Network(scale=own["M.norm.weight"].numpy())
    bounded = x | {name: softplus(x[name]) for name in ("delta",) if name in x}
    want = rows(loop, bounded, start=start(own, "M"), net=net, **fixed)
    close(apply(recurrence, x, own), want, TOLERANCE)


# --- Titans and TTT ---


@PERIODS
def test_titans(period: int) -> None:
    titans = rule("deep/titans.seq", "titans", n=KEY, m=VALUE, c=period)
    x, own = given(titans, **GENTLE), weights(titans)
    net = Network(silu, silu_slope)
    want = rows(loops.titans, x, start=start(own, "M"), net=net, period=period)
    close(apply(titans, x, own), want, TOLERANCE)


@PERIODS
def test_titans_with_a_matrix(period: int) -> None:
    titans = rule("deep/titans.seq", "titans_linear", n=KEY, m=VALUE, c=period)
    x = given(titans, **GENTLE)
    zero = [np.zeros((VALUE, KEY))]
    want = rows(loops.titans, x, start=zero, net=Network(), period=period)
    close(apply(titans, x), want, TOLERANCE)


@PERIODS
@pytest.mark.parametrize("name", ["ttt_linear", "ttt_mlp"])
def test_ttt(name: str, period: int) -> None:
    ttt = rule("deep/ttt.seq", name, n=KEY, m=KEY, c=period)
    x, own = given(ttt), weights(ttt)
    scale = own["W.norm.weight"].numpy()
    net = Network(gelu_tanh, gelu_tanh_slope, scale, biased=True)
    want = rows(loops.ttt, x, start=start(own, "W"), net=net, period=period)
    close(apply(ttt, x, own), want, TOLERANCE)


# --- Miras ---


@PERIODS
def test_moneta(period: int) -> None:
    moneta = rule("miras/moneta.seq", "moneta", n=KEY, m=KEY, c=period)
    same(moneta, loops.moneta, period=period, p=3, normalise=partial(loops.published_normaliser, q=4))


@PERIODS
def test_moneta_with_the_mirror_map_of_its_norm(period: int) -> None:
    moneta = rule("miras/moneta.seq", "moneta_dual", n=KEY, m=KEY, c=period)
    same(moneta, loops.moneta, period=period, p=3, normalise=partial(loops.mirror_of_q_norm, q=4))


@PERIODS
@pytest.mark.parametrize("entries", [False, True])
def test_yaad(period: int, entries: bool) -> None:
    yaad = rule("miras/yaad.seq", "yaad_entries" if entries else "yaad", n=KEY, m=KEY, c=period)
    same(yaad, loops.yaad, period=period, entries=entries)


@PERIODS
@pytest.mark.parametrize("scale", [1, 2.5])
def test_memora(period: int, scale: float) -> None:
    memora = rule("miras/memora.seq", "memora", n=KEY, m=KEY, c=period, scale=scale)
    same(memora, loops.memora, period=period, scale=scale)


# --- windows ---


@pytest.mark.parametrize("window", [1, 3])
def test_omega_in_closed_form(window: int) -> None:
    omega = rule("deep/omeganet.seq", "omega", f=KEY, m=VALUE, window=window)
    x = given(omega)
    close(apply(omega, x), rows(loops.omega_closed, x, window=window), TOLERANCE)


NETWORK = """
rule network(q[n], k[n], v[m], alpha, g, eta, theta; window, c) {
    memory    M: n -> m = mlp(hidden = 2 * n, activation = gelu)
    objective 0.5 * sumsq(M(k) - v)
    retention alpha * M
    learner   LEARNER, window = window, weights = g, every = c)
    return    M'(q)
}
"""


@PERIODS
@pytest.mark.parametrize("window", [1, 3])
def test_omega_of_a_network(period: int, window: int) -> None:
    """The bundled file keeps to a matrix, the paper does not."""
    text = NETWORK.replace("LEARNER", "gd(rate = eta").replace(", theta", "")
    omega = written(text, n=KEY, m=VALUE, c=period, window=window)
    x, own = given(omega), weights(omega)
    sizes = {"start": start(own, "M"), "net": Network(), "period": period, "window": window}
    close(apply(omega, x, own), rows(loops.omega, x, **sizes), TOLERANCE)


@PERIODS
def test_atlas(period: int) -> None:
    atlas = rule("deep/atlas.seq", "atlas", f=KEY, m=VALUE, c=period, window=3, steps=5)
    x, zero = given(atlas), [np.zeros((VALUE, KEY))]
    sizes = {"start": zero, "net": Network(), "period": period, "window": 3, "steps": 5}
    close(apply(atlas, x), rows(loops.atlas, x, **sizes), TOLERANCE)


@PERIODS
def test_atlas_of_a_network(period: int) -> None:
    learner = "momentum(rate = eta, decay = theta, direction = newton_schulz(steps = 5)"
    atlas = written(NETWORK.replace("LEARNER", learner), n=KEY, m=VALUE, c=period, window=3)
    x, own = given(atlas), weights(atlas)
    sizes = {"start": start(own, "M"), "net": Network(), "period": period, "window": 3, "steps": 5}
    close(apply(atlas, x, own), rows(loops.atlas, x, **sizes), TOLERANCE)


# --- the whole past at once ---


def test_mesa_solves() -> None:
    """As many steps as the keys are wide reach the solution, up to rounding; a few more remove that."""
    mesa = rule("deep/mesanet.seq", "mesa", n=KEY, m=VALUE, steps=8)
    x, learned = given(mesa), random(KEY, seed=9)
    x["l"] = learned.expand(BATCH, TIME, KEY)
    inputs = {name: x[name] for name in ("q", "k", "v", "g")} | {"beta": torch.sigmoid(x["b"])}
    ridge = 0.25 + softplus(learned).numpy()
    close(apply(mesa, x), rows(loops.mesa, inputs, ridge=ridge), TOLERANCE)


def test_a_large_ridge_makes_linear_attention_of_mesa() -> None:
    """`o` tends to `G q / ridge`, with an error of one over the ridge."""
    large = 1e9
    mesa = rule("deep/mesanet.seq", "mesa", n=KEY, m=VALUE, steps=8, floor=large)
    x = given(mesa)
    retention = rule("linear/retnet.seq", "retain", n=KEY, m=VALUE)
    writes = {"q": x["q"], "k": x["k"], "v": torch.sigmoid(x["b"])[..., None] * x["v"], "gamma": x["g"]}
    close(large * apply(mesa, x), apply(retention, writes), 1e-7)


@pytest.mark.parametrize("ridge", [0.5, 1.0])
def test_recursive_least_squares_is_the_regression_of_all_tokens(ridge: float) -> None:
    mesa = rule("deep/mesanet.seq", "mesa_recursive", n=KEY, m=VALUE, ridge=ridge)
    x = given(mesa)
    x["g"] = 0.5 + x["g"] / 2
    inputs = {name: x[name] for name in ("q", "k", "v", "g")} | {"beta": torch.sigmoid(x["b"])}
    close(apply(mesa, x), rows(loops.weighted_least_squares, inputs, ridge=ridge), TOLERANCE)


def test_rounding_leaves_the_inverse_of_recursive_least_squares_symmetric() -> None:
    """What is not symmetric grows as one over the decays' product."""
    mesa = rule("deep/mesanet.seq", "mesa_recursive", n=KEY, m=VALUE)
    x = {name: torch.cat([value] * 40, 1) for name, value in given(mesa).items()}
    _, states = run_recurrence(mesa, x, {})
    inverse = states["S.inverse"]
    assert torch.equal(inverse, inverse.mT)
