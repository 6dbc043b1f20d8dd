"""Nodes a mixer in the graph for one token: those of a model less those of the same model without its mixers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import seqc
from seqc import bundled

from .running import error, export

MOST = 60
OVER = {  # what is more
    ("gated_delta", "portable"): 75,
    ("mamba2", "portable"): 65,
    ("mamba2", "opset27"): 61,
    ("rwkv7", "portable"): 90,
    ("rwkv7", "ort"): 77,
    ("rwkv7", "opset27"): 77,
}
# Specs, a call of a mixer as it is written there, its input, and how often a model with two layers makes it.
MIXERS: dict[str, tuple[str, str, str, int]] = {
    "griffin, recurrent": ("hybrid/griffin", "recurrent(rms_norm(x), w)", "rms_norm(x)", 4),
    "griffin, attention": (
        "hybrid/griffin",
        "local_attention(rms_norm(x), h, n, window = 128, kv_heads = 1)",
        "rms_norm(x)",
        2,
    ),
    "mamba": ("gated/mamba", "mamba_mixer(rms_norm(x), n = n)", "rms_norm(x)", 2),
    "mamba2": ("linear/mamba2", "mamba2_mixer(rms_norm(x), p = p, n = n, groups = groups)", "rms_norm(x)", 2),
    "gla": ("linear/gla", "gated_linear_attention(rms_norm(x), h)", "rms_norm(x)", 2),
    "gated_delta": ("delta/gated_delta", "gated_delta_net(rms_norm(x), h, groups)", "rms_norm(x)", 2),
    "retnet": (
        "linear/retnet",
        "multi_scale_retention(layer_norm(x), h, group_norm = group_norm)",
        "layer_norm(x)",
        2,
    ),
    "hgrn2": ("linear/hgrn2", "hgrn2_mixer(rms_norm(x), bound)", "rms_norm(x)", 2),
    "lstm": (
        "nonlinear/lstm",
        "lstm_layer(dropout(x, rate = rate), w = d, forget_bias = forget_bias)",
        "dropout(x, rate = rate)",
        2,
    ),
    "rwkv7": (
        "delta/rwkv7",
        "rwkv7_time_mix(z, behind, v, h, rank = rank, layer = l + 1, layers = layers)",
        "z",
        1,
    ),
}


def text_of(spec: str) -> str:
    return (bundled.folder("specs") / f"{spec}.seq").read_text(encoding="utf-8")


def operators(text: str, folder: Path, profile: str) -> Counter[str]:
    """The operators of the step graph of a text's model."""
    seqc.loads(text).model(layers=2).onnx(folder, profile=profile)
    return Counter(node.op_type for node in onnx.load(folder / "step.onnx").graph.node)


@pytest.mark.parametrize("profile", ["portable", "ort", "opset27"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_a_mixer_costs_few_nodes(tmp_path: Path, mixer: str, profile: str) -> None:
    spec, call, given, times = MIXERS[mixer]
    text = text_of(spec)
    assert call in text
    whole = operators(text, tmp_path / "whole", profile).total()
    without = operators(text.replace(call, given), tmp_path / "without", profile).total()
    assert 0 < (whole - without) / times <= OVER.get((mixer, profile), MOST)


RESETS = """
rule gate(x[d], a[d]) {
    state  h[d] = 0
    h'     = a * h + x
    return h'
}

block four(x[d]; d) {
    let a = gate(x, sigmoid(x))
    let b = gate(a, sigmoid(x))
    let c = gate(b, sigmoid(x))
    return gate(causal_conv(c, width = 3), sigmoid(x)) + a
}
"""


@pytest.mark.parametrize(("d", "wheres"), [(7, 2), (8192, 2), (8193, 5)])
def test_small_states_are_reset_together(tmp_path: Path, d: int, wheres: int) -> None:
    """Four states alike and a window; those of more entries keep nodes of their own."""
    exported = export(seqc.loads(RESETS).block("four", d=d).whole, tmp_path, profile="ort")
    inputs = exported.inputs(3, 5)
    reset = np.random.default_rng(0).random((3, 5)) < 0.3
    assert error(exported.steps(inputs, 2, reset)[0], exported.expected(inputs, reset)[0][:, 2:]) < 1e-5
    found = Counter(node.op_type for node in onnx.load(tmp_path / "step.onnx").graph.node)
    assert (found["Where"], found["Split"]) == (wheres, wheres == 2)


def test_a_reset_clears_what_is_no_number(tmp_path: Path) -> None:
    exported = export(seqc.loads(RESETS).block("four", d=5).whole, tmp_path, profile="ort")
    inputs = exported.inputs(2, 1)
    states = exported.session.init_state(2)
    for state in states.values():
        state[:] = np.nan
    here = {name: x[:, 0] for name, x in inputs.items()}
    outputs, after = exported.session.step(here, states, np.array([True, True]))
    assert error(outputs["y"], exported.expected(inputs)[0][:, 0]) < 1e-5
    assert all(np.isfinite(x).all() for x in after.values())
