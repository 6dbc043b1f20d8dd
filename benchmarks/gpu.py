"""Rules as Triton kernels on a GPU: correctness first, then their speed beside flash-linear-attention's.

    python -m benchmarks.gpu                       # everything, some minutes; results/gpu.json, .md and .png
    TRITON_INTERPRET=1 python -m benchmarks.gpu --check     # without a GPU: correctness alone, at a small shape

Times are medians of `triton.testing.do_bench`, ours and theirs in turn in one process.  A scan is compared with the
time that it takes to read every input and write every result once, at the rate of copies measured in the same run.
Kernels are compiled side by side first; how they are launched is measured only with `--tune`, which takes longer.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import seqc
from benchmarks.measure import Sample
from benchmarks.report import Bar, Report, Row, row
from seqc.backend import Scheduled
from seqc.passes.schedule import schedule

if TYPE_CHECKING:
    from backends.torch import rule as in_torch  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton import BACKEND  # noqa: TID251
else:
    from seqc.backends.torch import rule as in_torch
    from seqc.backends.triton import BACKEND

SHAPES = (
    (1, 8192, 96, 128),
    (2, 16384, 16, 128),
    (4, 2048, 16, 128),
    (4, 4096, 64, 128),
    (8, 2048, 32, 256),
    (8, 1024, 8, 64),
)
SMALL, TINY = (1, 70, 2, 16), (1, 35, 1, 5)  # batch, time, heads, entries of a key and of a value
MODEL = {"d": 1024, "w": 1536, "h": 8, "n": 128, "layers": 2}  # Griffin
TRAINED, DECODED = (4, 2048), 32  # batch and time of a training step; tokens
COPIED = 0.85  # the share of the rate of copies that a scan should reach
WITHIN = {torch.float32: 1e-5, torch.bfloat16: 2e-2}

MATRIX = "rule {name}(q[h, n], k[h, n], v[h, m]{gates}) {{\n    state  S[h, n, m] = 0\n"
READ = "    return sum[n](S' * q)\n}}\n"
HEBBIAN = MATRIX + "    S'     = {decay}S + k * v\n" + READ
DELTA = MATRIX + "    S'     = {decay}S + beta * k * (v - sum[n]({decay}S * k))\n" + READ
SCAN = "rule scan(v[h, m], alpha[h, m]) {\n    state  s[h, m] = 0\n    s'     = alpha * s + v\n    return s'\n}\n"

Inputs = dict[str, Tensor]
Call = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """A rule, and the function of flash-linear-attention that computes it: its module, name and gates' names."""

    name: str
    text: str
    theirs: tuple[str, str, Mapping[str, str]] | None = None


def _matrix(name: str, form: str, gates: str, decay: str) -> str:
    return form.format(name=name, gates=gates, decay=decay)


CASES = (
    Case("scan", SCAN),
    Case(
        "gate a head",
        _matrix("gated", HEBBIAN, ", alpha[h]", "alpha * "),
        ("fla.ops.simple_gla", "chunk_simple_gla", {"alpha": "g"}),
    ),
    Case(
        "gate a key",
        _matrix("gla", HEBBIAN, ", alpha[h, n]", "alpha * "),
        ("fla.ops.gla", "chunk_gla", {"alpha": "g"}),
    ),
    Case(
        "delta",
        _matrix("delta", DELTA, ", beta[h]", ""),
        ("fla.ops.delta_rule", "chunk_delta_rule", {"beta": "beta"}),
    ),
    Case(
        "gated delta",
        _matrix("gated_delta", DELTA, ", alpha[h], beta[h]", "alpha * "),
        ("fla.ops.gated_delta_rule", "chunk_gated_delta_rule", {"alpha": "g", "beta": "beta"}),
    ),
    Case(
        "delta, gate a key",
        _matrix("kda", DELTA, ", alpha[h, n], beta[h]", "alpha * "),
        ("fla.ops.kda", "chunk_kda", {"alpha": "g", "beta": "beta"}),
    ),
)


def recurrence(case: Case, heads: int, size: int) -> Any:
    spec = seqc.loads(case.text)
    (name,) = spec.rules
    sizes = {axis: heads if axis == "h" else size for axis in spec.checked.default_sizes(name)}
    return spec.rule(name, **sizes).recurrence


