"""PyTorch's schedules of matrix memories beside flash-linear-attention's naive PyTorch forms, on the CPU.

Batch 1, 2,048 tokens, 8 heads of 64, fp32, one thread; all sides in turn in one process.  Theirs are a recurrent and a
chunked form; the fused loops are measured by `benchmarks.cpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import seqc
from benchmarks.measure import in_turn, restart_with_kept_memory
from benchmarks.report import Report, row
from tests.parity.references import naive

T, H, D = 2048, 8, 64
ROUNDS = 5
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


def forward(run: Run, given: Inputs) -> Callable[[], Any]:
    def called() -> None:
        with torch.no_grad():
            run(given)

    return called


def backward(run: Run, given: Inputs) -> Callable[[], Any]:
    return lambda: run(given).sum().backward()


def ours(text: str) -> Run:
    rule = seqc.loads(text).rule(n=D, m=D)
    op, names = rule.torch(kernels=False), [leaf.name for leaf in rule.recurrence.inputs]

    def run(x: Inputs) -> Tensor:
        known = {**x, "alpha": x["g"].exp()}
        out: Tensor = op(**{n: known[n] for n in names})[0]
        return out

    return run


def main() -> None:
    restart_with_kept_memory("benchmarks.rules")
    torch.set_num_threads(1)
    given = inputs()
    about = " ".join((__doc__ or "").split())
    report = Report("rules", "Matrix memories in PyTorch", about, "their time over ours")
    for title, (text, forms) in CASES.items():
        runs: dict[str, Run] = {"seqc": ours(text), **forms}
        for kind, made in (("forward", forward), ("forward and backward", backward)):
            times = in_turn({side: made(run, given) for side, run in runs.items()}, ROUNDS)
            for side, sample in times.items():
                ratio = None if side == "seqc" else sample.median / times["seqc"].median
                report.add(row(f"{title}, {kind}", side, sample, "ms", ratio))
    report.write()


if __name__ == "__main__":
    main()
