"""The oracle on nonlinear and gated cells against plain loops from the papers' equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seqc.ir.recurrence import Recurrence
from seqc.oracle import run_recurrence
from tests.parity.naive import cells as loops
from tests.parity.specs import apply, close, random, rule

Array = NDArray[np.float64]
BATCH, TIME, CELLS = 2, 11, 4
TOLERANCE = 1e-9

pytestmark = pytest.mark.against("the equations, in NumPy")


def given(recurrence: Recurrence) -> dict[str, Tensor]:
    return {
        leaf.name: random(BATCH, TIME, *(recurrence.sizes[axis] for axis in leaf.axes), seed=i)
        for i, leaf in enumerate(recurrence.inputs)
    }


def same(
    recurrence: Recurrence,
    loop: Callable[..., Array],
    inputs: dict[str, Tensor] | None = None,
    of_slowness: Callable[[Tensor], dict[str, Array]] | None = None,
    **fixed: object,
) -> None:
    """The rule is the loop, which names parameters as the rule does, a map without its `.weight`.

    `of_slowness` makes a time constant, or a decay, of the parameter behind it.
    """
    x = given(recurrence) if inputs is None else inputs
    own = {
        parameter.name: 0.7 * random(*(recurrence.sizes[axis] for axis in parameter.axes), seed=30 + i)
        for i, parameter in enumerate(recurrence.parameters)
    }
    theirs = {name.removesuffix(".weight"): w.numpy() for name, w in own.items()}
    if of_slowness is not None:
        del theirs["slowness"]
        theirs |= of_slowness(own["slowness"])
    answers = [
        loop(**{name: each[row].numpy() for name, each in x.items()}, **theirs, **fixed)
        for row in range(BATCH)
    ]
    close(apply(recurrence, x, own), torch.from_numpy(np.stack(answers)), TOLERANCE)


@pytest.mark.parametrize("dt", [1, 0.3])
def test_lem(dt: float) -> None:
    same(rule("nonlinear/lem.seq", "lem", d=CELLS, dt=dt), loops.lem, dt=dt)


def test_para_gru() -> None:
    same(rule("nonlinear/para_gru.seq", "para_gru", h=2, d=CELLS), loops.para_gru)


def test_para_lstm() -> None:
    same(rule("nonlinear/para_lstm.seq", "para_lstm", h=2, d=CELLS), loops.para_lstm)


def test_elstm() -> None:
    same(rule("nonlinear/elstm.seq", "elstm", d=CELLS), loops.elstm)


def test_sru() -> None:
    same(rule("nonlinear/sru.seq", "sru", d=CELLS), loops.sru)


def test_a_leaky_network() -> None:
    def tau(slowness: Tensor) -> dict[str, Array]:
        return {"tau": 1 + F.softplus(slowness).numpy()}

    same(rule("nonlinear/leaky.seq", "leaky", d=CELLS), loops.leaky, of_slowness=tau)


@pytest.mark.parametrize("delayed", [0, 1])
def test_scrn(delayed: int) -> None:
    scrn = rule("nonlinear/scrn.seq", "scrn", c=3, d=CELLS, alpha=0.8, delayed=delayed)
    same(scrn, loops.scrn, alpha=np.full(3, 0.8), delayed=bool(delayed))


def test_scrn_with_learned_decays() -> None:
    def alpha(slowness: Tensor) -> dict[str, Array]:
        return {"alpha": torch.sigmoid(slowness).numpy()}

    scrn = rule("nonlinear/scrn.seq", "scrn_learned", c=3, d=CELLS)
    same(scrn, loops.scrn, delayed=False, of_slowness=alpha)


def test_plrnn() -> None:
    same(rule("nonlinear/plrnn.seq", "plrnn", d=CELLS), loops.plrnn)


@pytest.mark.parametrize("clipped", [False, True])
def test_a_shallow_plrnn(clipped: bool) -> None:
    name = "clipped_plrnn" if clipped else "shallow_plrnn"
    same(rule("nonlinear/plrnn.seq", name, d=CELLS, hidden=6), loops.shallow_plrnn, clipped=clipped)


def test_a_quasi_lstm() -> None:
    same(rule("nonlinear/quasi_lstm.seq", "quasi_lstm", d=CELLS), loops.quasi_lstm)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_recurrent_highway(depth: int) -> None:
    same(rule("nonlinear/rhn.seq", "rhn", d=CELLS, depth=depth), loops.rhn)


def test_mingru() -> None:
    mingru = rule("gated/mingru.seq", "mingru", d=CELLS)
    x = given(mingru)
    same(mingru, loops.mingru, {**x, "z": torch.sigmoid(x["z"])})


@pytest.mark.parametrize("normalised", [False, True])
def test_minlstm(normalised: bool) -> None:
    same(
        rule("gated/minlstm.seq", "minlstm", d=CELLS, normalised=normalised),
        loops.minlstm,
        normalised=normalised,
    )


@pytest.mark.parametrize("unit", [False, True])
def test_a_bilinear_network(unit: bool) -> None:
    bilinear = rule("nonlinear/bilinear.seq", "bilinear_unit" if unit else "bilinear", None, d=3, n=CELLS)
    same(bilinear, loops.bilinear, unit=unit)


@pytest.mark.parametrize("form", ["cp", "rotation", "diagonal"])
def test_a_bilinear_network_of_a_special_form(form: str) -> None:
    sizes = {"cp": {"d": 3, "n": CELLS, "r": 2}}.get(form, {"n": CELLS})
    name = f"bilinear_{form}"
    same(rule("nonlinear/bilinear.seq", name, None, **sizes), getattr(loops, name))


def test_a_window_on_a_text() -> None:
    graves = rule("nonlinear/graves.seq", "graves_window", d=CELLS, g=2, letters=5, e=3)
    x = given(graves)
    own = {
        parameter.name: 0.5 * random(*(graves.sizes[axis] for axis in parameter.axes), seed=30 + i)
        for i, parameter in enumerate(graves.parameters)
    }
    named = {name.removesuffix(".weight"): w.numpy() for name, w in own.items()}
    answers = [
        loops.graves(
            **{name: each[row].numpy() for name, each in x.items()}, own=named, pace=named["b_kappa"]
        )
        for row in range(BATCH)
    ]
    (h, w), _ = run_recurrence(graves, x, own)
    close(torch.cat([h, w], -1), torch.from_numpy(np.stack(answers)), TOLERANCE)
