"""Rules as Triton kernels on a GPU: correctness first, then their speed beside flash-linear-attention's and others'.

    python -m benchmarks.gpu                       # everything, under 8 minutes; results/gpu.json, .md and .png
    TRITON_INTERPRET=1 python -m benchmarks.gpu --check     # without a GPU: correctness alone, at a small shape

Times are medians of `triton.testing.do_bench`, ours and theirs in turn in one process, at flash-linear-attention's six
shapes.  A scan is compared with the time that it takes to read every input and write every result once, at the rate of
copies measured in the same run.  What is compared has to compute the same first.

Kernels are compiled side by side before; how they are launched is measured only with `--tune`, which takes longer.
A clock leaves out what would not be done in time.  What was left out, and what failed, is said in the results.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import seqc
from benchmarks.gpu_cases import CASES as CASES
from benchmarks.gpu_cases import MORE, Call, Inputs, Rival, drawn
from benchmarks.gpu_cases import SHAPES as SHAPES
from benchmarks.gpu_cases import Case as Case
from benchmarks.gpu_cases import recurrence as recurrence
from benchmarks.gpu_machine import rates, versions
from benchmarks.gpu_predicted import written
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

Shape = tuple[int, ...]
SMALL, TINY = (1, 80, 8, 64), (1, 35, 1, 5)  # neither is a whole number of blocks
GRIFFIN = Path(__file__).parents[1] / "specs" / "hybrid" / "griffin.seq"
MODEL: Mapping[str, int] = {"d": 1024, "w": 1536, "h": 8, "n": 128, "layers": 2}
TRAINED, DECODED = (4, 2048), 32  # batch and time of a training step; tokens
COPIED = 0.85  # the share of the rate of copies that a scan should reach
WITHIN = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
SAME = 5e-2  # how far from the oracle what is compared may be
SECONDS, COMPILING = 450.0, 150.0  # of everything, and of compiling
PROCESSES = 14
JOB = 10.0  # seconds that a measurement is taken to need before there was any
KINDS = ("forward", "forward and backward")


@dataclass
class Session:
    """Where and how it is measured, until when, and what was not.

    `clock` gives seconds; `bench` measures a function, in milliseconds.
    """

    device: str
    bench: Callable[[Callable[[], Any]], Sample]
    seconds: float = SECONDS
    clock: Callable[[], float] = time.monotonic
    longest: float = JOB
    left_out: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.end = self.clock() + self.seconds

    @property
    def left(self) -> float:
        return self.end - self.clock()

    def attempt(self, what: str, job: Callable[[], Any]) -> Any:
        """What a job returns; None where there is no time for another like the longest, or where it fails."""
        if self.left < self.longest:
            self.left_out.append(what)
            return None
        began = self.clock()
        try:
            return job()
        except Exception as error:  # of kernels that are not ours too, or for want of memory
            lines = str(error).strip().splitlines()
            self.failed.append(f"{what}: {type(error).__name__} {lines[0] if lines else ''}".rstrip())
            print(self.failed[-1], file=sys.stderr, flush=True)
            return None
        finally:
            self.longest = max(self.longest, self.clock() - began)
            if self.device == "cuda":
                torch.cuda.empty_cache()


def module_of(case: Case, shape: Shape, device: str) -> Any:
    return BACKEND.module(Scheduled(recurrence(case, *shape[2:]), schedule)).to(device)


def has_kernels(case: Case, shape: Shape) -> bool:
    """Whether a rule has kernels at these sizes; else it runs in PyTorch."""
    return bool(BACKEND.unit(Scheduled(recurrence(case, *shape[2:]), schedule)))


def differentiated(run: Callable[[Inputs], Tensor], inputs: Inputs) -> list[Tensor]:
    """The output, and the gradients of its product with fixed numbers, which 16 bits have exactly."""
    out: Tensor = run(inputs)
    weight = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out).bfloat16()
    return [out, *torch.autograd.grad((out.double() * weight).sum(), list(inputs.values()))]


def in_tokens(case: Case, shape: Shape, ours: Any, device: str) -> Callable[[Inputs], Tensor]:
    """The same in double precision, token by token, with the parameters of ours."""
    tokens: Any = in_torch(recurrence(case, *shape[2:]), mode="reference").double().to(device)
    tokens.load_state_dict(ours.state_dict())
    return lambda x: tokens(**x)[0]


def wide(inputs: Inputs) -> Inputs:
    return {name: x.detach().double().requires_grad_() for name, x in inputs.items()}


def error(x: Tensor, y: Tensor) -> float:
    return float((x.double() - y).detach().norm() / y.detach().norm().clamp(min=1e-12))


def worst(case: Case, shape: Shape, dtype: torch.dtype, device: str) -> float:
    """The largest error of the output and the gradients, against tokens in double precision."""
    ours, inputs = module_of(case, shape, device), drawn(case, shape, dtype, device)
    found = differentiated(lambda x: ours(**x)[0], inputs)
    wanted = differentiated(in_tokens(case, shape, ours, device), wide(inputs))
    return max(map(error, found, wanted))


def checked(wanted: Sequence[Case], shape: Shape, device: str) -> bool:
    """Whether every case is within its bounds."""
    good = True
    for case in wanted:
        for dtype, bound in WITHIN.items():
            found = worst(case, shape, dtype, device)
            good = good and found < bound
            print(f"{case.name}, {str(dtype)[6:]}: error {found:.1e} (at most {bound:.0e})", flush=True)
    return good


def rivals(session: Session, case: Case) -> list[tuple[Rival, Call]]:
    """What a case is compared with: what is installed and computes the same at a small shape."""
    found: list[tuple[Rival, Call]] = []
    for rival in case.rivals:
        what = f"{case.name}: {rival.name} of {rival.package}"
        try:
            function = rival.function()
        except (ImportError, AttributeError):
            session.left_out.append(f"{what}, which is not installed")
            continue
        off = session.attempt(what, partial(difference, session.device, case, rival, function))
        if off is not None and off < SAME:
            found.append((rival, function))
        elif off is not None:
            session.failed.append(f"{what} computes something else: {off:.1e} apart")
    return found


def difference(device: str, case: Case, rival: Rival, function: Call, shape: Shape = SMALL) -> float:
    """How far the outputs of what is compared are from tokens in double precision."""
    inputs = drawn(case, shape, torch.bfloat16, device)
    tokens = in_tokens(case, shape, module_of(case, shape, device), device)
    with torch.no_grad():
        wanted = tokens(wide(inputs))
        return error(rival.called(function, rival.leaves(inputs)).reshape(wanted.shape), wanted)


def both(run: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], None]:
    """A forward pass with the backward pass."""

    def passes() -> None:
        out = run()
        torch.autograd.grad(out, leaves, torch.ones_like(out), allow_unused=True)

    return passes


def timed(session: Session, run: Callable[[], Tensor], leaves: list[Tensor], kind: str) -> Sample:
    if kind == KINDS[0]:
        with torch.no_grad():
            return session.bench(run)
    return session.bench(both(run, leaves))


def measured(
    session: Session, case: Case, shape: Shape, against: list[tuple[Rival, Call]], copy: float
) -> list[Row]:
    """Ours and theirs in turn at a shape."""
    inputs = drawn(case, shape, torch.bfloat16, session.device)
    ours = module_of(case, shape, session.device)
    sides: dict[str, tuple[Callable[[], Tensor], list[Tensor]]] = {
        "ours": (lambda: ours(**inputs)[0], list(inputs.values()))
    }
    for rival, function in against:
        own = rival.leaves(inputs)
        sides[rival.package] = (partial(rival.called, function, own), list(own.values()))
    times: dict[str, dict[str, Sample]] = {kind: {} for kind in KINDS}
    about = f"{case.name}, {'x'.join(map(str, shape))}"
    foretold: dict[str, float] = dict(zip(KINDS, written().get((case.name, shape), ()), strict=False))
    for kind, found in times.items():
        for name, (run, leaves) in sides.items():
            job = partial(timed, session, run, leaves, kind)
            sample = session.attempt(f"{about}, {kind}, {name}", job)
            if sample is not None:
                found[name] = sample
    moved = sum(x.nbytes for x in inputs.values()) + inputs["v"].nbytes
    quickest = 1e3 * moved / copy if case.copied else None
    return [
        each
        for kind, found in times.items()
        for each in compared(f"{about}, {kind}", kind, found, quickest, foretold.get(kind))
    ]


def compared(
    about: str, kind: str, found: Mapping[str, Sample], quickest: float | None, foretold: float | None = None
) -> list[Row]:
    """Rows of one comparison; `quickest` are the milliseconds of copies that do the same, `foretold` those that were
    predicted of ours.
    """
    rows: list[Row] = []
    others = [x.median for name, x in found.items() if name != "ours"]
    for name, sample in found.items():
        ratio, bar = None, None
        if quickest is not None and kind == KINDS[0]:
            ratio, bar = quickest / sample.median, Bar(COPIED) if name == "ours" else None
        elif name == "ours" and others:
            ratio, bar = min(others) / sample.median, Bar(1.0)
        rows.append(row(about, name, sample, "ms", ratio, bar))
        if name == "ours" and foretold is not None:
            rows.append(row(about, "ours, predicted", Sample(foretold, 0.0), "ms", foretold / sample.median))
    return rows


def whole(session: Session, sizes: Mapping[str, int] = MODEL, trained: Shape = TRAINED) -> list[Row]:
    """A training step of Griffin, and a token of its decoding: with kernels and as PyTorch's schedules."""
    handle = seqc.load(GRIFFIN).model(**sizes)
    sides: dict[str, Any] = {"ours": handle.triton(), "PyTorch's schedule": handle.torch()}
    batch, length = trained
    tokens = torch.randint(256, (batch, length + 1), device=session.device)
    steps: dict[str, dict[str, Sample]] = {"training step": {}, "a token decoded": {}}
    for name, side in sides.items():
        model = side.to(session.device)

        def step(model: Any = model) -> None:
            logits, _ = model(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            torch.autograd.grad(loss, list(model.parameters()))

        def decode(model: Any = model) -> None:
            state = model.init_state(1)
            for k in range(DECODED):
                _, state = model.step(tokens[:1, k % length], state)

        steps["training step"][name] = session.bench(step)
        with torch.no_grad():
            several = session.bench(decode)
        steps["a token decoded"][name] = Sample(several.median / DECODED, several.spread / DECODED)
    rows: list[Row] = []
    for what, found in steps.items():
        for name, x in found.items():
            ratio = found["PyTorch's schedule"].median / x.median if name == "ours" else None
            rows.append(row(f"Griffin, {what}", name, x, "ms", ratio))
    return rows


def warmed(number: int, shape: Shape, dtype: torch.dtype, precision: str, device: str = "cuda") -> None:
    """Compile the kernels of a case and of what it is compared with, which Triton's folder keeps for other processes.

    Nothing is measured, as others compile beside it: what is tuned is tuned where it is timed.
    """
    import triton.testing

    os.environ |= {"SEQC_TUNE": "0", "FLA_CACHE_RESULTS": "0"}
    triton.testing.do_bench = once
    torch.set_float32_matmul_precision(precision)
    case = cases()[number]
    if has_kernels(case, shape):
        inputs = drawn(case, shape, dtype, device)
        ours = module_of(case, shape, device)
        differentiated(lambda x: ours(**x)[0], inputs)
        for rival in case.rivals if dtype == torch.bfloat16 else ():
            with suppress(ImportError, AttributeError):
                function, leaves = rival.function(), rival.leaves(inputs)
                both(partial(rival.called, function, leaves), list(leaves.values()))()


def once(run: Callable[[], Any], **_: Any) -> list[float]:
    """In the place of a measurement."""
    run()
    return [0.0, 0.0, 0.0]


def compile_all(session: Session, wanted: Sequence[Case], shapes: Sequence[Shape], precision: str) -> None:
    """The kernels of the checks and of the shapes, in this order, side by side for a while."""
    jobs: list[tuple[Shape, torch.dtype, str]] = [(SMALL, dtype, "highest") for dtype in WITHIN]
    sizes = dict.fromkeys(shape[2:] for shape in shapes)
    jobs += [((1, 256, *size), torch.bfloat16, precision) for size in sizes]
    numbers = [number for number, case in enumerate(cases()) if case in wanted]
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        waiting = {
            pool.submit(warmed, number, *job): f"{cases()[number].name}, {job}"
            for job in jobs
            for number in numbers
        }
        done, late = wait(waiting, timeout=min(COMPILING, session.left / 2))
        for each in late:
            each.cancel()
        for each in done:
            if (why := each.exception()) is not None:
                print(f"{waiting[each]}: not compiled beforehand: {why!r}", file=sys.stderr)


def cases() -> tuple[Case, ...]:
    return (*CASES, *MORE)


def report(session: Session, wanted: Sequence[Case], shapes: Sequence[Shape], precision: str) -> Report:
    """Everything, measured: all cases at the first shape, models, then all cases at the other shapes."""
    facts = rates(session.device, session.bench)
    compared = (
        "the quickest other's time over ours; of scans the share of the rate of copies; of models PyTorch's; of what"
        " was predicted that over what was measured."
    )
    found = Report("gpu", "Rules on a GPU", "", compared)
    against = {case.name: rivals(session, case) for case in wanted}
    for place, shape in enumerate(shapes):
        for case in wanted:
            if has_kernels(case, shape):
                found.add(*measured(session, case, shape, against[case.name], facts["copy"]))
            else:
                session.left_out.append(
                    f"{case.name}, {'x'.join(map(str, shape))}: runs in PyTorch at these sizes"
                )
        if place == 0:
            found.add(*(session.attempt("Griffin", partial(whole, session)) or ()))
    found.about = about(session, facts, precision)
    return found


def about(session: Session, facts: Mapping[str, float], precision: str) -> str:
    told = (
        f"{versions(session.device)}; inputs in bf16, matrix products `{precision}`. In this run copies move"
        f" {facts['copy'] / 1e12:.2f} TB a second and matrix products in bf16 take"
        f" {facts['product'] / 1e12:.0f} TFLOPs."
    )
    for words, those in (("Left out", session.left_out), ("Failed", session.failed)):
        if those:
            told += f"\n\n{words}:\n\n" + "\n".join(f"- {each}" for each in those)
    return told


def bench(run: Callable[[], Any]) -> Sample:
    """Milliseconds."""
    from triton.testing import do_bench

    found: Any = do_bench(run, quantiles=[0.5, 0.25, 0.75])
    middle, low, high = found
    return Sample(float(middle), float(high - low) / 2)


def main() -> int:
    parser = argparse.ArgumentParser(description="Rules as Triton kernels on a GPU.")
    parser.add_argument("--check", action="store_true", help="correctness alone")
    parser.add_argument("--tune", action="store_true", help="measure how kernels are launched")
    parser.add_argument("--precision", default="high", choices=("highest", "high"), help="of matrix products")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="the names of some cases")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that everything may take")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not asked.check:
        print("there is no GPU here: --check with TRITON_INTERPRET=1 proves the kernels without one")
        return 1
    os.environ.setdefault("SEQC_TUNE", "1" if asked.tune else "0")
    wanted = [case for case in cases() if asked.only is None or case.name in asked.only]
    if not wanted:
        print(f"there are the cases {', '.join(repr(case.name) for case in cases())}")
        return 1
    session, shapes = Session(device, bench, asked.seconds), sorted(SHAPES, key=prod)
    if device == "cuda":
        compile_all(session, wanted, [] if asked.check else shapes, asked.precision)
    torch.set_float32_matmul_precision("highest")
    if not checked(wanted, SMALL if device == "cuda" else TINY, device):
        return 1
    if asked.check:
        return 0
    torch.set_float32_matmul_precision(asked.precision)
    report(session, wanted, shapes, asked.precision).write()
    return 1 if any(", ours" in each or "Griffin" in each for each in session.failed) else 0


if __name__ == "__main__":
    sys.exit(main())
