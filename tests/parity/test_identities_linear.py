"""Identities between rules: two texts that ought to mean the same, and numbers that follow from neither text."""

from __future__ import annotations

import torch
from torch import Tensor

from seqc.oracle import run_recurrence
from tests.parity.specs import apply, close, random, rule

B, T, N, M = 2, 13, 4, 3
WIDTHS = {"n": N, "m": M}


def tokens(*axes: int, seed: int) -> Tensor:
    return random(B, T, *axes, seed=seed)


def gate(*axes: int, seed: int = 9) -> Tensor:
    return tokens(*axes, seed=seed).sigmoid()


def same(x: Tensor, axis: int) -> Tensor:
    """A scalar gate, as a gate of equal channels."""
    return x[..., None].expand(*x.shape, axis)


Q, K, V = tokens(N, seed=1), tokens(N, seed=2), tokens(M, seed=3)
UNIT = torch.nn.functional.normalize(K, dim=-1)
QKV = {"q": Q, "k": K, "v": V}
ONES = torch.ones(B, T, dtype=torch.float64)

LINEAR = rule("linear/linear_attention.seq", "linear_attention", None, **WIDTHS)
RETNET = rule("linear/retnet.seq", "retain", None, **WIDTHS)
GLA = rule("linear/gla.seq", "gla", None, **WIDTHS)
DELTA = rule("delta/deltanet.seq", "delta", None, **WIDTHS)
GATED_DELTA = rule("delta/gated_delta.seq", "gated_delta", None, **WIDTHS)
KDA = rule("delta/kda.seq", "kda", None, **WIDTHS)
IMPLICIT = rule("gated/longhorn.seq", "longhorn_exact", n=N, d=M)


# --- 1: one gate for all channels is RetNet's, and a gate of 1 is none -----------------------------------------------


def test_gla_with_one_gate_is_retention() -> None:
    alpha = gate()
    close(apply(GLA, {**QKV, "alpha": same(alpha, N)}), apply(RETNET, {**QKV, "gamma": alpha}))


def test_retention_that_forgets_nothing_is_linear_attention() -> None:
    close(apply(RETNET, {**QKV, "gamma": ONES}), apply(LINEAR, QKV))
    slope = gate()
    lightning = rule("linear/lightning.seq", "lightning", None, **WIDTHS)
    close(apply(lightning, {**QKV, "slope": slope}), apply(RETNET, {**QKV, "gamma": torch.exp(-slope)}))


# --- 2: the delta rules are cases of each other, and what they are for -----------------------------------------------


def test_kda_with_one_gate_is_gated_delta() -> None:
    given = {**QKV, "k": UNIT, "beta": gate(seed=8)}
    alpha = gate()
    close(apply(KDA, {**given, "alpha": same(alpha, N)}), apply(GATED_DELTA, {**given, "alpha": alpha}))


def test_gated_delta_that_forgets_nothing_is_delta() -> None:
    given = {**QKV, "k": UNIT, "beta": gate(seed=8)}
    close(apply(GATED_DELTA, {**given, "alpha": ONES}), apply(DELTA, given))


def test_a_gate_is_no_delta_rule_without_it() -> None:
    given = {**QKV, "k": UNIT, "beta": gate(seed=8)}
    difference = apply(GATED_DELTA, {**given, "alpha": gate()}) - apply(DELTA, given)
    assert float(difference.norm()) > 0.1


def test_delta_with_rate_1_stores_exactly() -> None:
    close(apply(DELTA, {"q": UNIT, "k": UNIT, "v": V, "beta": ONES}), V)


def test_delta_on_orthonormal_keys_is_hebbian() -> None:
    keys = torch.linalg.qr(random(B, N, N)).Q
    given = {"q": Q[:, :N], "k": keys, "v": V[:, :N]}
    close(apply(DELTA, {**given, "beta": ONES[:, :N]}), apply(LINEAR, given))


# --- 3: the dictionary of state spaces -------------------------------------------------------------------------------


def test_mamba_2_is_retention_of_dt_x() -> None:
    mamba2 = rule("linear/mamba2.seq", "mamba2", n=N, p=M)
    dt, a = gate(), -gate(seed=8)
    got = apply(mamba2, {"x": V, "B": K, "C": Q, "dt": dt, "a": a})
    close(got, apply(RETNET, {"q": Q, "k": K, "v": dt[..., None] * V, "gamma": torch.exp(dt * a)}))


