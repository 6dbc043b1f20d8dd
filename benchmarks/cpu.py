"""Fused loops of the target `cpu` beside the target `torch` and flash-linear-attention's naive forms.

Batch 1, 2,048 tokens, 8 heads of 64, fp32, one thread; all sides in turn in one process.  A rival is the best of its
naive forms, the chunked one where there is one.  Training is compared with what `torch.compile` makes of the emitted
chunks too.  A diagonal recurrence is compared with the sum of two tensors into a third; beside it stand a loop over
tokens, the parallel scan of mambapy and PyTorch's `associative_scan`, which is not compiled: that takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from mambapy.pscan import pscan
from torch import Tensor
from torch._higher_order_ops.associative_scan import associative_scan

import seqc
from benchmarks.measure import in_turn, restart_with_kept_memory
from benchmarks.report import Bar, Report, row
from seqc.backend import backend
from tests.parity.references import naive

T, H, D = 2048, 8, 64
ROUNDS, FEW = 7, 3
BARS = {"forward": 3.0, "forward and backward": 5.0}  # against naive forms
COMPILED = {"one gate a head", "gated linear attention", "gated delta"}  # compiling takes long
TRAINED = Bar(1.5)  # against compiled chunks
ADDED = {"forward": 2.0, "forward and backward": 3.0}  # times the sum of two tensors, at most
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


def forward(run: Run, given: Inputs) -> Callable[[], Any]:
    def called() -> None:
        with torch.no_grad():
            run(given)

    return called


def backward(run: Run, given: Inputs) -> Callable[[], Any]:
    """Weights come with the gradient of what is returned."""
    out = run(given)
    cotangent, used = torch.ones_like(out), list(given.values())
    return lambda: torch.autograd.grad(run(given), used, cotangent, allow_unused=True)


KINDS = {"forward": forward, "forward and backward": backward}


def module(target: str, text: str, **sizes: int) -> Run:
    op: Any = getattr(backend(target), "module")(seqc.loads(text).rule(**sizes).program())  # noqa: B009
    names = [leaf.name for leaf in seqc.loads(text).rule(**sizes).recurrence.inputs]
    return lambda x: op(**{name: x[name] for name in names})[0]


def tokens(x: Inputs) -> Tensor:
    """A diagonal recurrence as a loop, without indexing, whose way back would take time squared."""
    h, found = torch.zeros_like(x["b"][:, 0]), list[Tensor]()
    for a, b in zip(x["a"].unbind(1), x["b"].unbind(1), strict=True):
        h = a * h + b
        found.append(h)
    return torch.stack(found, 1)


def composed(x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The map `h -> a · h + b` of the first, then that of the second."""
    return x[0] * y[0], x[1] * y[0] + y[1]


def scanned(x: Inputs) -> Tensor:
    found: Any = associative_scan(composed, (x["a"], x["b"]), 1, combine_mode="generic")
    return cast(Tensor, found[1])


def scanned_by_mambapy(x: Inputs) -> Tensor:
    """Whose scan has an axis of states."""
    found: Any = pscan(x["a"][..., None], x["b"][..., None])
    return cast(Tensor, found[..., 0])


DIAGONAL_RIVALS: dict[str, Run] = {
    "loop over tokens": tokens,
    "mambapy": scanned_by_mambapy,
    "associative_scan": scanned,
}


def diagonal(report: Report) -> None:
    size = (1, 4096, 1024)
    given = {"a": torch.rand(size).requires_grad_(), "b": torch.randn(size).requires_grad_()}
    out, run = torch.empty(size), module("cpu", DIAGONAL, d=size[-1])

    def add() -> None:
        with torch.no_grad():
            torch.add(given["a"], given["b"], out=out)

    times = in_turn({"add": add, **{kind: made(run, given) for kind, made in KINDS.items()}}, 3 * ROUNDS)
    case = "diagonal, 4,096 tokens of 1,024"
    report.add(row(case, "add", times["add"], "ms"))
    for kind, made in KINDS.items():
        ratio = times["add"].median / times[kind].median
        report.add(row(f"{case}, {kind}", "cpu", times[kind], "ms", ratio, Bar(1 / ADDED[kind])))
        rivals = in_turn({side: made(rival, given) for side, rival in DIAGONAL_RIVALS.items()}, FEW)
        for side, sample in rivals.items():
            report.add(row(f"{case}, {kind}", side, sample, "ms", times["add"].median / sample.median))


def matrices(report: Report) -> None:
    given = inputs()
    for title, (text, rival) in RULES.items():
        ours = {target: module(target, text, n=D, m=D) for target in ("cpu", "torch")}
        for kind, made in KINDS.items():
            times = in_turn({side: made(run, given) for side, run in ours.items()}, ROUNDS)
            times |= in_turn({"naive": made(rival, given)}, FEW)
            if title in COMPILED and made is backward:
                compiled: Run = torch.compile(ours["torch"])
                times |= in_turn({"torch, compiled": backward(compiled, given)}, ROUNDS)
            bars = {"naive": Bar(BARS[kind]), "torch, compiled": TRAINED}
            for side, sample in times.items():
                ratio = None if side == "cpu" else sample.median / times["cpu"].median
                bar = bars.get(side)
                report.add(row(f"{title}, {kind}", side, sample, "ms", ratio, bar))


def main() -> None:
    restart_with_kept_memory("benchmarks.cpu")
    torch.set_num_threads(1)
    about = " ".join((__doc__ or "").split())
    report = Report("cpu", "Fused loops on the CPU", about, "their time over ours")
    diagonal(report)
    matrices(report)
    report.write()


if __name__ == "__main__":
    main()
