"""Nonlinear cells against PyTorch's and other people's modules, and against each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.parity.specs import apply, apply_model, block, close, random, rule, spec

BATCH, TIME, WIDTH, CELLS = 2, 9, 5, 4


@pytest.mark.against("PyTorch's RNN")
@pytest.mark.parametrize(("name", "nonlinearity"), [("elman_layer", "tanh"), ("relu_rnn_layer", "relu")])
def test_a_plain_network_is_torchs(name: str, nonlinearity: str) -> None:
    torch.manual_seed(0)
    theirs = nn.RNN(WIDTH, CELLS, nonlinearity=nonlinearity, batch_first=True, dtype=torch.float64)
    given: dict[str, Tensor] = dict(theirs.named_parameters())
    recurrent = "cell.R.weight" if name == "elman_layer" else "cell.R"
    weights = {
        "W.weight": given["weight_ih_l0"],
        "W.bias": given["bias_ih_l0"] + given["bias_hh_l0"],
        recurrent: given["weight_hh_l0"],
    }
    x = random(BATCH, TIME, WIDTH)
    layer = block("nonlinear/elman.seq", name, d=WIDTH, w=CELLS)
    close(apply_model(layer, {"x": x}, weights), theirs(x)[0])


@pytest.mark.against("ncps's CfC")
def test_cfc_is_its_authors() -> None:
    """Their backbone sees token and state as one vector, and has one bias; the spans differ from token to token."""
    cells: Any = pytest.importorskip("ncps.torch")
    torch.manual_seed(0)
    hidden = 6
    theirs: Any = cells.CfCCell(WIDTH, CELLS, backbone_units=hidden, backbone_layers=1).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, 0, 0.6)
    backbone = theirs.backbone[0]
    weights: dict[str, Tensor] = {
        "W.weight": backbone.weight[:, :WIDTH],
        "W.bias": backbone.bias,
        "cell.R.weight": backbone.weight[:, WIDTH:],
    }
    for ours, name in (("G", "ff1"), ("K", "ff2"), ("A", "time_a"), ("B", "time_b")):
        map_of = getattr(theirs, name)
        weights |= {f"cell.{ours}.weight": map_of.weight, f"cell.{ours}.bias": map_of.bias}
    x, dt = random(BATCH, TIME, WIDTH), random(BATCH, TIME, seed=1).abs()
    h = torch.zeros(BATCH, CELLS, dtype=torch.float64)
    want: list[Tensor] = []
    for t in range(TIME):
        h = theirs(x[:, t], h, dt[:, t, None])[0]
        want.append(h)
    layer = block("nonlinear/cfc.seq", "cfc_layer", f=WIDTH, w=CELLS, hidden=hidden)
    close(apply_model(layer, {"x": x, "dt": dt}, weights), torch.stack(want, 1))


def test_an_lstm_without_recurrent_weights_is_a_quasi_lstm() -> None:
    gates = {gate: random(BATCH, TIME, CELLS, seed=i) for i, gate in enumerate("ifzo")}
    nothing = {f"R_{gate}.weight": torch.zeros(CELLS, CELLS, dtype=torch.float64) for gate in "ifzo"}
    full = apply(rule("nonlinear/lstm.seq", "lstm", d=CELLS), gates, nothing)
    close(apply(rule("nonlinear/quasi_lstm.seq", d=CELLS), gates), full)


def test_an_sru_without_peepholes_is_the_light_one() -> None:
    given = {name: random(BATCH, TIME, CELLS, seed=i) for i, name in enumerate(("u", "f", "r", "x"))}
    nothing = {name: torch.zeros(CELLS, dtype=torch.float64) for name in ("v_f", "v_r")}
    full = apply(rule("nonlinear/sru.seq", "sru", d=CELLS), given, nothing)
    close(apply(rule("nonlinear/sru.seq", "sru_light", d=CELLS), given), full)


def test_a_bilinear_tensor_of_factors_is_the_factored_form() -> None:
    inputs, size = 3, 4
    C, R, E = random(size, size, seed=1), random(size, inputs, seed=2), random(size, size, seed=3)
    start = random(size, seed=4)
    x = {"x": random(BATCH, TIME, inputs, seed=5)}
    whole = {"W": torch.einsum("nr,rd,rm->nmd", C, R, E), "start": start}
    dense = apply(rule("nonlinear/bilinear.seq", "bilinear", d=inputs, n=size), x, whole)
    factors = {"C": C, "R": R, "E": E, "start": start}
    factored = rule("nonlinear/bilinear.seq", "bilinear_cp", d=inputs, n=size, r=size)
    close(apply(factored, x, factors), dense)


def test_only_the_direction_of_a_bilinear_state_counts() -> None:
    inputs, size = 3, 4
    x = {"x": random(BATCH, TIME, inputs, seed=5)}
    given = {"W": random(size, size, inputs, seed=1), "start": random(size, seed=4)}
    free = apply(rule("nonlinear/bilinear.seq", "bilinear", d=inputs, n=size), x, given)
    unit = apply(rule("nonlinear/bilinear.seq", "bilinear_unit", d=inputs, n=size), x, given)
    close(unit, free / free.norm(dim=-1, keepdim=True))


def test_forward_traces_give_the_gradient_of_elstm() -> None:
    """Real-time recurrent learning: `P' = J P + dc'/dw` along the sequence, against the oracle's backward pass."""
    elstm = rule("nonlinear/elstm.seq", d=CELLS)
    f, z = random(1, TIME, CELLS, seed=1), random(1, TIME, CELLS, seed=2)
    w_f, w_z = random(CELLS, seed=3).requires_grad_(), random(CELLS, seed=4).requires_grad_()
    weights = random(1, TIME, CELLS, seed=5)
    loss = (apply(elstm, {"f": f, "z": z}, {"w_f": w_f, "w_z": w_z}) * weights).sum()
    want = torch.autograd.grad(loss, [w_f, w_z])
    c, trace_f, trace_z = (torch.zeros(CELLS, dtype=torch.float64) for _ in range(3))
    total_f, total_z = torch.zeros_like(c), torch.zeros_like(c)
    with torch.no_grad():
        for t in range(TIME):
            gate, proposal = torch.sigmoid(f[0, t] + w_f * c), torch.tanh(z[0, t] + w_z * c)
            by_gate, by_proposal = (c - proposal) * gate * (1 - gate), (1 - gate) * (1 - proposal**2)
            jacobian = gate + by_proposal * w_z + by_gate * w_f
            trace_f = jacobian * trace_f + by_gate * c
            trace_z = jacobian * trace_z + by_proposal * c
            c = gate * c + (1 - gate) * proposal
            total_f += weights[0, t] * trace_f
            total_z += weights[0, t] * trace_z
    close(total_f, want[0])
    close(total_z, want[1])


