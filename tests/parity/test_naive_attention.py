"""The oracle on attention and what stands beside it, against plain loops over all pairs of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqc.ir.recurrence import Recurrence
from seqc.oracle import parameter_table
from tests.parity.naive import attention as loops
from tests.parity.specs import apply, apply_model, block, close, model, random, rule

Array = NDArray[np.float64]
BATCH, TIME, KEY, VALUE, HEADS = 2, 13, 4, 3, 2
TOLERANCE = 1e-9

pytestmark = pytest.mark.against("the equations, in NumPy")
BOTH = pytest.mark.parametrize(("near", "far"), [(True, False), (False, True), (True, True)])


def drawn(seed: int, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Inputs by name: `[batch, time, …]`."""
    return {
        name: random(BATCH, TIME, *shape, seed=seed + i) for i, (name, shape) in enumerate(shapes.items())
    }


def queries() -> dict[str, Tensor]:
    return drawn(1, q=(KEY,), k=(KEY,), v=(VALUE,))


def plain(values: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: value.numpy() for name, value in values.items()}


def rows(loop: Callable[..., Array], inputs: Mapping[str, Tensor], **fixed: object) -> Tensor:
    """A loop over every row of a batch."""
    answers = [loop(**{name: x[row].numpy() for name, x in inputs.items()}, **fixed) for row in range(BATCH)]
    return torch.from_numpy(np.stack(answers))


def own(recurrence: Recurrence) -> dict[str, Tensor]:
    return {
        parameter.name: 0.7 * random(*(recurrence.sizes[axis] for axis in parameter.axes), seed=20 + i)
        for i, parameter in enumerate(recurrence.parameters)
    }


