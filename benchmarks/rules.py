"""Emitted modules beside flash-linear-attention's naive PyTorch forms, on the CPU.

Batch 1, 2,048 tokens, 8 heads of 64, fp32, one thread; both sides in turn in one process.  Theirs are a recurrent
and a chunked form.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import seqc
from tests.parity.references import naive

T, H, D = 2048, 8, 64
RUNS = 5
Inputs = dict[str, Tensor]
Run = Callable[[Inputs], Tensor]

GATED = """
rule gated(q[n], k[n], v[m], alpha) {
    state  S[m, n] = 0
    S'     = alpha * S + v * k
    return sum[n](S' * q)
}
"""
DELTA = """
rule gated_delta(q[n], k[n], v[m], alpha, beta) {
    memory    S: n -> m
    objective 0.5 * sumsq(S(k) - v)
    retention alpha * S
    learner   gd(rate = beta, at = retained)
    return    S'(q)
}
"""


def gated_form(name: str) -> Run:
    return lambda x: getattr(naive("simple_gla/naive"), name)(x["q"], x["k"], x["v"], x["g"])[0]


def delta_form(name: str) -> Run:
    module = "gated_delta_rule/naive"
    return lambda x: getattr(naive(module), name)(x["q"], x["k"], x["v"], beta=x["beta"], g=x["g"])[0]


# What is measured: a rule, and the forms of the same that it is measured beside.
CASES: dict[str, tuple[str, dict[str, Run]]] = {
    "one gate a head": (
        GATED,
        {name: gated_form(name) for name in ("naive_recurrent_simple_gla", "naive_chunk_simple_gla")},
    ),
    "gated delta": (
        DELTA,
        {
            name: delta_form(name)
            for name in ("naive_recurrent_gated_delta_rule", "naive_chunk_gated_delta_rule")
        },
    ),
}


def inputs() -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(1, T, H, *shape, generator=generator)

    k = some(D)
    gate = torch.nn.functional.logsigmoid(some() + 3)
    found = {
        "q": some(D),
        "k": k / k.norm(dim=-1, keepdim=True),
        "v": some(D),
        "g": gate,
        "beta": some().sigmoid(),
    }
    return {name: x.requires_grad_() for name, x in found.items()}


def median(run: Callable[[], Any]) -> float:
    run()
    times: list[float] = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def forward_and_back(run: Run, given: Inputs) -> tuple[float, float]:
    """Median milliseconds without and with the gradient."""

    def forward() -> None:
        with torch.no_grad():
            run(given)

    def both() -> None:
        run(given).sum().backward()

    return median(forward), median(both)


def ours(text: str) -> Run:
    rule = seqc.loads(text).rule(n=D, m=D)
    op, names = rule.torch(), [leaf.name for leaf in rule.recurrence.inputs]

    def run(x: Inputs) -> Tensor:
        known = {**x, "alpha": x["g"].exp()}
        out: Tensor = op(**{n: known[n] for n in names})[0]
        return out

    return run


def main() -> None:
    torch.set_num_threads(1)
    given = inputs()
    print(f"{'':26}{'forward':>12}{'+ backward':>12}   ms, medians of {RUNS}")
    for title, (text, forms) in CASES.items():
        print(title)
        mine = forward_and_back(ours(text), given)
        print(f"  {'seqc':38}{mine[0]:10.1f}{mine[1]:12.1f}")
        for name, run in forms.items():
            other = forward_and_back(run, given)
            ratios = f"{other[0] / mine[0]:.1f}x and {other[1] / mine[1]:.1f}x ours"
            print(f"  {name:38}{other[0]:10.1f}{other[1]:12.1f}   {ratios}")


if __name__ == "__main__":
    main()
