"""Cells of the literature against `torchrecurrent`, token by token, with weights copied by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.specs import apply_model, block, close, random

BATCH, TIME, WIDTH, CELLS = 2, 7, 3, 4
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Cell:
    """A cell of theirs and the block that should equal it.

    `gates` names our maps of the token in the order in which theirs are stacked; `recurrent` likewise those of the
    state, each with the bias that their second bias adds to.  `more` makes the weights that fit neither.
    """

    name: str
    file: str
    block: str
    gates: str
    recurrent: tuple[tuple[str, str], ...] = ()
    settings: dict[str, float] = field(default_factory=dict[str, float])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    more: Callable[[Any], Weights] | None = None
    square: bool = False


def recurrent(*gates: str, into: str = "W_{}.bias") -> tuple[tuple[str, str], ...]:
    """`cell.R_f` adds its bias to `W_f.bias`, and so on."""
    return tuple((f"cell.R_{gate}", into.format(gate)) for gate in gates)


def stacked(weight: Tensor, *names: str) -> Weights:
    return dict(zip(names, weight.chunk(len(names)), strict=True))


def own_bias(cell: Any) -> Weights:
    """Of cells whose second bias stands inside, where ours is."""
    return {"cell.R.weight": cell.weight_hh, "cell.R.bias": cell.bias_hh}


def fast_grnn(cell: Any) -> Weights:
    both = stacked(cell.bias_ih + cell.bias_hh, "cell.b_z", "cell.b_n")
    return {**both, "cell.R.weight": cell.weight_hh, "cell.zeta": cell.zeta[0], "cell.nu": cell.nu[0]}


def cornn(cell: Any) -> Weights:
    bias = cell.bias_ih + cell.bias_hh + cell.bias_ch
    return {"cell.R.weight": cell.weight_hh, "cell.Q.weight": cell.weight_ch, "V.bias": bias}


def ran(cell: Any) -> Weights:
    return {
        **stacked(cell.weight_ih, "W_u.weight", "W_i.weight", "W_f.weight"),
        **stacked(cell.weight_hh, "cell.R_i.weight", "cell.R_f.weight"),
        **stacked(cell.bias_ih + cell.bias_hh, "W_i.bias", "W_f.bias"),
    }


def multiplicative(cell: Any) -> Weights:
    biases = stacked(cell.bias_ih, *(f"W_{gate}.bias" for gate in "mifzo"))
    inner = stacked(cell.bias_mh, *(f"W_{gate}.bias" for gate in "ifzo"))
    return {
        **stacked(cell.weight_mh, *(f"cell.M_{gate}.weight" for gate in "ifzo")),
        **{name: biases[name] + inner.get(name, 0) for name in biases},
        "cell.R_m.weight": cell.weight_hh,
        "cell.R_m.bias": cell.bias_hh,
    }


def antisymmetric(cell: Any) -> Weights:
    return {"cell.R": cell.weight_hh, "V.bias": cell.bias_ih + cell.bias_hh}


def gated_antisymmetric(cell: Any) -> Weights:
    gate, proposal = cell.bias_ih.chunk(2)
    return {"cell.R": cell.weight_hh, "V_z.bias": gate, "V.bias": proposal + cell.bias_hh}


def brc(cell: Any) -> Weights:
    biases = stacked(cell.bias_ih, "W_a.bias", "W_c.bias", "W_n.bias")
    inner = stacked(cell.bias_hh, "W_a.bias", "W_c.bias")
    return {
        **stacked(cell.weight_hh, "cell.w_a", "cell.w_c"),
        **{name: biases[name] + inner.get(name, 0) for name in biases},
    }


def before(cell: Any) -> Weights:
    """The maps of the token before."""
    names = ("z", "f", "o")
    return {
        **stacked(cell.weight_hh, *(f"V_{name}.weight" for name in names)),
        **stacked(cell.bias_ih + cell.bias_hh, *(f"W_{name}.bias" for name in names)),
    }


def peepholes(cell: Any) -> Weights:
    return stacked(cell.weight_ph, "cell.p_i", "cell.p_f", "cell.p_o")


NAS = tuple(str(i) for i in range(8))
CATALOGUE = (
    Cell("OriginalLSTMCell", "lstm", "lstm_1997_layer", "W_i W_z W_o", recurrent("i", "z", "o")),
    Cell(
        "PeepholeLSTMCell",
        "lstm",
        "lstm_peephole_layer",
        "W_i W_f:b W_z W_o",
        (("cell.R_i", "W_i.bias"), ("cell.R_f", "b"), ("cell.R_z", "W_z.bias"), ("cell.R_o", "W_o.bias")),
        more=peepholes,
    ),
    Cell(
        "IndRNNCell",
        "indrnn",
        "indrnn_layer",
        "W",
        options={"nonlinearity": "relu"},
        more=lambda cell: {"cell.u": cell.vector_u, "W.bias": cell.bias_ih + cell.bias_hh},
    ),
    Cell("MGUCell", "mgu", "mgu_layer", "W_f W_n", recurrent("f", "n")),
    Cell(
        "FastRNNCell",
        "fast_rnn",
        "fast_rnn_layer",
        "W",
        (("cell.R", "W.bias"),),
        more=lambda cell: {"cell.a": cell.alpha[0], "cell.c": cell.beta[0]},
    ),
    Cell(
        "FastGRNNCell",
        "fast_rnn",
        "fast_grnn_layer",
        "W:",
        options={"nonlinearity": "sigmoid"},
        more=fast_grnn,
    ),
    Cell(
        "coRNNCell",
        "cornn",
        "cornn_layer",
        "V",
        settings={"dt": 0.3, "gamma": 1.7, "epsilon": 0.6},
        options={"dt": 0.3, "gamma": 1.7, "epsilon": 0.6},
        more=cornn,
    ),
    Cell(
        "UnICORNNCell",
        "cornn",
        "unicornn_layer",
        "V",
        settings={"dt": 0.3, "alpha": 1.4},
        options={"dt": 0.3, "alpha": 1.4},
        more=lambda cell: {"cell.w": cell.weight_hh, "cell.c": cell.weight_ch},
    ),
    Cell("LiGRUCell", "ligru", "ligru_layer", "W_z W_n", recurrent("z", "n")),
    Cell("JANETCell", "janet", "janet_layer", "W_s:b W_n", (("cell.R_s", "b"), ("cell.R_n", "W_n.bias"))),
    Cell(
        "MinimalRNNCell",
        "minimal_rnn",
        "minimal_rnn_layer",
        "W",
        more=lambda cell: {**own_bias(cell), "cell.Q.weight": cell.weight_mm},
    ),
    Cell("CFNCell", "cfn", "cfn_layer", "W_t W_e W_n", recurrent("t", "e")),
    Cell("ATRCell", "atr", "atr_layer", "W", more=own_bias),
    Cell("UGRNNCell", "ugrnn", "ugrnn_layer", "W_n W_g:b", (("cell.R_n", "W_n.bias"), ("cell.R_g", "b"))),
    Cell(
        "IntersectionRNNCell",
        "ugrnn",
        "intersection_rnn_layer",
        "W_y W_n W_gy:b_y W_gh:b_h",
        (*recurrent("y", "n"), ("cell.R_gy", "b_y"), ("cell.R_gh", "b_h")),
        square=True,
    ),
    Cell("RANCell", "ran", "ran_layer", "", more=ran),
    Cell(
        "MultiplicativeLSTMCell",
        "multiplicative_lstm",
        "multiplicative_lstm_layer",
        "W_m W_i W_f W_z W_o",
        more=multiplicative,
    ),
    Cell("STARCell", "star", "star_layer", "W_z W_k", recurrent("k")),
    Cell(
        "AntisymmetricRNNCell",
        "antisymmetric",
        "antisymmetric_layer",
        "V",
        settings={"epsilon": 0.4, "gamma": 0.2},
        options={"epsilon": 0.4, "gamma": 0.2},
        more=antisymmetric,
    ),
    Cell("BRCell", "brc", "brc_layer", "W_a W_c W_n", more=brc),
    Cell("NBRCell", "brc", "nbrc_layer", "W_a W_c W_n", recurrent("a", "c")),
    Cell(
        "MUT1Cell",
        "mut",
        "mut1_layer",
        "W_z W_r W_n",
        (("cell.R_r", "W_r.bias"), ("cell.R_n", "cell.R_n.bias")),
    ),
    Cell("MUT2Cell", "mut", "mut2_layer", "W_z W_r W_n", recurrent("z", "r", "n")),
    Cell("MUT3Cell", "mut", "mut3_layer", "W_z W_r W_n", recurrent("z", "r", "n")),
    Cell("TRNNCell", "strongly_typed", "t_rnn_layer", "W_z W_f"),
    Cell("TGRUCell", "strongly_typed", "t_gru_layer", "W_z W_f W_o", more=before),
    Cell("TLSTMCell", "strongly_typed", "t_lstm_layer", "W_z W_f W_o", more=before),
    Cell("NASCell", "nas_cell", "nas_layer", " ".join(f"W_{i}" for i in NAS), recurrent(*NAS)),
)


def weights_of(kind: Cell, cell: Any) -> Weights:
    """Theirs under our names; `W_f:b` is a map whose bias is called b, `W:` one without."""
    ours: Weights = {}
    gates = kind.gates.split()
    for i, gate in enumerate(gates):
        name, colon, bias = gate.partition(":")
        ours[f"{name}.weight"] = cell.weight_ih.chunk(len(gates))[i]
        if not colon or bias:
            ours[bias or f"{name}.bias"] = cell.bias_ih.chunk(len(gates))[i]
    for i, (name, bias) in enumerate(kind.recurrent):
        count = len(kind.recurrent)
        ours[f"{name}.weight"] = cell.weight_hh.chunk(count)[i]
        ours[bias] = ours.get(bias, torch.zeros(())) + cell.bias_hh.chunk(count)[i]
    return ours if kind.more is None else ours | kind.more(cell)


def answers(cell: Any, x: Tensor) -> Tensor:
    """Token by token; a cell gives its answer, or its answer and what it keeps."""
    state: Any = None
    shown: list[Tensor] = []
    for t in range(x.shape[1]):
        result = cell(x[:, t]) if state is None else cell(x[:, t], state)
        shown.append(result[0] if isinstance(result, tuple) else result)
        state = kept(result, type(cell).__name__)
    return torch.stack(shown, 1)


def kept(result: Any, name: str) -> Any:
    """What the next token starts from."""
    if name in ("IntersectionRNNCell", "TLSTMCell"):  # these show one thing and keep another
        return result[1]
    return result


@pytest.mark.against("torchrecurrent's cells")
@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.block)
def test_a_cell_is_the_catalogues(kind: Cell) -> None:
    catalogue: Any = pytest.importorskip("torchrecurrent")
    torch.manual_seed(0)
    size = CELLS if kind.square else WIDTH
    cell: Any = getattr(catalogue, kind.name)(size, CELLS, dtype=torch.float64, **kind.options)
    with torch.no_grad():
        for parameter in cell.parameters():
            if parameter.ndim:
                parameter.normal_(0, 0.7)
        x = random(BATCH, TIME, size)
        settings = {"d": size, **({} if kind.square else {"w": CELLS}), **kind.settings}
        layer = block(f"nonlinear/{kind.file}.seq", kind.block, **settings)
        ours = apply_model(layer, {"x": x}, weights_of(kind, cell))
        close(ours, answers(cell, x))
