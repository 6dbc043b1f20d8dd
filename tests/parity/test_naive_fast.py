"""The oracle on fast weights, slots and complex state spaces against plain loops from the papers' equations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqc.oracle import run_recurrence
from tests.parity.naive import fast_weights as loops
from tests.parity.specs import apply, close, random, rule

Array = NDArray[np.float64]
BATCH, TIME, KEY, VALUE = 2, 11, 4, 3

pytestmark = pytest.mark.against("the equations, in NumPy")


def drawn(seed: int, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Inputs by name: `[batch, time, …]`."""
    return {
        name: random(BATCH, TIME, *shape, seed=seed + i) for i, (name, shape) in enumerate(shapes.items())
    }


def parameters(seed: int, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: 0.6 * random(*shape, seed=seed + i) for i, (name, shape) in enumerate(shapes.items())}


def plain(values: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in values.items()}


def rows(loop: Callable[..., Array], inputs: Mapping[str, Tensor], **given: Any) -> Tensor:
    """A loop over every row of a batch."""
    answers = [loop(**{name: x[row].numpy() for name, x in inputs.items()}, **given) for row in range(BATCH)]
    return torch.from_numpy(np.stack(answers))


@pytest.mark.parametrize("form", ["decoding", "encoding", "similarity"])
def test_lattice(form: str) -> None:
    """The spec's length has an epsilon of 1e-6 under the root; the loop's has none."""
    slots = 5
    lattice = rule("fast/lattice.seq", f"lattice_{form}", slots=slots, m=VALUE)
    inputs = drawn(1, q=(slots,), k=(slots,), v=(VALUE,))
    inputs["rate"] = random(BATCH, TIME, seed=4).abs()
    start = random(slots, VALUE, seed=5)
    unit = (start / start.norm(dim=1, keepdim=True)).numpy()
    want = rows(getattr(loops, f"lattice_{form}"), inputs, start=unit)
    close(apply(lattice, inputs, {"start": start}), want, 1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_srwm(soft: bool) -> None:
    width, outputs = 4, 3
    own = parameters(1, start_y=(outputs, width), start_q=(width, width))
    own |= parameters(5, start_k=(width, width), start_b=(4, width))
    x = drawn(9, x=(width,))
    seen = {"x": torch.softmax(x["x"], -1) if soft else x["x"]}
    srwm = rule("fast/srwm.seq", d=width, o=outputs, soft=soft)
    want = rows(loops.srwm, seen, start=np.concatenate(list(plain(own).values())), outputs=outputs)
    close(apply(srwm, x, own), want, 1e-9)


def test_delta_rnn() -> None:
    inputs = drawn(1, q=(KEY,), k=(KEY,), v=(VALUE,), beta=(), key=(VALUE,), value=(VALUE,), rate=())
    for name in ("q", "k", "key"):
        inputs[name] = torch.softmax(inputs[name], -1)
    for name in ("beta", "rate"):
        inputs[name] = torch.sigmoid(inputs[name])
    theirs = {"key": "r_k", "value": "r_v", "rate": "r_beta"}
    want = rows(loops.delta_rnn, {theirs.get(name, name): x for name, x in inputs.items()})
    close(apply(rule("fast/delta_rnn.seq", "delta_rnn", n=KEY, m=VALUE), inputs), want, 1e-9)


def test_recurrent_delta() -> None:
    inputs = drawn(1, q=(KEY,), k=(KEY,), v=(VALUE,), beta=())
    own = parameters(6, R_q=(KEY, VALUE), R_k=(KEY, VALUE), R_v=(VALUE, VALUE), R_beta=(VALUE,))
    want = rows(loops.rdn, inputs, **plain(own))
    close(apply(rule("fast/delta_rnn.seq", "recurrent_delta", n=KEY, m=VALUE), inputs, own), want, 1e-9)


@pytest.mark.parametrize("seen", [False, True])
def test_warp(seen: bool) -> None:
    width, hidden, outputs, inner, length = 2, 3, 2, 5, 20
    size = 2 * hidden + hidden * width + hidden * outputs + outputs
    own = parameters(1, A=(size, size), B=(size, width), first_in=(inner, width), first_bias=(inner,))
    own |= parameters(7, first_out=(size, inner))
    own["A"] *= 0.4
    x = drawn(9, x=(width,))
    settings = {"w": hidden, "o": outputs, "inner": inner, "length": length, "seen": seen}
    given = plain(own)

    def answers(x: Array) -> Array:
        raised = np.maximum(given["first_bias"] + given["first_in"] @ x[0], 0)
        thetas = loops.warp(x=x, A=given["A"], B=given["B"], start=given["first_out"] @ raised)
        shown = x if seen else 0 * x
        read = [
            loops.root_network(theta, t / length, shown[t], hidden, outputs) for t, theta in enumerate(thetas)
        ]
        return np.array(read)

    warp = rule("fast/warp.seq", "warp", None, d=width, **settings)
    close(apply(warp, x, own), rows(answers, x), 1e-9)


@pytest.mark.parametrize(
    ("form", "soft", "change"),
    [(0, False, loops.hebb), (1, False, loops.oja), (1, True, loops.soft_oja), (2, False, loops.delta)],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_continuous_time(form: int, soft: bool, change: loops.Change, steps: int) -> None:
    width = 4
    own = parameters(1, K=(KEY, width), V=(VALUE, width), Q=(KEY, width), B=(width,))
    sizes = {"d": width, "n": KEY, "m": VALUE, "form": form, "steps": steps, "soft": soft}
    x = drawn(9, x=(width,))
    want = rows(loops.continuous, x, **plain(own), change=change, steps=steps, before=np.zeros(width))
    close(apply(rule("fast/continuous.seq", "continuous", None, **sizes), x, own), want, 1e-9)


def test_taylorshift_sums_features_instead_of_pairs() -> None:
    inputs = drawn(1, q=(KEY,), k=(KEY,), v=(VALUE,))
    want = rows(loops.taylorshift, inputs, tau=1.0)
    close(apply(rule("linear/taylorshift.seq", n=KEY, m=VALUE), inputs), want, 1e-9)


def test_fade() -> None:
    """Rates so large that the learned decays matter, and meet their bounds."""
    width = 3
    inputs = drawn(1, x=(width,), y=())
    chosen = {"start": -1.5, "meta": 0.7, "rate": 0.1, "low": -2.0, "high": -1.0}
    theirs = {"gamma": -1.5, "theta": 0.7, "eta": 0.1, "low": -2.0, "high": -1.0}
    want = rows(loops.fade, inputs, **theirs)
    close(apply(rule("fast/fade.seq", "fade", None, d=width, **chosen), inputs), want, 1e-9)


def test_gateloop() -> None:
    inputs = drawn(1, q=(KEY,), k=(KEY,), v=(VALUE,), magnitude=(KEY,), angle=(KEY,))
    ours = dict(inputs)
    ours["size"] = torch.sigmoid(ours.pop("magnitude"))
    want = rows(loops.gateloop, inputs)
    close(apply(rule("complex/gateloop.seq", "gate_loop", n=KEY, m=VALUE), ours), want, 1e-9)


def test_s4d() -> None:
    width, modes = 3, 4
    x = drawn(1, x=(width,))
    own = parameters(2, log_dt=(width,), A_re=(width, modes), A_im=(width, modes), D=(width,))
    own |= parameters(7, C_re=(width, modes), C_im=(width, modes))
    given = plain(own)
    want = rows(
        loops.s4d,
        x,
        log_re=given["A_re"],
        im=given["A_im"],
        log_step=given["log_dt"],
        C=given["C_re"] + 1j * given["C_im"],
        D=given["D"],
    )
    close(apply(rule("complex/s4d.seq", "s4d", d=width, n=modes), x, own), want, 1e-9)


def test_s5() -> None:
    width, modes = 3, 4
    x = drawn(1, u=(width,))
    own = parameters(2, log_dt=(modes,), lambda_re=(modes,), lambda_im=(modes,), D=(width,))
    own |= parameters(7, B_re=(modes, width), B_im=(modes, width), C_re=(width, modes), C_im=(width, modes))
    own["lambda_re"] = -0.1 - own["lambda_re"].abs()
    given = plain(own)
    want = rows(
        loops.s5,
        {"x": x["u"]},
        poles=given["lambda_re"] + 1j * given["lambda_im"],
        log_step=given["log_dt"],
        B=given["B_re"] + 1j * given["B_im"],
        C=given["C_re"] + 1j * given["C_im"],
        D=given["D"],
    )
    close(apply(rule("complex/s5.seq", "s5", d=width, n=modes), x, own), want, 1e-9)


def test_complex_hgrn() -> None:
    width = 4
    inputs = drawn(1, f=(width,), re=(width,), im=(width,))
    inputs["f"] = torch.sigmoid(inputs["f"])
    own = parameters(5, theta=(width,))
    outputs, _ = run_recurrence(rule("gated/hgrn.seq", "hgrn_complex", d=width), inputs, own)
    want = rows(loops.hgrn_complex, inputs, **plain(own))
    close(outputs[0], want[:, :, 0], 1e-9)
    close(outputs[1], want[:, :, 1], 1e-9)
