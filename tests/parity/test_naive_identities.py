"""Identities of memories that learn, of work in parts that are put together afterwards, and of depth that is reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import pytest
import torch
from torch import Tensor

from seqc.bundled import folder
from seqc.ir.program import Model
from seqc.oracle import parameter_table, run_recurrence
from seqc.spec import loads
from tests.parity.specs import apply, apply_model, close, model, random, rule, written

BATCH, TIME, KEY, VALUE = 2, 12, 4, 3
WIDTHS = {"n": KEY, "m": VALUE}


def tokens(*axes: int, seed: int) -> Tensor:
    return random(BATCH, TIME, *axes, seed=seed)


def gate(*axes: int, seed: int = 9) -> Tensor:
    return tokens(*axes, seed=seed).sigmoid()


Q, K, V = tokens(KEY, seed=1), tokens(KEY, seed=2), tokens(VALUE, seed=3)
QKV = {"q": Q, "k": K, "v": V}
ONES = torch.ones(BATCH, TIME, dtype=torch.float64)


# --- 10: the Omega rule between the delta rule and MesaNet ------------------------------------------------------------


def test_omega_with_a_window_of_one_token_is_the_delta_rule() -> None:
    """Each token weighs g of its own, which multiplies the rate."""
    given = {**QKV, "g": gate(seed=7), "eta": gate(seed=8)}
    omega = rule("deep/omeganet.seq", "omega", f=KEY, m=VALUE, window=1)
    delta = rule("delta/deltanet.seq", "delta", None, **WIDTHS)
    close(apply(omega, {**given, "alpha": ONES}), apply(delta, {**QKV, "beta": given["g"] * given["eta"]}))


def test_the_solution_of_mesa_is_where_omega_over_all_tokens_stands_still() -> None:
    """MesaNet weighs tokens by beta and forgets none; its ridge is too small to show."""
    beta, answers = 0.1 + 0.8 * gate(seed=7), []
    mesa = rule("deep/mesanet.seq", "mesa", None, **WIDTHS, steps=16, floor=0)
    small = torch.full((BATCH, TIME, KEY), -25.0, dtype=torch.float64)  # the ridge is its softplus, 1e-11
    for unit in torch.eye(KEY, dtype=torch.float64):
        asked = {**QKV, "q": unit.expand(BATCH, TIME, KEY), "b": torch.logit(beta), "g": ONES, "l": small}
        answers.append(apply(mesa, asked)[:, -1])
    solution = torch.stack(answers, 2)  # [batch, m, n]
    omega = rule("deep/omeganet.seq", "omega", f=KEY, m=VALUE, window=TIME)
    last = torch.nn.functional.one_hot(torch.tensor(TIME - 1), TIME).double().expand(BATCH, TIME)
    given = {**QKV, "alpha": ONES, "g": beta, "eta": last}
    _, begun = run_recurrence(omega, {name: x[:, :1] for name, x in given.items()}, {})
    rest = {name: x[:, 1:] for name, x in given.items()}
    for start, least, most in ((solution, 0, 1e-7), (0 * solution, 0.1, torch.inf)):
        _, after = run_recurrence(omega, rest, {}, {**begun, "S": start})
        assert least <= float((after["S"] - start).abs().max()) <= most


# --- 11: a TTT memory without its norm -------------------------------------------------------------------------------

RESIDUAL = """
rule residual(q[n], k[n], v[m], rate; m = n, c = 1) {
    memory    W: n -> m = mlp(depth = 1, residual = true)
    objective 0.5 * sumsq(W(k) - v)
    learner   gd(rate = rate, every = c)
    return    W'(q)
}
"""


def test_ttt_without_a_norm_is_the_delta_rule_on_what_the_residual_leaves() -> None:
    v, rate = tokens(KEY, seed=3), 0.3 * gate()
    start = random(KEY, KEY, seed=4)
    got = apply(written(RESIDUAL, n=KEY), {"q": Q, "k": K, "v": v, "rate": rate}, {"W.0.weight": start})
    delta = rule("delta/deltanet.seq", "delta", None, n=KEY, m=KEY)
    begun = {"S": start.expand(BATCH, KEY, KEY)}
    (read,), _ = run_recurrence(delta, {"q": Q, "k": K, "v": v - K, "beta": rate}, {}, begun)
    close(got, Q + read)


@pytest.mark.parametrize("c", [3, 5])
def test_a_mini_batch_of_ttt_adds_up_gradients_at_its_start(c: int) -> None:
    v, rate = tokens(KEY, seed=3), 0.3 * gate()
    start = random(KEY, KEY, seed=4)
    given = {"q": Q, "k": K, "v": v, "rate": rate}
    got = apply(written(RESIDUAL, n=KEY, c=c), given, {"W.0.weight": start})
    memory, parts = start.expand(BATCH, KEY, KEY), []
    for first in range(0, TIME, c):
        q, k, r = (x[:, first : first + c] for x in (Q, K, rate))
        error = r[..., None] * (k @ memory.mT + k - v[:, first : first + c])
        earlier = torch.tril(q @ k.mT)
        parts.append(q + q @ memory.mT - earlier @ error)
        memory = memory - error.mT @ k
    close(got, torch.cat(parts, 1))


# --- 15: a sequence divided among machines ---------------------------------------------------------------------------

GATES: Mapping[str, dict[str, Tensor]] = {
    "retain": {"gamma": gate()},
    "gla": {"alpha": gate(KEY)},
    "gated_delta": {"alpha": gate(), "beta": 0.3 * gate(seed=8)},
    "kda": {"alpha": gate(KEY), "beta": 0.3 * gate(seed=8)},
}
FILES = {
    "retain": "linear/retnet.seq",
    "gla": "linear/gla.seq",
    "gated_delta": "delta/gated_delta.seq",
    "kda": "delta/kda.seq",
}


@pytest.mark.parametrize("name", FILES)
def test_states_of_parts_add_up_to_the_state_of_the_whole(name: str) -> None:
    """Every part begins at zero; what it does to a state it is handed is measured without values (LASP-2)."""
    ours = rule(FILES[name], name, None, **WIDTHS)
    given = {**QKV, **GATES[name]}
    (want,), last = run_recurrence(ours, given, {})
    state = torch.zeros_like(last["S"])
    for first in range(0, TIME, 4):
        part = {leaf: x[:, first : first + 4] for leaf, x in given.items()}
        silent = {**part, "v": torch.zeros_like(part["v"])}
        (inside,), own = run_recurrence(ours, part, {})
        (across,), handed = run_recurrence(ours, silent, {}, {"S": state})
        close(inside + across, want[:, first : first + 4])
        state = own["S"] + handed["S"]
    close(state, last["S"])


def test_softmax_over_parts_is_put_together_by_log_sum_exp() -> None:
    """Ring attention: each part has its own maximum, sum and weighted sum."""
    aaren = rule("attention/aaren.seq", m=VALUE)
    given = {"score": 300 * tokens(seed=1), "v": V}
    _, want = run_recurrence(aaren, given, {})
    parts = [run_recurrence(aaren, {n: x[:, i : i + 4] for n, x in given.items()}, {})[1] for i in (8, 0, 4)]
    top = torch.stack([part["m"] for part in parts]).amax(0)
    shares = [torch.exp(part["m"] - top) for part in parts]
    close(top, want["m"])
    for name in "uw":
        terms = [
            share.reshape(BATCH, *[1] * (part[name].dim() - 1)) * part[name]
            for share, part in zip(shares, parts, strict=True)
        ]
        close(reduce(torch.add, terms), want[name])


# --- 16: all tokens at once, again and again --------------------------------------------------------------------------


def test_as_many_sweeps_as_tokens_are_the_sequence() -> None:
    """Jacobi: every token steps from what the sweep before made of its past; sweep s has the first s right."""
    gru = rule("nonlinear/gru.seq", "gru", d=KEY)
    x = {leaf.name: tokens(KEY, seed=i)[:1] for i, leaf in enumerate(gru.inputs)}
    weights = {
        p.name: random(*(gru.sizes[axis] for axis in p.axes), seed=20 + i)
        for i, p in enumerate(gru.parameters)
    }
    want = apply(gru, x, weights)[0]
    alone = {name: each.transpose(0, 1) for name, each in x.items()}
    states = torch.zeros(TIME, KEY, dtype=torch.float64)
    for sweep in range(1, TIME + 1):
        before = torch.cat([torch.zeros(1, KEY, dtype=torch.float64), states[:-1]])
        states = run_recurrence(gru, alone, weights, {"h": before})[1]["h"]
        close(states[:sweep], want[:sweep])
        assert sweep == TIME or not torch.allclose(states, want, rtol=0, atol=1e-12)


# --- 21: reused layers are layers with the same weights ---------------------------------------------------------------

SMALL = {"vocab": 7, "d": 4, "h": 2, "hidden": 3}
WORDS = torch.randint(7, (BATCH, TIME), generator=torch.Generator().manual_seed(0))


def weights_of(whole: Model) -> dict[str, Tensor]:
    return {name: random(*p.shape, seed=i) for i, (name, p) in enumerate(parameter_table(whole).items())}


@pytest.mark.parametrize(("first", "map_of_layers"), [(1, [0, 1, 2]), (4, [0, 0, 0, 0, 1, 1, 2])])
def test_a_reuse_map_is_a_deeper_transformer(first: int, map_of_layers: list[int]) -> None:
    """A map of ones is the transformer itself."""
    reused = model("hybrid/reuse.seq", None, **SMALL, layers=3, first=first)
    weights = weights_of(reused)
    copied = {name: w for name, w in weights.items() if not name.startswith("layers.")}
    for place, layer in enumerate(map_of_layers):
        own = f"layers.{layer}.repeat."
        copied |= {
            name.replace(own, f"layers.{place}."): w for name, w in weights.items() if name.startswith(own)
        }
    deeper = model("attention/llama.seq", None, **SMALL, layers=len(map_of_layers), eps=1e-6)
    close(apply_model(reused, WORDS, weights), apply_model(deeper, WORDS, copied))


def test_huginn_is_a_stack_whose_core_has_the_same_weights_at_every_step() -> None:
    sizes = {**SMALL, "prelude": 1, "core": 1, "coda": 1, "steps": 3}
    text = (folder("specs") / "hybrid/huginn.seq").read_text(encoding="utf-8")
    stacked = loads(text.replace("repeat steps shared", "repeat steps")).model(**sizes).model
    tied = model("hybrid/huginn.seq", None, **sizes)
    weights = weights_of(tied)
    copied = {name: w for name, w in weights.items() if not name.startswith("steps.")}
    for step in range(3):
        copied |= {
            name.replace("steps.", f"steps.{step}."): w
            for name, w in weights.items()
            if name.startswith("steps.")
        }
    assert copied.keys() == parameter_table(stacked).keys()
    close(apply_model(tied, WORDS, weights), apply_model(stacked, WORDS, copied))


# --- 22: the filter as a prefix ---------------------------------------------------------------------------------------

KALMAN = """
rule kalman(y, move, drift, noise) {
    state mean = 0.5
    state spread = 2
    let   ahead = move * mean
    let   wide = move * move * spread + drift
    let   gain = wide / (wide + noise)
    mean' = ahead + gain * (y - ahead)
    spread' = (1 - gain) * wide
    return mean'
}
"""


@dataclass(frozen=True)
class Stretch:
    """What tokens tell: of the state behind them `a x + b` with variance c, of the state before them eta and j."""

    a: Tensor
    b: Tensor
    c: Tensor
    eta: Tensor
    j: Tensor


def followed(earlier: Stretch, later: Stretch) -> Stretch:
    """The associative operation of Särkkä and García-Fernández (1905.13002, lemma 8), of one dimension."""
    one, two = earlier, later
    share = 1 / (1 + one.c * two.j)
    return Stretch(
        a=two.a * share * one.a,
        b=two.a * share * (one.b + one.c * two.eta) + two.b,
        c=two.a * share * one.c * two.a + two.c,
        eta=one.a * share * (two.eta - two.j * one.b) + one.eta,
        j=one.a * share * two.j * one.a + one.j,
    )


def combined(stretches: list[Stretch]) -> Stretch:
    """As a balanced tree, so that the order of the operations is not that of time."""
    if len(stretches) == 1:
        return stretches[0]
    half = len(stretches) // 2
    return followed(combined(stretches[:half]), combined(stretches[half:]))


def test_the_prefixes_of_a_kalman_filter_are_the_filter() -> None:
    y, move = tokens(seed=1), 0.5 + gate(seed=2)
    drift, noise = 0.1 + gate(seed=3), 0.1 + gate(seed=4)
    given = {"y": y, "move": move, "drift": drift, "noise": noise}
    zero = torch.zeros(BATCH, dtype=torch.float64)
    stretches = [Stretch(zero, zero + 0.5, zero + 2, zero, zero)]
    want = []
    for t in range(TIME):
        f, q, r = move[:, t], drift[:, t], noise[:, t]
        gain = q / (q + r)
        told = f / (q + r)
        stretches.append(Stretch((1 - gain) * f, gain * y[:, t], (1 - gain) * q, told * y[:, t], told * f))
        want.append(combined(stretches).b)
    close(apply(written(KALMAN), given), torch.stack(want, 1))