def heads_of(x: Tensor, weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Queries, keys and values of every head."""
    maps = {name: torch.einsum("btd,hnd->bthn", x, weights[f"{name}.weight"]) for name in "qkv"}
    return [{name: each[:, :, head] for name, each in maps.items()} for head in range(HEADS)]


def joined(answers: list[Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    return torch.einsum("bthm,dhm->btd", torch.stack(answers, 2), weights["out.weight"])


def positions() -> Tensor:
    return torch.arange(TIME, dtype=torch.float64).expand(BATCH, TIME)


# --- patterns ---


@BOTH
def test_the_strided_pattern(near: bool, far: bool) -> None:
    x, chosen = queries(), {"stride": 4, "near": near, "far": far}
    ours = rule("attention/sparse.seq", "strided_attention", None, n=KEY, m=VALUE, **chosen)
    close(apply(ours, x), rows(loops.strided, x, **chosen), TOLERANCE)


@BOTH
@pytest.mark.parametrize("ends", [1, 3])
def test_the_fixed_pattern(near: bool, far: bool, ends: int) -> None:
    x, chosen = queries(), {"stride": 4, "ends": ends, "near": near, "far": far}
    ours = rule("attention/sparse.seq", "fixed_attention", None, n=KEY, m=VALUE, **chosen)
    close(apply(ours, {**x, "t": positions()}), rows(loops.fixed, x, **chosen), TOLERANCE)


# --- scores ---


@pytest.mark.parametrize("reach", [5, TIME])
def test_relative_attention(reach: int) -> None:
    width = HEADS * KEY
    layer = block("attention/relative.seq", "relative_layer", d=width, h=HEADS, reach=reach)
    weights = {name: random(*p.shape, seed=i) for i, (name, p) in enumerate(parameter_table(layer).items())}
    x = random(BATCH, TIME, width, seed=9)
    answers = [
        rows(loops.relative, seen, E=weights["E"][head].numpy())
        for head, seen in enumerate(heads_of(x, weights))
    ]
    close(apply_model(layer, x, weights), joined(answers, weights), TOLERANCE)


def test_the_skewing_of_music_transformer_looks_up_by_age() -> None:
    """`far` in our rule is looked up by age; the paper shifts a matrix that begins with the largest distance."""
    q, by_distance = random(TIME, KEY, seed=1), random(TIME, KEY, seed=2)
    skewed = torch.from_numpy(loops.skewed(q.numpy(), by_distance.flip(0).numpy()))
    age = torch.arange(TIME)[:, None] - torch.arange(TIME)
    want = (q @ by_distance.mT).gather(1, age.clamp(min=0))
    close(skewed.tril(), want.tril())


@pytest.mark.parametrize(("segment", "past"), [(4, 6), (5, 0)])
def test_transformer_xl(segment: int, past: int) -> None:
    width = HEADS * KEY
    sizes = {"d": width, "h": HEADS, "segment": segment, "past": past}
    layer = block("attention/transformer_xl.seq", "xl_layer", **sizes)
    weights = {name: random(*p.shape, seed=i) for i, (name, p) in enumerate(parameter_table(layer).items())}
    x = random(BATCH, TIME, width, seed=19)
    answers: list[Tensor] = []
    for head, seen in enumerate(heads_of(x, weights)):
        given = {name: weights[name][head].numpy() for name in ("u", "w")}
        places = torch.cat([weights["W_R"][head], weights["W_S"][head]], 1).numpy()
        answers.append(
            rows(loops.transformer_xl, seen, **given, W_R=places, segment=segment, past=past, width=width)
        )
    close(apply_model(layer, x, weights), joined(answers, weights), TOLERANCE)


def test_sigmoid_attention() -> None:
    x = {**queries(), "b": random(BATCH, TIME, seed=7)}
    ours = rule("attention/sigmoid.seq", "sigmoid_attention", n=KEY, m=VALUE)
    close(apply(ours, x), rows(loops.sigmoid_attention, x), TOLERANCE)


@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("sink", [-1.5, 3.0])
def test_a_sink_is_one_more_score(window: int, sink: float) -> None:
    x = queries()
    given = {**x, "sink": torch.full((BATCH, TIME), sink, dtype=torch.float64)}
    if window:
        ours = rule("attention/sinks.seq", "attend_sink_window", n=KEY, m=VALUE, window=window)
    else:
        ours = rule("attention/sinks.seq", "attend_sink", n=KEY, m=VALUE)
    close(apply(ours, given), rows(loops.sinks, x, sink=sink, window=window or TIME), TOLERANCE)


# --- memories beside attention ---


def test_attention_to_learned_entries_and_a_window() -> None:
    x, entries = queries(), {"pk": random(2, KEY, seed=5), "pv": random(2, VALUE, seed=6)}
    ours = rule("hybrid/titans_hybrids.seq", "attend_persistent", n=KEY, m=VALUE, p=2, window=4)
    given = {name: entry.expand(BATCH, TIME, *entry.shape) for name, entry in entries.items()}
    close(apply(ours, {**x, **given}), rows(loops.persistent, x, **plain(entries), window=4), TOLERANCE)


@pytest.mark.parametrize("segment", [1, 5])
def test_memory_as_context(segment: int) -> None:
    ours = rule("hybrid/titans_hybrids.seq", "memory_as_context", n=KEY, m=VALUE, p=2, segment=segment)
    x = {**queries(), **drawn(4, r=(KEY,), alpha=(), eta=(), theta=())}
    for name, most in {"alpha": 0.3, "eta": 0.9, "theta": 0.4}.items():
        x[name] = most * torch.sigmoid(x[name])
    maps = {"pk": random(2, KEY, seed=11), "pv": random(2, VALUE, seed=12)}
    maps |= {name: random(KEY, VALUE, seed=13 + i) for i, name in enumerate(("context", "key", "query"))}
    given = {name: each.expand(BATCH, TIME, *each.shape) for name, each in maps.items()}
    want = rows(loops.memory_as_context, x, **plain(maps), segment=segment)
    close(apply(ours, {**x, **given, "t": positions()}), want, TOLERANCE)


@pytest.mark.parametrize("hops", [1, 3])
def test_a_memory_network(hops: int) -> None:
    vocab, d, slots = 7, 4, 5
    network = model("attention/memory_network.seq", vocab=vocab, d=d, slots=slots, hops=hops)
    table = parameter_table(network)
    weights = {name: random(*p.shape, seed=i) for i, (name, p) in enumerate(table.items())}
    tokens = torch.randint(vocab, (BATCH, TIME), generator=torch.Generator().manual_seed(0))
    theirs = {name.removeprefix("hops.").removesuffix(".weight"): w for name, w in plain(weights).items()}
    want = rows(loops.memory_network, {"tokens": tokens}, **theirs, hops=hops)
    close(apply_model(network, tokens, weights), want, TOLERANCE)


@pytest.mark.parametrize("span", [3, 5])
def test_block_recurrence(span: int) -> None:
    ours = rule("attention/block_recurrent.seq", "recurrent_cell", h=HEADS, n=KEY, span=span, slot=3, d=5)
    x, parameters = drawn(1, q=(HEADS, KEY), k=(HEADS, KEY), v=(HEADS, KEY)), own(ours)
    want = rows(loops.recurrent_cell, x, **plain(parameters), span=span)
    close(apply(ours, {**x, "t": positions()}, parameters), want, TOLERANCE)


# --- experts ---


@pytest.mark.parametrize("k", [1, 3])
def test_sigma_moe(k: int) -> None:
    experts = block("hybrid/sigma_moe.seq", "sigma_moe", d=KEY, experts=5, k=k, hidden=3)
    table = parameter_table(experts)
    weights = {name: random(*p.shape, seed=i) for i, (name, p) in enumerate(table.items())}
    x = drawn(9, x=(KEY,))
    theirs = {name.removesuffix(".weight"): w for name, w in plain(weights).items()}
    theirs["down"] = theirs["down"].swapaxes(0, 1)
    close(apply_model(experts, x, weights), rows(loops.sigma_moe, x, **theirs, k=k), TOLERANCE)
