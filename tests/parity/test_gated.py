"""Rules whose gates see the token alone, against their sums over the past written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqc.oracle import initial_parameters, run_recurrence
from tests.parity.specs import apply, close, random, rule

B, T, D, N = 2, 11, 3, 4


def past(gates: Tensor, writes: Tensor) -> Tensor:
    """`h[t] = Σ_s writes[s] · Π_{s<j≤t} gates[j]`, each product taken anew."""
    rows: list[Tensor] = []
    for t in range(writes.shape[1]):
        terms = [writes[:, s] * gates[:, s + 1 : t + 1].prod(1) for s in range(t + 1)]
        rows.append(torch.stack(terms).sum(0))
    return torch.stack(rows, 1)


@pytest.mark.against("the sum over the past, written out")
def test_lru() -> None:
    lru = rule("gated/lru.seq", "lru", d=D, n=N, r_min=0.5, r_max=0.99)
    x, p = random(B, T, D), initial_parameters(lru, seed=1)
    radius = torch.exp(-torch.exp(p["nu"]))
    assert ((radius > 0.5) & (radius < 0.99)).all()
    close(torch.exp(p["gamma"]) ** 2 + radius**2, torch.ones(N, dtype=torch.float64))
    turn = torch.polar(radius, torch.exp(p["theta"]))
    writes = torch.exp(p["gamma"]) * (x.to(torch.complex128) @ torch.complex(p["B_re"], p["B_im"]).T)
    h = past(turn.expand(B, T, N), writes)
    want = (h @ torch.complex(p["C_re"], p["C_im"]).T).real + p["D"] * x
    close(apply(lru, {"x": x}, p), want)


@pytest.mark.against("the sum over the past, written out")
def test_complex_hgrn() -> None:
    hgrn = rule("gated/hgrn.seq", "hgrn_complex", d=D)
    f, re, im = random(B, T, D, seed=1).sigmoid(), random(B, T, D, seed=2), random(B, T, D, seed=3)
    theta = random(D, seed=4)
    turn = torch.polar(f, theta.expand(B, T, D))
    h = past(turn, (1 - f) * torch.complex(re, im))
    (real, imaginary), _ = run_recurrence(hgrn, {"f": f, "re": re, "im": im}, {"theta": theta})
    close(torch.complex(real, imaginary), h)


@pytest.mark.against("the sum over the past, written out")
def test_mega_average() -> None:
    mega = rule("gated/mega_ema.seq", "mega_ema", d=D, n=N)
    x, p = random(B, T, D), initial_parameters(mega, seed=1)
    rate = p["alpha"].sigmoid()
    h = past((1 - rate * p["delta"].sigmoid()).expand(B, T, D, N), rate * p["beta"] * x[..., None])
    close(apply(mega, {"x": x}, p), (p["gamma"] * h).sum(-1) / N**0.5 + p["omega"] * x)


@pytest.mark.against("a loop over the paper's equations")
def test_longhorn() -> None:
    q, k, x = random(B, T, N, seed=1), random(B, T, N, seed=2), random(B, T, D, seed=3)
    beta = random(B, T, D, seed=4).sigmoid()
    rate = (beta / (1 + beta * (k * k).sum(-1, keepdim=True)))[..., None]
    keys = k[:, :, None]
    assert ((1 - rate * keys**2 > 0) & (1 - rate * keys**2 <= 1)).all()
    h = past(1 - rate * keys**2, rate * x[..., None] * keys)
    ours = rule("gated/longhorn.seq", "longhorn", n=N, d=D)
    close(apply(ours, {"q": q, "k": k, "x": x, "beta": beta}), (h * q[:, :, None]).sum(-1))
