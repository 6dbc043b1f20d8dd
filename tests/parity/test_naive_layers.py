"""The oracle on layers around memories that learn: maps, convolutions and gates here, memories and attention loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seqc.ir.program import Model
from seqc.oracle import parameter_table
from tests.parity.naive import attention as pairs
from tests.parity.naive import miras as loops
from tests.parity.naive.network import Network, silu, silu_slope
from tests.parity.specs import apply_model, block, close, random

Array = NDArray[np.float64]
Weights = Mapping[str, Tensor]
Gates = Mapping[str, Callable[[Tensor], Tensor]]
Fixed = Callable[[Weights, int], Mapping[str, object]]  # what else the loop of a head needs
BATCH, TIME, HEADS, KEY = 2, 9, 2, 4
WIDTH = HEADS * KEY
TOLERANCE = 1e-9

pytestmark = pytest.mark.against("the equations, in NumPy")


def weights_of(whole: Model) -> dict[str, Tensor]:
    """Random, and near 1 for norms."""
    drawn: dict[str, Tensor] = {}
    for seed, (name, parameter) in enumerate(parameter_table(whole).items()):
        x = random(*parameter.shape, seed=seed) / 2
        drawn[name] = 1 + x if "norm" in name else x
    return drawn


def under(prefix: str, weights: Weights) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def mapped(x: Tensor, weights: Weights, name: str) -> Tensor:
    """A linear map to heads, or to a number a head, with its bias if it has one."""
    matrix = weights[f"{name}.weight"]
    y: Tensor = (x @ matrix.flatten(0, -2).mT).unflatten(-1, matrix.shape[:-1])
    return y + weights.get(f"{name}.bias", torch.zeros_like(y))


def convolved(x: Tensor, taps: Tensor) -> Tensor:
    """silu of the sum of the last four tokens, each entry with taps of its own, the oldest token's first."""
    padded = torch.cat([torch.zeros_like(x[:, :3]), x], 1)
    return F.silu(torch.stack([padded[:, i : i + TIME] * taps[..., i] for i in range(4)]).sum(0))