def drawn(rule: Any, batch: int, time: int, dtype: torch.dtype, device: str) -> Inputs:
    """Gates near 1, keys of length 1, all asking for gradients."""
    draw = torch.Generator(device).manual_seed(0)
    found: Inputs = {}
    for leaf in rule.inputs:
        shape = (batch, time, *(rule.sizes[axis] for axis in leaf.axes))
        x = torch.randn(shape, generator=draw, device=device)
        if leaf.name in ("alpha", "beta"):
            x = torch.sigmoid(x + 3)
        if leaf.name == "k":
            x = torch.nn.functional.normalize(x, dim=-1)
        found[leaf.name] = x.to(dtype).requires_grad_()
    return found


def differentiated(run: Call, inputs: Inputs) -> list[Tensor]:
    """The output, and the gradients of its product with fixed numbers."""
    out: Tensor = run(inputs)
    weight = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
    return [out, *torch.autograd.grad((out.double() * weight).sum(), list(inputs.values()))]


def worst(case: Case, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> float:
    """The largest error of the output and the gradients, against tokens in double precision."""
    batch, time, heads, size = shape
    rule = recurrence(case, heads, size)
    ours: Any = BACKEND.module(Scheduled(rule, schedule)).to(device)
    tokens: Any = in_torch(rule, mode="reference").double().to(device)
    inputs = drawn(rule, batch, time, dtype, device)
    wide = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    found = differentiated(lambda x: ours(**x)[0], inputs)
    wanted = differentiated(lambda x: tokens(**x)[0], wide)
    return max(
        float((x.double() - y).norm() / y.norm().clamp(min=1e-12)) for x, y in zip(found, wanted, strict=True)
    )


def rival(case: Case) -> Call | None:
    """Flash-linear-attention's function of the same inputs, where it is installed."""
    if case.theirs is None:
        return None
    place, name, gates = case.theirs
    try:
        function = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError) as error:
        print(f"{case.name}: no rival ({error})", file=sys.stderr)
        return None

    def run(x: Inputs) -> Any:
        more = {other: x[own].float().log() if own == "alpha" else x[own] for own, other in gates.items()}
        return function(x["q"], x["k"], x["v"], **more, scale=1.0)[0]

    return run


def rates() -> dict[str, float]:
    """Bytes a second of a copy, and multiplications and additions a second of a matrix product in bf16."""
    from triton.testing import do_bench

    x, y = (torch.empty(2**28, device="cuda") for _ in range(2))
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    copy: Any = do_bench(lambda: y.copy_(x), return_mode="median")
    product: Any = do_bench(lambda: a @ a, return_mode="median")
    return {"copy": 2 * x.nbytes / (copy * 1e-3), "product": 2 * 8192**3 / (product * 1e-3)}


def bench(run: Callable[[], Any]) -> Sample:
    """Milliseconds."""
    from triton.testing import do_bench

    middle, low, high = do_bench(run, quantiles=[0.5, 0.25, 0.75])
    return Sample(float(middle), float(high - low) / 2)


def timed(run: Call, inputs: Inputs) -> dict[str, Sample]:
    """A forward pass, and one with the backward pass."""

    def both() -> None:
        out = run(inputs)
        torch.autograd.grad(out, list(inputs.values()), torch.ones_like(out))

    with torch.no_grad():
        forward = bench(lambda: run(inputs))
    return {"forward": forward, "forward and backward": bench(both)}


def module_of(case: Case, heads: int, size: int) -> Any:
    return BACKEND.module(Scheduled(recurrence(case, heads, size), schedule)).to("cuda")


def warmed(case: int, heads: int, size: int) -> None:
    """Compile a case's kernels, which PyTorch's and Triton's folders keep for other processes."""
    rule = recurrence(CASES[case], heads, size)
    inputs = drawn(rule, 1, 256, torch.bfloat16, "cuda")
    ours = module_of(CASES[case], heads, size)
    differentiated(lambda x: ours(**x)[0], inputs)


