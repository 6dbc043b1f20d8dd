"""LSTM and GRU against `torch.nn`, with weights copied by name; the other forms against loops in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.parity.specs import apply, apply_model, block, close, model, random, rule

Array = NDArray[np.float64]
BATCH, TIME, WIDTH, CELLS = 2, 9, 5, 4


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm_weights(theirs: nn.LSTM, layer: int) -> dict[str, Tensor]:
    """Theirs stack input, forget, proposal and output gate, and have two biases that are only ever added."""
    weights: dict[str, Tensor] = dict(theirs.named_parameters())
    own = weights[f"weight_ih_l{layer}"].chunk(4)
    recurrent = weights[f"weight_hh_l{layer}"].chunk(4)
    biases = (weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]).chunk(4)
    ours: dict[str, Tensor] = {}
    for gate, w, r, b in zip("ifzo", own, recurrent, biases, strict=True):
        ours[f"W_{gate}.weight"], ours[f"cell.R_{gate}.weight"] = w, r
        ours["b" if gate == "f" else f"W_{gate}.bias"] = b
    return ours


def gru_weights(theirs: nn.GRU) -> dict[str, Tensor]:
    """Theirs have a second bias on each gate; only the proposal's is not simply added to the first."""
    weights: dict[str, Tensor] = dict(theirs.named_parameters())
    own, recurrent = weights["weight_ih_l0"].chunk(3), weights["weight_hh_l0"].chunk(3)
    first, second = weights["bias_ih_l0"].chunk(3), weights["bias_hh_l0"].chunk(3)
    ours = {"cell.R_n.bias": second[2]}
    for i, gate in enumerate("rzn"):
        ours[f"W_{gate}.weight"], ours[f"cell.R_{gate}.weight"] = own[i], recurrent[i]
        ours[f"W_{gate}.bias"] = first[i] + second[i] if gate != "n" else first[i]
    return ours


def same_gradients(ours: Tensor, theirs: Tensor, given: list[Tensor]) -> None:
    weights = random(*ours.shape, seed=9)
    got = torch.autograd.grad((ours * weights).sum(), given, retain_graph=True)
    want = torch.autograd.grad((theirs * weights).sum(), given)
    for a, b in zip(got, want, strict=True):
        close(a, b)


@pytest.mark.against("PyTorch")
def test_lstm_is_torchs() -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(WIDTH, CELLS, batch_first=True, dtype=torch.float64)
    layer = block("nonlinear/lstm.seq", "lstm_layer", d=WIDTH, w=CELLS)
    x = random(BATCH, TIME, WIDTH).requires_grad_()
    ours = apply_model(layer, {"x": x}, lstm_weights(theirs, 0))
    want: Tensor = theirs(x)[0]
    close(ours, want)
    same_gradients(ours, want, [x, *theirs.parameters()])


@pytest.mark.against("PyTorch")
def test_gru_is_torchs() -> None:
    torch.manual_seed(1)
    theirs = nn.GRU(WIDTH, CELLS, batch_first=True, dtype=torch.float64)
    layer = block("nonlinear/gru.seq", "gru_layer", d=WIDTH, w=CELLS)
    x = random(BATCH, TIME, WIDTH).requires_grad_()
    ours = apply_model(layer, {"x": x}, gru_weights(theirs))
    want: Tensor = theirs(x)[0]
    close(ours, want)
    same_gradients(ours, want, [x, *theirs.parameters()])


@pytest.mark.against("PyTorch")
def test_a_language_model_of_lstms_is_a_stack_of_torchs() -> None:
    torch.manual_seed(2)
    vocab = 7
    table, head = nn.Embedding(vocab, WIDTH), nn.Linear(WIDTH, vocab)
    theirs = nn.LSTM(WIDTH, WIDTH, num_layers=2, batch_first=True)
    stack = nn.ModuleList([table, theirs, head]).double()
    weights: dict[str, Tensor] = {"embed.weight": table.weight}
    weights |= {f"scores.{name}": value for name, value in head.named_parameters()}
    for i in range(2):
        weights |= {f"layers.{i}.lstm_layer.{k}": v for k, v in lstm_weights(theirs, i).items()}
    tokens = torch.randint(vocab, (BATCH, TIME))
    ours = apply_model(model("nonlinear/lstm.seq", vocab=vocab, d=WIDTH), tokens, weights)
    assert len(list(stack.parameters())) == 11
    close(ours, head(theirs(table(tokens))[0]))


def drawn(names: str, *shape: int) -> dict[str, Tensor]:
    return {name: random(*shape, seed=seed) for seed, name in enumerate(names)}


def numpy(values: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in values.items()}


@pytest.mark.against("a loop over the paper's equations")
def test_peepholes_by_hand() -> None:
    """Greff et al., section 2, unit by unit."""
    lstm = rule("nonlinear/lstm.seq", "lstm_peephole", d=CELLS)
    inputs = drawn("ifzo", BATCH, TIME, CELLS)
    parameters = {f"p_{gate}": random(CELLS, seed=20 + i) for i, gate in enumerate("ifo")}
    parameters |= {f"R_{gate}.weight": random(CELLS, CELLS, seed=30 + i) for i, gate in enumerate("ifzo")}
    x, w = numpy(inputs), numpy(parameters)
    want = np.zeros((BATCH, TIME, CELLS))
    for row in range(BATCH):
        shown, cell = np.zeros(CELLS), np.zeros(CELLS)
        for t in range(TIME):
            heard = {gate: x[gate][row, t] + w[f"R_{gate}.weight"] @ shown for gate in "ifzo"}
            opened = sigmoid(heard["i"] + w["p_i"] * cell)
            kept = sigmoid(heard["f"] + w["p_f"] * cell)
            cell = kept * cell + opened * np.tanh(heard["z"])
            shown = sigmoid(heard["o"] + w["p_o"] * cell) * np.tanh(cell)
            want[row, t] = shown
    close(apply(lstm, inputs, parameters), torch.from_numpy(want))


@pytest.mark.against("a loop over the paper's equations")
def test_gru_as_published_by_hand() -> None:
    """Cho et al., (5) to (8), unit by unit."""
    gru = rule("nonlinear/gru.seq", "gru_reset_first", d=CELLS)
    inputs = drawn("rzn", BATCH, TIME, CELLS)
    parameters = {f"R_{gate}.weight": random(CELLS, CELLS, seed=40 + i) for i, gate in enumerate("rzn")}
    x, u = numpy(inputs), numpy(parameters)
    want = np.zeros((BATCH, TIME, CELLS))
    for row in range(BATCH):
        h = np.zeros(CELLS)
        for t in range(TIME):
            r = sigmoid(x["r"][row, t] + u["R_r.weight"] @ h)
            z = sigmoid(x["z"][row, t] + u["R_z.weight"] @ h)
            h = z * h + (1 - z) * np.tanh(x["n"][row, t] + u["R_n.weight"] @ (r * h))
            want[row, t] = h
    close(apply(gru, inputs, parameters), torch.from_numpy(want))
