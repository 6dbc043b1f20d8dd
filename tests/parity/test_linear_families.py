"""Every rule of specs/linear, specs/gated and specs/delta: its class, its parallel form, and that they agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqc.ir.recurrence import Recurrence
from seqc.oracle import initial_parameters, run_model, run_recurrence
from seqc.oracle.trace import trace
from seqc.passes.schedule import schedule
from tests.parity.specs import close, model, random, rule, spec
from tests.passes.interpreter import Run

# (file, rule, class, mode), where the class is that of the matrix or vector that is read.
RULES = [
    ("linear/linear_attention.seq", "linear_attention", "K2", "chunk"),
    ("linear/linear_attention.seq", "normalised_linear_attention", "K2", "chunk"),
    ("linear/retnet.seq", "retain", "K2", "chunk"),
    ("linear/lightning.seq", "lightning", "K2", "chunk"),
    ("linear/mamba2.seq", "mamba2", "K2", "chunk"),
    ("linear/gla.seq", "gla", "K3", "chunk"),
    ("linear/hgrn2.seq", "hgrn2", "K3", "chunk"),
    ("gated/hgrn.seq", "hgrn", "K1", "scan"),
    ("gated/hgrn.seq", "hgrn_complex", "K7", "scan"),
    ("gated/mamba.seq", "selective_scan", "K1", "scan"),
    ("gated/rg_lru.seq", "rg_lru", "K1", "scan"),
    ("gated/rg_lru.seq", "rg_lru_unit_start", "K1", "scan"),
    ("gated/mingru.seq", "mingru", "K1", "scan"),
    ("gated/minlstm.seq", "minlstm", "K1", "scan"),
    ("gated/mega_ema.seq", "mega_ema", "K1", "scan"),
    ("gated/lru.seq", "lru", "K7", "scan"),
    ("gated/longhorn.seq", "longhorn", "K1", "scan"),
    ("gated/longhorn.seq", "longhorn_exact", "K4", "chunk"),
    ("delta/deltanet.seq", "delta", "K4", "chunk"),
    ("delta/gated_delta.seq", "gated_delta", "K4", "chunk"),
    ("delta/kda.seq", "kda", "K5", "chunk"),
    ("delta/rwkv7.seq", "rwkv7", "K5", "chunk"),
]
EACH = pytest.mark.parametrize(("file", "name"), [row[:2] for row in RULES], ids=[row[1] for row in RULES])
LANGUAGE = {"vocab": 7, "d": 8, "layers": 2}
HEADS = {**LANGUAGE, "h": 2}
MODELS = [
    ("linear/linear_attention.seq", HEADS),
    ("linear/linear_attention.seq", {**HEADS, "normaliser": False}),
    ("linear/retnet.seq", HEADS),
    ("linear/retnet.seq", {**HEADS, "group_norm": True}),
    ("linear/lightning.seq", HEADS),
    ("linear/gla.seq", HEADS),
    ("linear/hgrn2.seq", HEADS),
    ("linear/mamba2.seq", {**LANGUAGE, "p": 4, "n": 3, "groups": 2}),
    ("gated/hgrn.seq", LANGUAGE),
    ("gated/hgrn.seq", {**LANGUAGE, "turning": True}),
    ("gated/mamba.seq", {**LANGUAGE, "n": 3}),
    ("gated/rg_lru.seq", HEADS),
    ("gated/rg_lru.seq", {**HEADS, "unit_start": True}),
    ("gated/mingru.seq", LANGUAGE),
    ("gated/minlstm.seq", {**LANGUAGE, "positive": False}),
    ("gated/lru.seq", {"d": 6, "n": 5}),
    ("gated/longhorn.seq", {**LANGUAGE, "n": 3}),
    ("gated/longhorn.seq", {**LANGUAGE, "n": 3, "exact": True}),
    ("delta/deltanet.seq", HEADS),
    ("delta/gated_delta.seq", {**HEADS, "groups": 2}),
    ("delta/kda.seq", HEADS),
    ("delta/kda.seq", {**HEADS, "bounded": True}),
]
SIZES = {"d": 3, "n": 4, "m": 2, "p": 2, "w": 3}
BATCH, TIME = 2, 67  # more than one chunk of 64


def small(file: str, name: str) -> Recurrence:
    return rule(file, name, None, **{axis: SIZES[axis] for axis in spec(file).checked.default_sizes(name)})


def given(recurrence: Recurrence) -> dict[str, Tensor]:
    """Values are normal, keys of the delta rules have length 1, and what is left are gates in (0, 1)."""
    inputs: dict[str, Tensor] = {}
    for seed, leaf in enumerate(recurrence.inputs):
        x = random(BATCH, TIME, *(recurrence.sizes[axis] for axis in leaf.axes), seed=seed)
        if leaf.name in ("k", "kappa"):
            x = torch.nn.functional.normalize(x, dim=-1)
        elif leaf.name == "t":
            x = torch.arange(TIME, dtype=torch.float64).expand(BATCH, TIME)
        elif leaf.name not in ("q", "v", "x", "c", "B", "C", "re", "im"):
            x = x.sigmoid()
        inputs[leaf.name] = -x if (recurrence.name, leaf.name) == ("mamba2", "a") else x
    return inputs


@pytest.mark.parametrize(("file", "name", "code", "mode"), RULES, ids=[row[1] for row in RULES])
def test_classes(file: str, name: str, code: str, mode: str) -> None:
    plan = schedule(small(file, name))
    assert plan.mode == mode
    assert plan.classes[0].code == code


@EACH
def test_every_form_is_the_definition(file: str, name: str) -> None:
    """Identity 13: chunked, scanned and looped are the recurrence, also when a sequence comes in two parts."""
    recurrence = small(file, name)
    inputs, parameters = given(recurrence), initial_parameters(recurrence)
    want, last = run_recurrence(recurrence, inputs, parameters)
    for mode in schedule(recurrence).modes:
        run = Run(schedule(recurrence, mode), inputs, parameters)
        for got, expected in zip(run.outputs, want, strict=True):
            close(got, expected, 1e-10)
        for state in last:
            close(run.final[state], last[state], 1e-10)
    first = Run(schedule(recurrence), {leaf: x[:, :5] for leaf, x in inputs.items()}, parameters)
    second = Run(
        schedule(recurrence), {leaf: x[:, 5:] for leaf, x in inputs.items()}, parameters, first.final
    )
    close(second.outputs[0], want[0][:, 5:], 1e-10)


@pytest.mark.parametrize(("file", "settings"), MODELS)
def test_a_model_carries_on_where_it_stopped(file: str, settings: dict[str, float]) -> None:
    """Identity 14: the state holds all that the past leaves, the windows of convolutions included."""
    whole = model(file, None, **settings)
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randint(0, 7, (BATCH, 9), generator=generator)
        if whole.kind == "tokens"
        else random(BATCH, 9, 1)
    )
    parameters = initial_parameters(whole)
    (want,), _ = run_model(whole, x, parameters)
    (first,), state = run_model(whole, x[:, :4], parameters)
    (second,), _ = run_model(whole, x[:, 4:], parameters, state)
    close(torch.cat([first, second], 1), want)
    assert torch.isfinite(want).all()
    assert float(want.std()) > 1e-3


def test_gates_begin_where_the_papers_put_them() -> None:
    softplus = torch.nn.functional.softplus
    mamba = initial_parameters(spec("gated/mamba.seq").block("mamba_mixer", d=64, n=4).model)
    step = softplus(mamba["dt_bias"])
    assert step.min() >= 0.001 - 1e-12
    assert step.max() <= 0.1 + 1e-12
    close(mamba["scan.A_log"].exp()[0], torch.arange(1.0, 5.0, dtype=torch.float64))
    mamba2 = initial_parameters(spec("linear/mamba2.seq").block("mamba2_mixer", d=64, p=4, n=4).model)
    decay = mamba2["A_log"].exp()
    assert decay.min() >= 1
    assert decay.max() <= 16
    for power in (1, 8):
        rg_lru = initial_parameters(spec("gated/rg_lru.seq").block("rg_lru_mixer", d=64, power=power).model)
        base = torch.exp(-softplus(rg_lru["decay"])) ** power
        assert base.min() >= 0.9
        assert base.max() <= 0.999


@pytest.mark.parametrize("file", ["gated/hgrn.seq", "linear/hgrn2.seq"])
def test_lower_bounds_rise_with_the_layers(file: str) -> None:
    """0 in the first layer, and then what a softmax over the layers adds up to, the first one's share aside."""
    whole = model(file, vocab=7, d=8, layers=3)
    parameters = initial_parameters(whole)
    parameters["gamma"] = random(*parameters["gamma"].shape)
    shares = parameters["gamma"].softmax(0)
    seen = trace(whole, torch.zeros(1, 1, dtype=torch.int64), parameters)
    bounds = [
        entry.value[0] for entry in seen.entries if entry.name.endswith(".bound") and entry.kind == "let"
    ]
    assert len(bounds) == 3
    for layer, bound in enumerate(bounds):
        close(bound, shares[1 : layer + 1].sum(0))
