"""Places, orders and experts against PyTorch's own `gather`, `topk` and `sort`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqc.oracle import parameter_table
from seqc.spec import loads
from tests.parity.specs import apply, apply_model, block, close, random, written

BATCH, TIME = 2, 5

LOOK = "rule look(x[h, e], i[h, f]; e, f) { return at[e](x, i) }"
SORT = """
rule order(x[e]; e, f = e) {
    let place[f] = sum[e](where(rank(x) == index[f], index[e], 0))
    return at[e](x, place)
}
"""
ROUTED = """
block routed(x[d]; experts, k, hidden) {{
    return {name}(x, experts, k, hidden) as moe
}}
"""


def test_each_row_is_looked_up_by_its_own_places() -> None:
    look = written(LOOK, h=3, e=4, f=6)
    x = random(BATCH, TIME, 3, 4)
    places = torch.randint(4, (BATCH, TIME, 3, 6), generator=torch.Generator().manual_seed(0))
    close(apply(look, {"x": x, "i": places.double()}), x.gather(-1, places))


def test_outside_there_is_nothing() -> None:
    look = written(LOOK, h=1, e=2, f=5)
    places = torch.tensor([-1.0, 0.0, 1.5, 2.0, torch.inf], dtype=torch.float64).reshape(1, 1, 1, 5)
    x = torch.tensor([3.0, 7.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    want = torch.tensor([0.0, 3.0, 7.0, 0.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 5)
    close(apply(look, {"x": x, "i": places}), want, 0)


def test_the_gradient_of_a_look_up_goes_to_the_entries_that_were_seen() -> None:
    module = loads(LOOK).rule(h=3, e=4, f=6).torch().double()
    x = random(BATCH, TIME, 3, 4).requires_grad_()
    places = torch.randint(4, (BATCH, TIME, 3, 6), generator=torch.Generator().manual_seed(1))
    weight = random(BATCH, TIME, 3, 6, seed=2)
    y, _ = module(x=x, i=places.double())
    (got,) = torch.autograd.grad((y * weight).sum(), x)
    (want,) = torch.autograd.grad((x.gather(-1, places) * weight).sum(), x)
    close(got, want)


def test_a_gradient_that_is_learned_from_is_sent_to_its_place() -> None:
    """One step on ½ (S(k)[i] - v)², from zero, writes v k into row i and nothing elsewhere."""
    rule = """
    rule choose(q[n], k[n], v, i; m = 4) {
        memory    S: n -> m
        objective 0.5 * sumsq(at[m](S(k), i) - v)
        learner   gd(rate = 1)
        return    S'(q)
    }
    """
    x = {"q": random(BATCH, 1, 3), "k": random(BATCH, 1, 3, seed=1), "v": random(BATCH, 1, seed=2)}
    x["i"] = torch.tensor([[2.0], [0.0]], dtype=torch.float64)
    row = F.one_hot(x["i"].long(), 4) * x["v"][..., None]
    close(apply(written(rule, n=3), x), row * (x["q"] * x["k"]).sum(-1, keepdim=True))


def test_ranks_sort() -> None:
    x = random(BATCH, TIME, 7)
    close(apply(written(SORT, e=7), {"x": x}), x.sort(-1, descending=True).values)


def test_of_equal_entries_the_first_comes_first() -> None:
    x = torch.tensor([1.0, 2.0, 2.0, 0.0, 1.0], dtype=torch.float64).reshape(1, 1, 5)
    want = torch.tensor([2.0, 0.0, 1.0, 4.0, 3.0], dtype=torch.float64).reshape(1, 1, 5)
    close(apply(written("rule place(x[e]) { return rank(x) }", e=5), {"x": x}), want, 0)


def test_a_rank_along_a_store_counts_what_is_seen() -> None:
    text = """
    rule best(q[n], k[n], v[m]; top = 2) {
        store  K[s, n] = k
        store  V[s, m] = v
        let    score = sum[n](q * K')
        return sum[s](softmax[s](where(rank[s](score) < top, score, -1e30)) * V')
    }
    """
    q, k, v = (random(BATCH, TIME, 3, seed=seed) for seed in range(3))
    score = (q @ k.mT).masked_fill(torch.ones(TIME, TIME).triu(1).bool(), -torch.inf)
    least = score.topk(2, -1).values[..., -1:]
    want = score.masked_fill(score < least, -torch.inf).softmax(-1) @ v
    close(apply(written(text, n=3, m=3), {"q": q, "k": k, "v": v}), want)


@pytest.mark.parametrize("name", ["moe", "sigma_moe"])
def test_experts_are_the_best_few(name: str) -> None:
    d, count, k, hidden = 6, 5, 2, 3
    whole = loads(ROUTED.format(name=name)).block("routed", d=d, experts=count, k=k, hidden=hidden).model
    table = parameter_table(whole)
    weights = {key: random(*entry.shape, seed=seed) for seed, (key, entry) in enumerate(table.items())}
    x = random(BATCH, TIME, d, seed=9)
    want = torch.zeros_like(x)
    scores = x @ weights["moe.router.weight"].mT
    scores = scores.softmax(-1) if name == "moe" else scores.sigmoid()
    shares, chosen = scores.topk(k, -1)
    if name == "moe":
        shares = shares / shares.sum(-1, keepdim=True)
    for row, t, j in torch.cartesian_prod(torch.arange(BATCH), torch.arange(TIME), torch.arange(k)).tolist():
        expert = int(chosen[row, t, j])
        want[row, t] += shares[row, t, j] * run_expert(weights, expert, x[row, t], gated=name == "moe")
    close(apply_model(whole, {"x": x}, weights), want)


def run_expert(weights: dict[str, Tensor], expert: int, x: Tensor, gated: bool) -> Tensor:
    up = weights["moe.up.weight"][expert] @ x
    inner = F.silu(weights["moe.gate.weight"][expert] @ x) * up if gated else F.relu(up)
    return weights["moe.down.weight"][:, expert] @ inner


def test_a_product_key_memory_reads_the_best_of_all_pairs() -> None:
    """Taking the best of each half first loses nothing: compared with the best of all sums."""
    d, h, n, keys, k = 6, 2, 4, 3, 2
    whole = block("hybrid/sigma_moe.seq", "product_keys", d=d, h=h, keys=keys, k=k, n=n)
    table = parameter_table(whole)
    weights = {key: random(*entry.shape, seed=seed) for seed, (key, entry) in enumerate(table.items())}
    x = random(BATCH, TIME, d, seed=9)
    query = torch.einsum("btd,hnd->bthn", x, weights["query.weight"])
    norm = next(name.removesuffix(".weight") for name in weights if "norm" in name and "weight" in name)
    q = F.layer_norm(query, (n,), weights[f"{norm}.weight"], weights[f"{norm}.bias"], 1e-5)
    one = torch.einsum("bthc,hec->bthe", q[..., : n // 2], weights["left"])
    two = torch.einsum("bthc,hec->bthe", q[..., n // 2 :], weights["right"])
    sums, places = (one[..., :, None] + two[..., None, :]).flatten(-2).topk(k, -1)
    want = (sums.softmax(-1)[..., None] * weights["table"][places]).sum((2, 3))
    close(apply_model(whole, {"x": x}, weights), want)
