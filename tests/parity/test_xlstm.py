"""mLSTM and sLSTM against their equations without a stabiliser, and against Transformers' xLSTM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.parity.references import doubles
from tests.parity.specs import apply, apply_model, close, model, random, rule

Array = NDArray[np.float64]
BATCH, TIME, KEY, VALUE = 2, 13, 4, 5


def mlstm_inputs() -> dict[str, Tensor]:
    return {
        "q": random(BATCH, TIME, KEY, seed=1),
        "k": random(BATCH, TIME, KEY, seed=2),
        "v": random(BATCH, TIME, VALUE, seed=3),
        "i": 2 * random(BATCH, TIME, seed=4),
        "f": random(BATCH, TIME, seed=5),
    }


@pytest.mark.against("a loop over the paper's equations")
def test_mlstm_by_hand() -> None:
    """(19) to (23): keys divided by the root of their length, plain gates, nothing stabilised."""
    x = mlstm_inputs()
    q, k, v, i, f = (value.numpy() for value in x.values())
    want = np.zeros((BATCH, TIME, VALUE))
    for row in range(BATCH):
        memory, norm = np.zeros((VALUE, KEY)), np.zeros(KEY)
        for t in range(TIME):
            key = k[row, t] / np.sqrt(KEY)
            keep, write = 1 / (1 + np.exp(-f[row, t])), np.exp(i[row, t])
            memory = keep * memory + write * np.outer(v[row, t], key)
            norm = keep * norm + write * key
            want[row, t] = memory @ q[row, t] / max(abs(norm @ q[row, t]), 1)
    for name, settings in (("mlstm", {"eps": 0.0}), ("mlstm_plain", {})):
        mlstm = rule("xlstm/mlstm.seq", name, None, n=KEY, m=VALUE, **settings)
        close(apply(mlstm, x), torch.from_numpy(want))


def test_mlstm_does_not_overflow() -> None:
    """Input gates of e^2000, which only the stabilised form survives; the ratios are those of smaller gates."""
    x = mlstm_inputs()
    mlstm = rule("xlstm/mlstm.seq", "mlstm", n=KEY, m=VALUE, eps=0)
    high = apply(mlstm, {**x, "i": x["i"] + 2000})
    low = apply(mlstm, {**x, "i": x["i"] + 200})
    assert bool(torch.isfinite(high).all())
    close(high, low, 1e-10)


@pytest.mark.against("a loop over the paper's equations")
def test_slstm_by_hand() -> None:
    """(8) to (14) without the stabiliser, one cell at a time, recurrent weights within a head only."""
    heads, cells = 2, 3
    slstm = rule("xlstm/slstm.seq", "slstm", h=heads, d=cells)
    x = {gate: random(BATCH, TIME, heads, cells, seed=i) for i, gate in enumerate("ifzo")}
    weights = {f"R_{gate}.weight": random(heads, cells, cells, seed=9 + i) for i, gate in enumerate("ifzo")}
    given = {gate: value.numpy() for gate, value in x.items()}
    mixing = {gate: weights[f"R_{gate}.weight"].numpy() for gate in "ifzo"}
    want = np.zeros((BATCH, TIME, heads, cells))
    for row in range(BATCH):
        for head in range(heads):
            cell, norm, shown = np.zeros(cells), np.zeros(cells), np.zeros(cells)
            for t in range(TIME):
                raw = {gate: given[gate][row, t, head] + mixing[gate][head] @ shown for gate in "ifzo"}
                keep = 1 / (1 + np.exp(-raw["f"]))
                cell = keep * cell + np.exp(raw["i"]) * np.tanh(raw["z"])
                norm = keep * norm + np.exp(raw["i"])
                shown = cell / norm / (1 + np.exp(-raw["o"]))
                want[row, t, head] = shown
    close(apply(slstm, x, weights), torch.from_numpy(want))


@pytest.mark.against("Transformers")
def test_an_xlstm_is_transformers_xlstm() -> None:
    """The whole model of xLSTM 7B with the same weights; theirs takes chunks and then single tokens."""
    transformers: Any = pytest.importorskip("transformers")
    vocab, d, heads, layers = 11, 16, 2, 2
    config: Any = transformers.xLSTMConfig(
        vocab_size=vocab,
        hidden_size=d,
        num_hidden_layers=layers,
        num_heads=heads,
        mode="inference",
        autocast_kernel_dtype="float32",
        chunk_size=8,
    )
    torch.manual_seed(0)
    with doubles():
        theirs: Any = transformers.xLSTMForCausalLM(config).eval()
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.4)
    given: dict[str, Tensor] = theirs.state_dict()
    weights = {
        "embed.weight": given["backbone.embeddings.weight"],
        "rms_norm.weight": given["backbone.out_norm.weight"],
        "lm_head.scores.weight": given["lm_head.weight"],
    }
    for i in range(layers):
        weights |= layer_weights(given, i, d, heads)
    ours = model("xlstm/mlstm.seq", "xlstm", vocab=vocab, d=d, h=heads, layers=layers)
    tokens = torch.randint(vocab, (BATCH, TIME))
    with doubles():
        want: Tensor = theirs(tokens, use_cache=False).logits
    close(apply_model(ours, tokens, weights), want)


def layer_weights(given: dict[str, Tensor], i: int, d: int, heads: int) -> dict[str, Tensor]:
    block, inner = f"backbone.blocks.{i}", f"backbone.blocks.{i}.mlstm_layer"
    per_head = (heads, -1, d)
    own = {
        "q.weight": given[f"{inner}.q.weight"].view(per_head),
        "k.weight": given[f"{inner}.k.weight"].view(per_head),
        "v.weight": given[f"{inner}.v.weight"].view(per_head),
        "o.weight": given[f"{inner}.ogate_preact.weight"].view(per_head),
        "i.weight": given[f"{inner}.igate_preact.weight"],
        "f.weight": given[f"{inner}.fgate_preact.weight"],
        "b_i": given[f"{inner}.igate_preact.bias"],
        "b_f": given[f"{inner}.fgate_preact.bias"],
        "norm.weight": given[f"{inner}.multihead_norm.weight"].view(heads, -1),
        "out.weight": given[f"{inner}.out_proj.weight"].view(d, heads, -1),
    }
    ours = {f"layers.{i}.mlstm_layer.{name}": value for name, value in own.items()}
    ours[f"layers.{i}.rms_norm.weight"] = given[f"{block}.norm_mlstm.weight"]
    ours[f"layers.{i}.rms_norm_1.weight"] = given[f"{block}.norm_ffn.weight"]
    for name, theirs in (("gate", "proj_up_gate"), ("up", "proj_up"), ("down", "proj_down")):
        ours[f"layers.{i}.swiglu.{name}.weight"] = given[f"{block}.ffn.{theirs}.weight"]
    return ours
