"""The oracle on whole layers of the field against plain loops from the papers' equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqc.ir.program import Model
from seqc.oracle import parameter_table, run_recurrence
from tests.parity.naive import heads
from tests.parity.naive import systems as loops
from tests.parity.specs import apply, apply_model, block, close, random, rule

Array = NDArray[np.float64]
BATCH, TIME = 2, 11
TOLERANCE = 1e-9

pytestmark = pytest.mark.against("the equations, in NumPy")


def drawn(whole: Model) -> dict[str, Tensor]:
    return {
        name: 0.6 * random(*parameter.shape, seed=seed)
        for seed, (name, parameter) in enumerate(parameter_table(whole).items())
    }


def rows(loop: Callable[..., Array], inputs: Mapping[str, Tensor], **fixed: object) -> Tensor:
    """A loop over every row of a batch."""
    answers = [loop(**{name: x[row].numpy() for name, x in inputs.items()}, **fixed) for row in range(BATCH)]
    return torch.from_numpy(np.stack(answers))


def same_layer(layer: Model, loop: Callable[..., Array], width: int, **fixed: object) -> None:
    weights, x = drawn(layer), random(BATCH, TIME, width, seed=50)
    plain = {name: w.numpy() for name, w in weights.items()}
    close(apply_model(layer, {"x": x}, weights), rows(loop, {"x": x}, w=plain, **fixed), TOLERANCE)


@pytest.mark.parametrize("chunk", [0, 4])
def test_mega(chunk: int) -> None:
    layer = block("hybrid/mega.seq", "mega_layer", d=6, z=4, m=5, reach=3, chunk=chunk)
    same_layer(layer, loops.mega, 6, chunk=chunk)


@pytest.mark.parametrize(("groups", "turned", "floor"), [(1, 2, 0.0001), (2, 3, 0.8)])
def test_mamba3(groups: int, turned: int, floor: float) -> None:
    sizes = {"d": 4, "p": 2, "pair": 3, "groups": groups, "turned": turned, "floor": floor}
    same_layer(block("linear/mamba3.seq", "mamba3_mixer", **sizes), loops.mamba3, 4, floor=floor)


@pytest.mark.parametrize(("window", "sinks"), [(3, 2), (4, 0), (20, 1)])
def test_less(window: int, sinks: int) -> None:
    """Tokens leave the window, or its first ones stay, or none ever leaves."""
    layer = block("attention/less.seq", "less", d=8, h=2, window=window, sinks=sinks, f=3, hidden=5)
    same_layer(layer, loops.less, 8, window=window, sinks=sinks)


@pytest.mark.parametrize(("u", "w"), [(3, 3), (1, 2)])
def test_conv_s5(u: int, w: int) -> None:
    ours = rule("complex/conv_s5.seq", "conv_s5", ch=2, r=4, c=3, n=3, u=u, w=w)
    own = {
        p.name: 0.7 * random(*(ours.sizes[axis] for axis in p.axes), seed=i)
        for i, p in enumerate(ours.parameters)
    }
    x = {"x": random(BATCH, TIME, 2, 4, 3, seed=50)}
    want = rows(loops.conv_s5, x, **{name: value.numpy() for name, value in own.items()})
    close(apply(ours, x, own), want, TOLERANCE)


def test_chimera() -> None:
    ours = rule("gated/chimera.seq", "chimera", v=5, n=3)
    given = {
        leaf.name: random(BATCH, TIME, *(ours.sizes[axis] for axis in leaf.axes), seed=i)
        for i, leaf in enumerate(ours.inputs)
    }
    given |= {name: torch.nn.functional.softplus(given[name]) for name in ("along", "across")}
    own = {
        p.name: random(*(ours.sizes[axis] for axis in p.axes), seed=30 + i)
        for i, p in enumerate(ours.parameters)
    }
    want = rows(loops.chimera, given, **{name: value.numpy() for name, value in own.items()})
    close(apply(ours, given, own), want, TOLERANCE)


def test_a_kalman_filter_is_regression_on_all_that_was_observed() -> None:
    ours = rule("nonlinear/kalman.seq", "matern")
    given = {name: random(BATCH, TIME, seed=i) for i, name in enumerate(("y", "log_noise", "log_dt"))}
    rate, scale = 1.3, 0.8
    own = {
        "log_rate": torch.tensor(rate, dtype=torch.float64).log(),
        "log_scale": torch.tensor(scale, dtype=torch.float64).log(),
    }
    (means, variances), _ = run_recurrence(ours, given, own)
    for row in range(BATCH):
        y, noise, dt = (x[row].numpy() for x in (given["y"], given["log_noise"].exp(), given["log_dt"].exp()))
        want = loops.matern(y, noise, dt, rate, scale)
        close(means[row], torch.from_numpy(want[0]), TOLERANCE)
        close(variances[row], torch.from_numpy(want[1]), TOLERANCE)


def test_neural_attention() -> None:
    same_layer(block("attention/neural.seq", "neural_layer", d=6, h=2, r=4, m=2), heads.neural, 6)


def test_dual_attention() -> None:
    sizes = {"d": 8, "h": 1, "ra": 2, "n": 4, "m": 3, "l": 2, "p": 5, "library": 5, "bank": 3}
    same_layer(block("attention/dual.seq", "dual_attention", **sizes), heads.dual, 8)


@pytest.mark.parametrize("k", [1, 2])
def test_switch_head(k: int) -> None:
    layer = block("attention/switch_head.seq", "switch_head", d=5, h=2, n=4, m=3, experts=3, k=k)
    same_layer(layer, heads.switch_head, 5, k=k)


def test_shortformer() -> None:
    layer = block("attention/shortformer.seq", "position_infused", d=6, h=2, window=4)
    same_layer(layer, heads.shortformer, 6, window=4)