def test_mamba_with_one_gate_is_a_head_of_mamba_2() -> None:
    mamba, mamba2 = (
        rule("gated/mamba.seq", "selective_scan", n=N, d=M),
        rule("linear/mamba2.seq", "mamba2", n=N, p=M),
    )
    dt, skip = gate(), random(M, seed=7)
    log_a = torch.tensor(0.3, dtype=torch.float64)
    weights = {"A_log": log_a.expand(M, N), "D": skip}
    got = apply(mamba, {"x": V, "dt": same(dt, M), "B": K, "C": Q}, weights)
    want = apply(mamba2, {"x": V, "B": K, "C": Q, "dt": dt, "a": -torch.exp(log_a) * ONES})
    close(got, want + skip * V)


def test_the_exact_discretisation_tends_to_the_short_one() -> None:
    given = {"x": V, "dt": 1e-6 * gate(M), "B": K, "C": Q}
    weights = {"A_log": random(M, N), "D": random(M)}
    got = [
        apply(rule("gated/mamba.seq", "selective_scan", n=N, d=M, exact=e), given, weights) for e in (0, 1)
    ]
    close(got[1], got[0], 1e-4)
    assert not torch.equal(got[0], got[1])


# --- 4: coupled gates ------------------------------------------------------------------------------------------------


def test_hgrn2_is_gla_with_the_key_left_free() -> None:
    f = gate(N)
    hgrn2 = rule("linear/hgrn2.seq", "hgrn2", None, **WIDTHS)
    close(apply(hgrn2, {"q": Q, "f": f, "i": V}), apply(GLA, {"q": Q, "k": 1 - f, "v": V, "alpha": f}))


def test_mingru_minlstm_and_hgrn_are_one_rule() -> None:
    hgrn, mingru, minlstm = (rule(f"gated/{name}.seq", name, d=M) for name in ("hgrn", "mingru", "minlstm"))
    f, i = gate(M), gate(M, seed=8)
    want = apply(hgrn, {"f": f / (f + i), "c": V})
    close(apply(mingru, {"z": i / (f + i), "c": V}), want)
    close(apply(minlstm, {"f": f.logit(), "i": i.logit(), "c": V}), want)


def test_a_tied_average_is_mingru_with_a_constant_gate() -> None:
    ema = rule("gated/mega_ema.seq", "mega_ema", d=M, n=1)
    alpha, large = random(M, 1, seed=7), torch.full((M, 1), 60.0, dtype=torch.float64)
    one = torch.ones(M, 1, dtype=torch.float64)
    weights = {
        "alpha": alpha,
        "delta": large,
        "beta": one,
        "gamma": one,
        "omega": torch.zeros(M, dtype=torch.float64),
    }
    want = apply(
        rule("gated/mingru.seq", "mingru", d=M), {"z": alpha.sigmoid()[:, 0].expand(B, T, M), "c": V}
    )
    close(apply(ema, {"x": V}, weights), want)


def test_an_unturned_hgrn_is_real() -> None:
    turning, real = rule("gated/hgrn.seq", "hgrn_complex", d=M), rule("gated/hgrn.seq", "hgrn", d=M)
    f = gate(M)
    weights = {"theta": torch.zeros(M, dtype=torch.float64)}
    (re, im), _ = run_recurrence(turning, {"f": f, "re": V, "im": -V}, weights)
    close(re, apply(real, {"f": f, "c": V}))
    close(im, -re)


# --- 6: the implicit step --------------------------------------------------------------------------------------------


def test_the_implicit_step_solves_its_equation() -> None:
    """(I + beta k k) S' = S + beta v k, for every channel of the value with its own beta."""
    beta = 3 * gate(M)
    memory = torch.zeros(B, M, N, dtype=torch.float64)
    want: list[Tensor] = []
    for t in range(T):
        k, v, rate = K[:, t, None, :], V[:, t, :, None], beta[:, t, :, None, None]
        system = torch.eye(N, dtype=torch.float64) + rate * k[..., None] * k[..., None, :]
        memory = torch.linalg.solve(system, memory + rate[..., 0] * v * k)
        want.append(torch.einsum("bmn,bn->bm", memory, Q[:, t]))
    close(apply(IMPLICIT, {"q": Q, "k": K, "x": V, "beta": beta}), torch.stack(want, 1))