def measured(case: Case, shape: tuple[int, ...], copy: float) -> list[Row]:
    """Ours and theirs at a shape, where both fit into memory."""
    batch, time, heads, size = shape
    inputs = drawn(recurrence(case, heads, size), batch, time, torch.bfloat16, "cuda")
    ours = module_of(case, heads, size)
    moved = sum(x.nbytes for x in inputs.values()) + inputs["v"].nbytes
    sides: dict[str, Call | None] = {"ours": lambda x: ours(**x)[0], "theirs": rival(case)}
    times: dict[str, dict[str, Sample]] = {}
    for name, run in sides.items():
        if run is not None:
            try:
                times[name] = timed(run, inputs)
            except torch.cuda.OutOfMemoryError as error:
                print(f"{case.name}, {name}: {str(error).splitlines()[0]}", file=sys.stderr)
        torch.cuda.empty_cache()
    rows: list[Row] = []
    for name, found in times.items():
        for kind, sample in found.items():
            ratio, bar = None, None
            if name == "ours" and "theirs" in times:
                ratio, bar = times["theirs"][kind].median / sample.median, Bar(1.0)
            elif name == "ours" and case.theirs is None and kind == "forward":
                ratio, bar = 1e3 * moved / copy / sample.median, Bar(COPIED)
            about = f"{case.name}, {'x'.join(map(str, shape))}, {kind}"
            rows.append(Row(about, name, sample.median, sample.spread, "ms", ratio, bar))
    return rows


def whole(device: str = "cuda") -> list[Row]:
    """A training step of Griffin, and a token of its decoding: with kernels and as PyTorch's schedules."""
    handle = seqc.load("specs/hybrid/griffin.seq").model(**MODEL)
    sides = {"ours": handle.triton().to(device), "PyTorch's schedule": handle.torch().to(device)}
    batch, time = TRAINED
    tokens = torch.randint(256, (batch, time + 1), device=device)
    steps: dict[str, dict[str, Sample]] = {"training step": {}, "a token decoded": {}}
    for name, model in sides.items():

        def step(model: Any = model) -> None:
            logits, _ = model(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            torch.autograd.grad(loss, list(model.parameters()))

        def decode(model: Any = model) -> None:
            state = model.init_state(1)
            for k in range(DECODED):
                _, state = model.step(tokens[:1, k], state)

        steps["training step"][name] = bench(step)
        with torch.no_grad():
            found = bench(decode)
        steps["a token decoded"][name] = Sample(found.median / DECODED, found.spread / DECODED)
    return [
        row(
            f"Griffin, {what}",
            name,
            x,
            "ms",
            found["PyTorch's schedule"].median / x.median if name == "ours" else None,
        )
        for what, found in steps.items()
        for name, x in found.items()
    ]


def checked(shape: tuple[int, ...], device: str) -> bool:
    """Whether every case is within its bounds."""
    good = True
    for case in CASES:
        for dtype, bound in WITHIN.items():
            found = worst(case, shape, dtype, device)
            good = good and found < bound
            print(f"{case.name}, {str(dtype)[6:]}: error {found:.1e} (at most {bound:.0e})")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description="Rules as Triton kernels on a GPU.")
    parser.add_argument("--check", action="store_true", help="correctness alone")
    parser.add_argument("--tune", action="store_true", help="measure how kernels are launched")
    parser.add_argument("--precision", default="high", choices=("highest", "high"), help="of matrix products")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not asked.check:
        print("there is no GPU here: --check with TRITON_INTERPRET=1 proves the kernels without one")
        return 1
    os.environ.setdefault("SEQC_TUNE", "1" if asked.tune else "0")
    torch.set_float32_matmul_precision("highest")
    if not checked(SMALL if device == "cuda" else TINY, device):
        return 1
    if asked.check:
        return 0
    torch.set_float32_matmul_precision(asked.precision)
    report(asked.precision).write()
    return 0


def report(precision: str) -> Report:
    """Everything, measured."""
    facts, sizes = rates(), dict.fromkeys(shape[2:] for shape in SHAPES)
    with ProcessPoolExecutor(8, get_context("spawn")) as pool:
        waiting = [pool.submit(warmed, k, *size) for k in range(len(CASES)) for size in sizes]
        for each in waiting:
            each.result()
    about = (
        f"On {torch.cuda.get_device_name()}, inputs in bf16, matrix products `{precision}`. In this run copies move"
        f" {facts['copy'] / 1e12:.2f} TB a second and matrix products in bf16 take"
        f" {facts['product'] / 1e12:.0f} TFLOPs."
    )
    compared = "flash-linear-attention's time over ours; of scans the share of the rate of copies; of models PyTorch's"
    found = Report("gpu", "Rules on a GPU", about, compared)
    for shape in SHAPES:
        for case in CASES:
            found.add(*measured(case, shape, facts["copy"]))
    found.add(*whole())
    return found


if __name__ == "__main__":
    sys.exit(main())
