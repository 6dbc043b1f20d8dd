"""Rules as Triton kernels on a GPU: correctness first, then their speed beside flash-linear-attention's.

    python -m benchmarks.gpu                       # everything, some minutes; results under benchmarks/results/
    TRITON_INTERPRET=1 python -m benchmarks.gpu --check     # without a GPU: correctness alone, at a small shape

Times are medians of `triton.testing.do_bench`, ours and theirs in turn in one process.  `floor` is the time that it
takes to read every input and write every result once, at the copy bandwidth that was measured in the same run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import seqc
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
SMALL = (1, 70, 2, 16)  # batch, time, heads, entries of a key and of a value
RESULTS = Path(__file__).parent / "results"
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


def timed(run: Call, inputs: Inputs) -> dict[str, float]:
    """Milliseconds of a forward pass, and of one with the backward pass."""
    from triton.testing import do_bench

    def both() -> None:
        out = run(inputs)
        torch.autograd.grad(out, list(inputs.values()), torch.ones_like(out))

    with torch.no_grad():
        forward: Any = do_bench(lambda: run(inputs), return_mode="median")
    return {"forward": float(forward), "both": float(do_bench(both, return_mode="median"))}


def measured(case: Case, shape: tuple[int, ...], copy: float) -> dict[str, Any]:
    """Ours and theirs at a shape; what does not fit into memory is said."""
    batch, time, heads, size = shape
    rule = recurrence(case, heads, size)
    inputs = drawn(rule, batch, time, torch.bfloat16, "cuda")
    ours: Any = BACKEND.module(Scheduled(rule, schedule)).to("cuda")
    moved = sum(x.nbytes for x in inputs.values()) + inputs["v"].nbytes
    row: dict[str, Any] = {"case": case.name, "shape": shape, "floor": 1e3 * moved / copy}
    for name, run in (("ours", lambda x: ours(**x)[0]), ("theirs", rival(case))):
        if run is None:
            continue
        try:
            row[name] = timed(run, inputs)
        except torch.cuda.OutOfMemoryError as error:
            row[name] = {"error": str(error).split("\n")[0]}
        torch.cuda.empty_cache()
    return row


def line(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    ours, theirs = row["ours"], row.get("theirs", {})
    parts = [row["case"], "x".join(map(str, row["shape"])), f"{row['floor']:.2f}"]
    for kind in ("forward", "both"):
        mine, other = ours.get(kind), theirs.get(kind)
        parts += [f"{x:.2f}" if x is not None else "-" for x in (mine, other)]
        parts.append(f"{other / mine:.2f}" if mine and other else "-")
    return f"| {' | '.join(parts)} |"


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
    parser.add_argument("--precision", default="high", choices=("highest", "high"), help="of matrix products")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not asked.check:
        print("there is no GPU here: --check with TRITON_INTERPRET=1 proves the kernels without one")
        return 1
    torch.set_float32_matmul_precision("highest")
    if not checked(SMALL, device):
        return 1
    if asked.check:
        return 0
    import triton

    torch.set_float32_matmul_precision(asked.precision)
    facts = rates()
    about = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__,
             "python": platform.python_version(), "precision": asked.precision, **facts}  # fmt: skip
    print(json.dumps(about))
    head = "| case | B x T x H x D | floor | forward | theirs | ratio | with backward | theirs | ratio |"
    print(head, "| --- " * 9 + "|", sep="\n")
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        for case in CASES:
            rows.append(measured(case, shape, facts["copy"]))
            print(line(rows[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gpu.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