def of_length_1(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight


def views(x: Tensor, weights: Weights) -> dict[str, Tensor]:
    """Queries and keys of length 1, and values, `[batch, time, h, n]`."""
    found = {
        name: convolved(mapped(x, weights, f"W_{name}"), weights[f"conv_{name}.weight"]) for name in "qk"
    }
    v = mapped(x, weights, "W_v")
    taps = weights.get("conv_v.weight")
    units = {name: of_length_1(each) for name, each in found.items()}
    return {**units, "v": v if taps is None else convolved(v, taps)}


def numbers(x: Tensor, weights: Weights, gates: Gates) -> dict[str, Tensor]:
    return {name: gate(mapped(x, weights, f"W_{name}")) for name, gate in gates.items()}


def rate(x: Tensor, most: float) -> Tensor:
    return most * torch.sigmoid(x)


def kept(x: Tensor, start: float) -> Tensor:
    """Begins near 1."""
    return torch.sigmoid(x + start)


def recalled(
    given: Mapping[str, Tensor], loop: Callable[..., Array], weights: Weights, fixed: Fixed
) -> Tensor:
    """A loop for every head of every row."""
    heads: list[Array] = []
    for h in range(HEADS):
        inputs = [{name: x[row, :, h].numpy() for name, x in given.items()} for row in range(BATCH)]
        heads.append(np.stack([loop(**each, **fixed(weights, h)) for each in inputs]))
    return torch.from_numpy(np.stack(heads, 2))


def network(memory: str, net: Network, **more: object) -> Fixed:
    """What a head's memory starts from, and what its network is."""

    def fixed(weights: Weights, head: int) -> dict[str, object]:
        own = under(f"{memory}.M.", weights)
        start = [own[f"{layer}.weight"][head].numpy() for layer in range(2)]
        scale = own["norm.weight"].numpy() if "norm.weight" in own else None
        return {"start": start, "net": replace(net, scale=scale), **more}

    return fixed


def matrix(width: int, **more: object) -> Fixed:
    return lambda weights, head: {"start": [np.zeros((KEY, width))], "net": Network(), **more}


def features(x: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**x, **{name: torch.cat([x[name], x[name] ** 2 / 2], -1) for name in "qk"}}


def same(
    layer: Model,
    gates: Gates,
    loop: Callable[..., Array],
    fixed: Fixed,
    gate: Callable[[Tensor], Tensor] = F.silu,
    seen: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """A layer is a loop a head, normed, gated and mapped back."""
    weights, x = weights_of(layer), random(BATCH, TIME, WIDTH, seed=99)
    given = {**seen(views(x, weights)), **numbers(x, weights, gates)}
    y = rms(recalled(given, loop, weights, fixed), weights["norm.weight"])
    want = torch.einsum("bthm,dhm->btd", gate(mapped(x, weights, "gate")) * y, weights["out.weight"])
    close(apply_model(layer, x, weights), want, TOLERANCE)


TITANS: Gates = {"alpha": torch.sigmoid, "eta": torch.sigmoid, "theta": partial(rate, most=0.1)}
MIRAS: Gates = {"eta": partial(rate, most=0.01), "alpha": partial(kept, start=6)}
OMEGA: Gates = {"eta": partial(rate, most=0.1), "alpha": partial(kept, start=4), "g": torch.sigmoid}
SILU = Network(silu, silu_slope)
GELU = Network()


@pytest.mark.parametrize("deep", [0, 1])
def test_titans(deep: int) -> None:
    layer = block("deep/titans.seq", "titans_layer", d=WIDTH, h=HEADS, c=4, deep=deep)
    fixed = network("lmm", SILU, period=4) if deep else matrix(KEY, period=4)
    same(layer, TITANS, loops.titans, fixed, gate=torch.sigmoid)


@pytest.mark.parametrize(
    ("published", "normaliser"), [(1, loops.published_normaliser), (0, loops.mirror_of_q_norm)]
)
def test_moneta(published: int, normaliser: Callable[[Array, float], Array]) -> None:
    layer = block("miras/moneta.seq", "moneta_layer", d=WIDTH, h=HEADS, c=4, published=published)

    def normalise(dual: Array) -> Array:
        return normaliser(dual, 4)

    fixed = network("memory_", GELU, period=4, p=3, normalise=normalise)
    same(layer, {**MIRAS, "eta": partial(rate, most=0.001)}, loops.moneta, fixed)


@pytest.mark.parametrize("entries", [0, 1])
def test_yaad(entries: int) -> None:
    layer = block("miras/yaad.seq", "yaad_layer", d=WIDTH, h=HEADS, c=4, entries=entries)
    fixed = network("memory_", GELU, period=4, entries=bool(entries))
    same(layer, {**MIRAS, "delta": F.softplus}, loops.yaad, fixed)


def test_memora() -> None:
    layer = block("miras/memora.seq", "memora_layer", d=WIDTH, h=HEADS, c=4, scale=2)
    same(layer, MIRAS, loops.memora, network("memory_", GELU, period=4, scale=2))


def test_omeganet() -> None:
    layer = block("deep/omeganet.seq", "omeganet_layer", d=WIDTH, h=HEADS, window=3)
    fixed = matrix(2 * KEY, period=1, window=3)
    same(layer, OMEGA, loops.omega, fixed, seen=features)


def test_atlas() -> None:
    layer = block("deep/atlas.seq", "atlas_layer", d=WIDTH, h=HEADS, window=3, c=4, steps=5)
    fixed = matrix(2 * KEY, period=4, window=3, steps=5)
    same(layer, {**OMEGA, "theta": torch.sigmoid}, loops.atlas, fixed, seen=features)


def test_mesanet() -> None:
    layer = block("deep/mesanet.seq", "mesa_layer", d=WIDTH, h=HEADS, steps=8)

    def ridge(weights: Weights, head: int) -> dict[str, object]:
        return {"ridge": 0.25 + F.softplus(weights["l"][head]).numpy()}

    same(layer, {"beta": torch.sigmoid, "g": partial(kept, start=4)}, loops.mesa, ridge)


# --- a memory beside attention ---


def turned(x: Tensor) -> Tensor:
    """Rotary positions: the two halves as real and imaginary parts."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(TIME, dtype=torch.float64)[:, None, None] * rates
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag], -1)


def attended(x: Tensor, weights: Weights, window: int) -> Tensor:
    given = {name: mapped(x, weights, name) for name in "qkv"}
    given |= {name: turned(given[name]) for name in "qk"}

    def fixed(weights: Weights, head: int) -> dict[str, object]:
        own = {name: weights[name][head].numpy() for name in ("pk", "pv")}
        return {**own, "window": window}

    return torch.einsum(
        "bthm,dhm->btd", recalled(given, pairs.persistent, weights, fixed), weights["out.weight"]
    )


def remembered(x: Tensor, weights: Weights, period: int) -> Tensor:
    given = {**views(x, weights), **numbers(x, weights, TITANS)}
    y = recalled(given, loops.titans, weights, network("lmm", SILU, period=period))
    return torch.einsum("bthm,dhm->btd", y, weights["out.weight"])


BRANCHES = {"d": WIDTH, "h": HEADS, "window": 3, "p": 2, "c": 4, "deep": True}


def test_memory_as_a_gate() -> None:
    """MAG, (26) to (28): the two branches are normed; the memory's opens and closes the attention's."""
    layer = block("hybrid/titans_hybrids.seq", "mag_layer", **BRANCHES)
    weights, x = weights_of(layer), random(BATCH, TIME, WIDTH, seed=99)
    near = attended(x, under("y.persistent_attention.", weights), 3)
    far = remembered(x, under("gate.long_term.", weights), 4)
    gate = torch.sigmoid(rms(far, weights["norm_gate.weight"]))
    want = rms(near, weights["norm_y.weight"]) * gate @ weights["out.weight"].mT
    close(apply_model(layer, x, weights), want, TOLERANCE)


def test_memory_as_a_layer() -> None:
    """MAL, (29) to (31): attention sees the tokens with what the memory has for them added."""
    layer = block("hybrid/titans_hybrids.seq", "mal_layer", **BRANCHES)
    weights, x = weights_of(layer), random(BATCH, TIME, WIDTH, seed=99)
    y = rms(x + remembered(x, under("y.long_term.", weights), 4), weights["rms_norm.weight"])
    want = attended(y, under("persistent_attention.", weights), 3)
    close(apply_model(layer, x, weights), want, TOLERANCE)


@pytest.mark.parametrize("segment", [3, TIME])
def test_memory_as_context(segment: int) -> None:
    """MAC, (21) to (25): every head asks its memory, attends, learns and answers; norm and map follow."""
    layer = block("hybrid/titans_hybrids.seq", "mac_layer", d=WIDTH, h=HEADS, segment=segment, p=2)
    weights, x = weights_of(layer), random(BATCH, TIME, WIDTH, seed=99)
    given = {name: mapped(x, weights, name) for name in "qkvr"} | numbers(x, weights, TITANS)
    given |= {"q": turned(given["q"]), "k": turned(given["k"]), "r": of_length_1(given["r"])}

    def fixed(weights: Weights, head: int) -> dict[str, object]:
        own = {name: weights[name][head].numpy() for name in ("pk", "pv", "context", "key", "query")}
        return {**own, "segment": segment}

    y = rms(recalled(given, pairs.memory_as_context, weights, fixed), weights["rms_norm.weight"])
    want = torch.einsum("bthm,dhm->btd", y, weights["out.weight"])
    close(apply_model(layer, x, weights), want, TOLERANCE)


# --- other attention ---


@pytest.mark.parametrize("length", [0, 20])
def test_sigmoid_attention(length: int) -> None:
    """The bias is minus the logarithm of a length: a given one, or that of the past."""
    layer = block("attention/sigmoid.seq", "sigmoid_layer", d=WIDTH, h=HEADS, length=length)
    weights, x = weights_of(layer), random(BATCH, TIME, WIDTH, seed=99)
    given = {name: mapped(x, weights, name) for name in "qkv"}
    given |= {name: turned(given[name]) for name in "qk"}
    past = torch.arange(1, TIME + 1, dtype=torch.float64)
    lengths = torch.full_like(past, length) if length else past
    given["b"] = -lengths.log()[:, None].expand(BATCH, TIME, HEADS)
    y = recalled(given, pairs.sigmoid_attention, weights, lambda weights, head: {})
    want = torch.einsum("bthm,dhm->btd", y, weights["out.weight"])
    close(apply_model(layer, x, weights), want, TOLERANCE)


def test_block_recurrence() -> None:
    """Tokens attend to a window with places, and to the state with queries of their own and without."""
    span = 4
    layer = block("attention/block_recurrent.seq", "recurrent_layer", d=WIDTH, h=HEADS, span=span, slot=3)
    weights, x = weights_of(layer), random(BATCH, TIME, WIDTH, seed=99)
    given = {name: mapped(x, weights, name) for name in "qkv"}
    placed = {**given, "q": turned(given["q"]), "k": turned(given["k"])}
    none = {"pk": np.zeros((0, KEY)), "pv": np.zeros((0, KEY)), "window": span}
    near = recalled(placed, pairs.persistent, weights, lambda weights, head: none)
    asked = {"q": mapped(x, weights, "cross"), "k": given["k"], "v": given["v"]}
    own = {name: w.numpy() for name, w in under("far.recurrent_cell.", weights).items()}
    cells = [
        pairs.recurrent_cell(**{name: each[row].numpy() for name, each in asked.items()}, **own, span=span)
        for row in range(BATCH)
    ]
    far = torch.from_numpy(np.stack(cells))
    want = torch.einsum("bthm,dhm->btd", near, weights["out_near.weight"])
    want = want + torch.einsum("bthm,dhm->btd", far, weights["out_far.weight"])
    close(apply_model(layer, x, weights), want, TOLERANCE)