@pytest.mark.parametrize("delayed", [0, 1])
def test_the_slow_units_of_scrn_ignore_the_fast_ones(delayed: int) -> None:
    """The average is a plain one; what the fast units see of it is of this token or of the one before."""
    slow, fast = 3, 4
    scrn = rule("nonlinear/scrn.seq", "scrn", c=slow, d=fast, delayed=delayed)
    b, a = random(1, TIME, slow, seed=1), random(1, TIME, fast, seed=2)
    P, R = random(fast, slow, seed=3), random(fast, fast, seed=4)
    average, h = torch.zeros(slow, dtype=torch.float64), torch.zeros(fast, dtype=torch.float64)
    want: list[Tensor] = []
    for t in range(TIME):
        before, average = average, 0.95 * average + 0.05 * b[0, t]
        h = torch.sigmoid(a[0, t] + P @ (before if delayed else average) + R @ h)
        want.append(h)
    got = apply(scrn, {"b": b, "a": a}, {"P.weight": P, "R.weight": R})
    close(got[0], torch.stack(want))


def test_time_constants_start_where_the_settings_say() -> None:
    handle = spec("nonlinear/leaky.seq").rule("leaky", d=5, shortest=2, longest=32)
    slowness = dict(handle.torch().named_parameters())["slowness"]
    tau = 1 + nn.functional.softplus(slowness.detach())
    close(tau.double(), torch.tensor([2, 4, 8, 16, 32], dtype=torch.float64), 1e-6)
