"""The younger cells of the catalogue against `torchrecurrent`, token by token, with weights copied by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.specs import apply_model, block, close, random
from tests.parity.test_cells_catalogue import (
    BATCH,
    CELLS,
    TIME,
    WIDTH,
    Cell,
    Weights,
    answers,
    recurrent,
    stacked,
    weights_of,
)

pytestmark = pytest.mark.against("torchrecurrent's cells")
LSTM = "W_i W_f:b W_z W_o"
OF_LSTM = (
    ("cell.R_i", "W_i.bias"),
    ("cell.R_f", "b"),
    ("cell.R_z", "W_z.bias"),
    ("cell.R_o", "W_o.bias"),
)


def deep_gate(cell: Any) -> Weights:
    return {"cell.R_o.weight": cell.weight_ho}


def working_memory(cell: Any) -> Weights:
    names = ("cell.M_i", "cell.M_f", "cell.M_o")
    return {
        **stacked(cell.weight_mh, *(f"{name}.weight" for name in names)),
        **stacked(cell.bias_mh, *(f"{name}.bias" for name in names)),
    }


def residual(cell: Any) -> Weights:
    return {
        **stacked(cell.weight_ph, "cell.p_i", "cell.p_f", "cell.p_o"),
        "cell.P.weight": cell.weight_proj,
        "Q.weight": cell.weight_res,
    }


def own_bias(cell: Any) -> Weights:
    return {"cell.R.weight": cell.weight_hh, "cell.R.bias": cell.bias_hh}


SIMPLE = (("cell.R_g", "cell.R_g.bias"), ("cell.R_z", "W_z.bias"))
CATALOGUE = (
    Cell(
        "MiRU1Cell",
        "miru",
        "miru1_layer",
        "W_r W_n",
        recurrent("r", "n"),
        settings={"keep": 0.3},
        options={"update_coefficient": 0.3},
    ),
    Cell(
        "MiRU2Cell",
        "miru",
        "miru2_layer",
        "W_n",
        recurrent("n"),
        settings={"keep": 0.3, "reset": 0.6},
        options={"update_coefficient": 0.3, "reset_coefficient": 0.6},
    ),
    Cell("SGUCell", "sgu", "sgu_layer", "W_g W_z", SIMPLE),
    Cell("DSGUCell", "sgu", "dsgu_layer", "W_g W_z", SIMPLE, more=deep_gate),
    Cell("LightRUCell", "light_ru", "light_ru_layer", "W_n W_f", recurrent("f")),
    Cell("SGRNCell", "sgrn", "sgrn_layer", "W", more=own_bias),
    Cell(
        "WMCLSTMCell", "working_memory_lstm", "working_memory_lstm_layer", LSTM, OF_LSTM, more=working_memory
    ),
    Cell("ResLSTMCell", "residual_lstm", "residual_lstm_layer", LSTM, OF_LSTM, more=residual),
)


def started(name: str, **options: Any) -> Any:
    """A cell of the catalogue whose weights are all random."""
    catalogue: Any = pytest.importorskip("torchrecurrent")
    torch.manual_seed(0)
    cell: Any = getattr(catalogue, name)(WIDTH, CELLS, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_(0, 0.7)
    return cell


def ours(kind: Cell, cell: Any, x: Tensor) -> Tensor:
    layer = block(f"nonlinear/{kind.file}.seq", kind.block, d=WIDTH, w=CELLS, **kind.settings)
    with torch.no_grad():
        return apply_model(layer, {"x": x}, weights_of(kind, cell))


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.block)
def test_a_cell_is_the_catalogues(kind: Cell) -> None:
    cell, x = started(kind.name, **kind.options), random(BATCH, TIME, WIDTH)
    close(ours(kind, cell, x), answers(cell, x))


def test_memory_controller_lstm() -> None:
    """It shows one vector and keeps two others."""
    kind = Cell(
        "MCLSTMCell",
        "memory_controller_lstm",
        "memory_controller_lstm_layer",
        "W_f:b W_i W_o W_m W_z",
        (("cell.R_f", "b"), *recurrent("i", "o", "m", "z")),
    )
    cell, x = started(kind.name), random(BATCH, TIME, WIDTH)
    shown, state = [], None
    for t in range(TIME):
        answer, state = cell(x[:, t], state)
        shown.append(answer)
    close(ours(kind, cell, x), torch.stack(shown, 1))


@pytest.mark.parametrize("delay", [1, 3])
def test_tau_gru(delay: int) -> None:
    """The catalogue's cell is told what the state was."""
    kind = Cell(
        "tauGRUCell",
        "tau_gru",
        "tau_gru_layer",
        "W_u W_z W_g W_a",
        recurrent("u", "z", "g", "a"),
        settings={"delay": delay},
    )
    cell, x = started(kind.name), random(BATCH, TIME, WIDTH)
    states = [torch.zeros(BATCH, CELLS, dtype=torch.float64)] * (delay + 1)
    for t in range(TIME):
        states.append(cell(x[:, t], states[-1], states[-1 - delay]))
    close(ours(kind, cell, x), torch.stack(states[delay + 1 :], 1))