def test_an_endless_rate_projects() -> None:
    """The nearest memory that answers the key exactly; with keys of length 1, the delta rule's."""
    beta = torch.full((B, T, M), 1e12, dtype=torch.float64)
    close(apply(IMPLICIT, {"q": K, "k": K, "x": V, "beta": beta}), V, 1e-9)
    got = apply(IMPLICIT, {"q": Q, "k": UNIT, "x": V, "beta": beta})
    close(got, apply(DELTA, {"q": Q, "k": UNIT, "v": V, "beta": ONES}), 1e-9)


def test_longhorn_is_its_exact_step_where_keys_have_one_entry() -> None:
    """The diagonal of k k is all of it then."""
    keys = torch.nn.functional.one_hot(torch.arange(T) % N, N).double() * tokens(1, seed=4)
    given = {"q": Q, "k": keys, "x": V, "beta": gate(M)}
    longhorn = rule("gated/longhorn.seq", "longhorn", n=N, d=M)
    close(apply(longhorn, given), apply(IMPLICIT, given))
    assert float((apply(longhorn, {**given, "k": K}) - apply(IMPLICIT, {**given, "k": K})).norm()) > 0.1


# --- 13: products of reflections -------------------------------------------------------------------------------------


def test_a_product_of_rank_one_steps_is_identity_minus_a_low_rank_matrix() -> None:
    """prod (I - b k k), later factors on the left, = I - K W with W = (I + tril(b K K))^-1 b K."""
    beta = gate()
    for row in range(B):
        keys, rates = K[row], beta[row]
        product = torch.eye(N, dtype=torch.float64)
        for k, b in zip(keys, rates, strict=True):
            product = (torch.eye(N, dtype=torch.float64) - b * k[:, None] * k) @ product
        system = torch.eye(T, dtype=torch.float64) + torch.tril(rates[:, None] * (keys @ keys.mT), -1)
        close(
            torch.eye(N, dtype=torch.float64) - keys.mT @ torch.linalg.solve(system, rates[:, None] * keys),
            product,
        )
        # The delta rule without values applies this product to the memory it starts from.
        start = random(1, M, N, seed=5)
        given = {
            "q": Q[row : row + 1],
            "k": K[row : row + 1],
            "v": torch.zeros(1, T, M),
            "beta": beta[row : row + 1],
        }
        _, state = run_recurrence(DELTA, given, {}, {"S": start})
        close(state["S"], start @ product.mT)


# --- 14: a state passed on -------------------------------------------------------------------------------------------


def test_a_state_passed_on_is_the_whole_sequence() -> None:
    given = {**QKV, "k": UNIT, "alpha": gate(N), "beta": gate(seed=8)}
    want, last = run_recurrence(KDA, given, {})
    for stop in (1, 6, T - 1):
        _, state = run_recurrence(KDA, {name: x[:, :stop] for name, x in given.items()}, {})
        got, after = run_recurrence(KDA, {name: x[:, stop:] for name, x in given.items()}, {}, state)
        close(got[0], want[0][:, stop:])
        close(after["S"], last["S"])


# --- 20: RWKV-7 ------------------------------------------------------------------------------------------------------


def test_rwkv_7_that_removes_nothing_is_gla() -> None:
    rwkv7 = rule("delta/rwkv7.seq", "rwkv7", None, **WIDTHS)
    w = gate(N)
    given = {"r": Q, "w": w, "k": K, "v": V, "kappa": UNIT}
    close(apply(rwkv7, {**given, "a": torch.zeros(B, T, N)}), apply(GLA, {**QKV, "alpha": w}))


def test_rwkv_7_with_one_rate_and_one_key_is_delta() -> None:
    rwkv7 = rule("delta/rwkv7.seq", "rwkv7", None, **WIDTHS)
    beta = gate()
    got = apply(
        rwkv7,
        {"r": Q, "w": same(ONES, N), "k": beta[..., None] * UNIT, "v": V, "kappa": UNIT, "a": same(beta, N)},
    )
    close(got, apply(DELTA, {"q": Q, "k": UNIT, "v": V, "beta": beta}))
