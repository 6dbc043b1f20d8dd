"""The field's rules against one another: what a rule becomes where its own idea is switched off."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from seqc.passes.schedule import schedule
from tests.parity.specs import apply, close, random, rule, written

B, T, N, M = 2, 13, 4, 3


def pairs() -> dict[str, Tensor]:
    key = normalize(random(B, T, N, seed=2), dim=-1)
    return {"q": random(B, T, N, seed=1), "k": key, "v": random(B, T, M, seed=3)}


def gates() -> dict[str, Tensor]:
    return {"alpha": random(B, T, seed=4).sigmoid(), "beta": random(B, T, seed=5).sigmoid()}


def gated_delta(inputs: Mapping[str, Tensor]) -> Tensor:
    return apply(rule("delta/gated_delta.seq", "gated_delta", n=N, m=M), inputs)


def test_comba_that_removes_by_the_written_key_is_gated_delta() -> None:
    given = {**pairs(), **gates()}
    mine = {**given, "p": given["k"]}
    close(apply(rule("delta/comba.seq", "comba", n=N, m=M), mine), gated_delta(given))


def test_gdn2_with_equal_gates_is_kda() -> None:
    given, beta = pairs(), gates()["beta"]
    alpha = random(B, T, N, seed=4).sigmoid()
    want = apply(rule("delta/kda.seq", "kda", n=N, m=M), {**given, "alpha": alpha, "beta": beta})
    both = {"erase": beta[..., None].expand(B, T, N), "write": beta[..., None].expand(B, T, M)}
    close(apply(rule("delta/gdn2.seq", "gdn2", n=N, m=M), {**given, "alpha": alpha, **both}), want)


def test_a_preconditioner_without_range_is_gated_delta() -> None:
    given = {**pairs(), **gates()}
    others = {"fade": random(B, T, seed=6).sigmoid(), "rate": random(B, T, seed=7).sigmoid()}
    mine = {**given, **others, "centre": random(B, T, seed=8)}
    ours = rule("delta/preconditioned_delta.seq", "preconditioned_delta", n=N, m=M, range=1)
    close(apply(ours, mine), gated_delta(given))


def test_momentum_that_forgets_at_once_is_gated_delta() -> None:
    given = {**pairs(), **gates()}
    read = {"p": given["alpha"][..., None] * given["k"]}
    mine = {
        **given,
        **read,
        "mu": torch.zeros(B, T, dtype=torch.float64),
        "eta": torch.ones(B, T, dtype=torch.float64),
    }
    close(apply(rule("delta/momentum_delta.seq", "momentum_delta", n=N, m=M), mine), gated_delta(given))


def test_gate_loop_that_does_not_turn_is_gla() -> None:
    given, alpha = pairs(), random(B, T, N, seed=4).sigmoid()
    want = apply(rule("linear/gla.seq", "gla", n=N, m=M), {**given, "alpha": alpha})
    ours = rule("complex/gateloop.seq", "gate_loop", n=N, m=M)
    close(apply(ours, {**given, "size": alpha, "angle": torch.zeros(B, T, N, dtype=torch.float64)}), want)


GATED_RNN = """
rule gated(x[d]; c, m) {
    param  left[c, d] = 0
    param  right[c, d] = 0
    param  gate[c, d] = 0
    param  out[m, c] = 0
    state  h[c] = 0
    h'     = h + sum[d](left * x) * sum[d](right * x)
    return sum[c](out * h' * sum[d](gate * x))
}
"""


def test_a_gated_diagonal_network_can_be_linear_attention() -> None:
    """Zucchet et al. (2309.01775): a unit for every pair of a key's and a value's entry; gates in and out multiply."""
    ours = written(GATED_RNN, d=5, c=N * M, m=M)
    assert schedule(ours).modes[0] == "scan"
    x = random(B, T, 5, seed=1)
    q, k, v = (random(rows, 5, seed=seed) for seed, rows in ((2, N), (3, N), (4, M)))
    weights = {
        "left": k.repeat_interleave(M, 0),
        "gate": q.repeat_interleave(M, 0),
        "right": v.repeat(N, 1),
        "out": torch.eye(M, dtype=torch.float64).repeat(1, N),
    }
    memory = rule("linear/linear_attention.seq", "linear_attention", n=N, m=M)
    close(apply(ours, {"x": x}, weights), apply(memory, {"q": x @ q.T, "k": x @ k.T, "v": x @ v.T}))
