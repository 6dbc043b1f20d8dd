"""Fused loops of the target `cpu` beside the target `torch` and flash-linear-attention's naive forms.

Batch 1, 2,048 tokens, 8 heads of 64, fp32, one thread; all sides in turn in one process, medians of its processor
time.  A rival is the best of its naive forms, the chunked one where there is one.  A diagonal recurrence is compared
with the sum of two tensors into a third.  Freed memory is kept (`MALLOC_…`), or every large result would be paged in
anew on all sides.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import seqc
from seqc.backend import backend
from tests.parity.references import naive

T, H, D = 2048, 8, 64
RUNS = 7
KEPT = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
Inputs = dict[str, Tensor]
Run = Callable[[Inputs], Any]

DIAGONAL = "rule diagonal(a[d], b[d]) { state h[d] = 0\n h' = a * h + b\n return h' }"
MATRIX = """
rule matrix(q[n], k[n], v[m]{more}) {{
    state  S[m, n] = 0
    let    R  = {kept} * S
    S'     = {update}
    return sum[n](S' * q)
}}
"""
WRITE, CORRECT = "R + v * k", "R - beta * (sum[n](R * k) - v) * k"


def rule(more: str, kept: str, update: str) -> str:
    """A matrix memory."""
    return MATRIX.format(more=more, kept=kept, update=update)


RULES: dict[str, tuple[str, Run]] = {
    "retention": (
        rule("", "0.97", WRITE),
        lambda x: naive("retention/naive").naive_retention(*_heads(x, "qkv")),
    ),
    "one gate a head": (
        rule(", g", "g", WRITE),
        lambda x: naive("simple_gla/naive").naive_chunk_simple_gla(x["q"], x["k"], x["v"], x["log_g"])[0],
    ),
    "gated linear attention": (
        rule(", w[n]", "w", WRITE),
        lambda x: naive("gla/naive").naive_recurrent_gla(x["q"], x["k"], x["v"], x["log_w"])[0],
    ),
    "delta": (
        rule(", beta", "1", CORRECT),
        lambda x: naive("delta_rule/naive").delta_rule_chunkwise(
            *_heads(x, "qkv"), x["beta"].transpose(1, 2)
        )[0],
    ),
    "gated delta": (
        rule(", g, beta", "g", CORRECT),
        lambda x: naive("gated_delta_rule/naive").naive_chunk_gated_delta_rule(
            x["q"], x["k"], x["v"], beta=x["beta"], g=x["log_g"]
        )[0],
    ),
    "diagonal plus low rank": (
        rule(", w[n], a[n], b[n]", "w", "R + sum[n](S * a) * b + v * k"),
        lambda x: naive("generalized_delta_rule/dplr/naive").dplr_chunkwise(
            *_heads(x, "qkvab"), x["log_w"].transpose(1, 2)
        )[0],
    ),
}


def _heads(x: Inputs, names: str) -> list[Tensor]:
    return [x[name].transpose(1, 2) for name in names]


def inputs() -> Inputs:
    draw = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(1, T, H, *shape, generator=draw)

    k, w = some(D), torch.nn.functional.logsigmoid(some(D) + 3)
    k, g = k / k.norm(dim=-1, keepdim=True), torch.nn.functional.logsigmoid(some() + 3)
    found = {
        "q": some(D), "k": k, "v": some(D), "beta": some().sigmoid(), "log_g": g, "g": g.exp(), "log_w": w,
        "w": w.exp(), "a": -k, "b": 0.5 * k,
    }  # fmt: skip
    return {name: x.clone().requires_grad_() for name, x in found.items()}


def median(run: Callable[[], Any], runs: int = RUNS) -> float:
    """Milliseconds of processor time."""
    run()
    times: list[float] = []
    for _ in range(runs):
        start = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def measured(run: Run, given: Inputs, runs: int = RUNS) -> tuple[float, float]:
    """Without and with the gradient."""

    def forward() -> None:
        with torch.no_grad():
            run(given)

    return median(forward, runs), median(lambda: run(given).sum().backward(), runs)


def module(target: str, text: str, **sizes: int) -> Run:
    op: Any = getattr(backend(target), "module")(seqc.loads(text).rule(**sizes).program())  # noqa: B009
    names = [leaf.name for leaf in seqc.loads(text).rule(**sizes).recurrence.inputs]
    return lambda x: op(**{name: x[name] for name in names})[0]


def diagonal() -> None:
    size = (1, 4096, 1024)
    given = {"a": torch.rand(size).requires_grad_(), "b": torch.randn(size).requires_grad_()}
    out, weight, run = torch.empty(size), torch.ones(size), module("cpu", DIAGONAL, d=size[-1])

    def forward() -> None:
        with torch.no_grad():
            run(given)

    def add() -> None:
        with torch.no_grad():
            torch.add(given["a"], given["b"], out=out)

    floor, mine = median(add), median(forward)
    both = median(lambda: torch.autograd.grad(run(given), list(given.values()), weight))
    print(f"diagonal, {size}: add {floor:.2f}, forward {mine:.2f} ({mine / floor:.1f}x), ", end="")
    print(f"forward + backward {both:.2f} ({both / floor:.1f}x)")


def main() -> None:
    if any(name not in os.environ for name in KEPT):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.cpu"], {**os.environ, **KEPT})
    torch.set_num_threads(1)
    diagonal()
    given = inputs()
    print(f"{'':26}{'cpu':>16}{'torch':>18}{'naive':>18}   ms forward, with backward")
    for title, (text, rival) in RULES.items():
        rows = [measured(module(target, text, n=D, m=D), given) for target in ("cpu", "torch")]
        rows.append(measured(rival, given, 2))
        shown = "".join(f"{forward:9.1f}{both:9.1f}" for forward, both in rows)
        ratios = f"{rows[2][0] / rows[0][0]:.1f}x and {rows[2][1] / rows[0][1]:.1f}x"
        print(f"  {title:24}{shown}   naive is {ratios} ours", flush=True)


if __name__ == "__main__":
    main()
