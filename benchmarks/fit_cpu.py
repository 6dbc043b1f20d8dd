"""Fits what chooses between fused loops and PyTorch's schedules: the constants of backends/cpu/runtime/cost.py.

    python -m benchmarks.fit_cpu measure   # adds what is missing to benchmarks/results/cpu_cost.json
    python -m benchmarks.fit_cpu           # prints the constants that fit it best, and how good the choices are

Rules of the specs, forward and training, sequences and single tokens, one thread, fp32; medians of processor time.
Times are fitted by their relative error, with weights that are not negative.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import seqc
from seqc.backend import Scheduled, backend
from seqc.bundled import folder
from seqc.ir.expr import DType, Leaf
from seqc.ir.paths import instances
from seqc.ir.recurrence import Recurrence
from seqc.passes.schedule import schedule

if TYPE_CHECKING:
    from backends.cpu.cost import work  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.cpu.runtime import cost  # noqa: TID251
    from backends.cpu.runtime.cost import Work  # noqa: TID251
else:
    from seqc.backends.cpu.cost import work
    from seqc.backends.cpu.runtime import cost
    from seqc.backends.cpu.runtime.cost import Work

TABLE = Path(__file__).parent / "results" / "cpu_cost.json"
SECONDS = 0.04  # of measuring, each
PATIENCE = 300.0  # of measuring in one run: it goes on where it stopped
ROUNDS = 20_000  # of fitting
Row = dict[str, Any]

# Spec, rule, settings of its model; the sequences that run together, and their tokens (None: a single one).
SHAPES = ((1, None), (16, None), (1, 2), (1, 8), (1, 64), (1, 1024), (16, 64))
LARGE = ((1, None), (32, None), (1, 64), (16, 64), (64, 32))
CASES: tuple[tuple[str, str, dict[str, int], tuple[tuple[int, int | None], ...]], ...] = (
    ("nonlinear/elman", "elman", {}, SHAPES),
    ("nonlinear/elman", "elman", {"d": 1024}, LARGE),
    ("nonlinear/mgu", "mgu", {"d": 512}, LARGE),
    ("nonlinear/nas_cell", "nas_cell", {}, SHAPES),
    ("nonlinear/para_gru", "para_gru", {}, SHAPES),
    ("nonlinear/rhn", "rhn", {}, LARGE),
    ("xlstm/slstm", "slstm", {}, SHAPES),
    ("attention/aaren", "aaren", {}, SHAPES),
    ("complex/gateloop", "gate_loop", {}, SHAPES),
    ("complex/s4d", "s4d", {}, SHAPES),
    ("complex/s5", "s5", {}, SHAPES),
    ("deep/mesanet", "mesa", {}, SHAPES),
    ("deep/titans", "titans", {}, SHAPES),
    ("deep/ttt", "ttt_linear", {}, SHAPES),
    ("delta/gated_delta", "gated_delta", {}, SHAPES),
    ("delta/kda", "kda", {}, SHAPES),
    ("delta/rwkv7", "rwkv7", {}, SHAPES),
    ("fast/delta_rnn", "delta_rnn", {}, SHAPES),
    ("fast/fade", "fade", {}, SHAPES),
    ("fast/lattice", "lattice_decoding", {}, SHAPES),
    ("fast/srwm", "srwm", {}, SHAPES),
    ("gated/lru", "lru", {}, SHAPES),
    ("gated/mamba", "selective_scan", {}, SHAPES),
    ("gated/mingru", "mingru", {}, SHAPES),
    ("hybrid/griffin", "rg_lru", {}, SHAPES),
    ("linear/based", "taylor_attention", {}, SHAPES),
    ("linear/gla", "gla", {}, SHAPES),
    ("linear/mamba2", "mamba2", {}, SHAPES),
    ("linear/retnet", "retain", {}, SHAPES),
    ("linear/rwkv6", "shift", {}, SHAPES),
    ("nonlinear/bilinear", "bilinear_unit", {}, SHAPES),
    ("nonlinear/indrnn", "indrnn", {}, SHAPES),
    ("nonlinear/sru", "sru", {}, SHAPES),
)


def recurrence(path: str, rule: str, settings: Mapping[str, int]) -> Recurrence:
    """A rule as the spec's model uses it, or on its own at its default sizes."""
    spec = seqc.load(folder("specs") / f"{path}.seq")
    if not spec.models:
        return spec.rule(rule, **{**spec.checked.default_sizes(rule), **settings}).recurrence
    owners = (instance.owner for instance in instances(spec.model(**settings).whole))
    return next(owner for owner in owners if isinstance(owner, Recurrence) and owner.name == rule)


def drawn(leaf: Leaf, sizes: Mapping[str, int], lead: tuple[int, ...], draw: torch.Generator) -> Tensor:
    x = 0.01 + 0.3 * torch.rand(*lead, *(sizes[axis] for axis in leaf.axes), generator=draw)
    if leaf.dtype is DType.COMPLEX:
        return torch.complex(x, x)
    return x if leaf.dtype is DType.REAL else x > 0.15


def median(run: Callable[[], object]) -> float:
    """Seconds of processor time."""
    run()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < SECONDS and len(times) < 15):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
        if sum(times) > 10 * SECONDS:
            break
    return statistics.median(times)


def runs(module: Any, inputs: Mapping[str, Tensor], training: bool, step: bool) -> Callable[[], object]:
    """One call of a rule's module, with the gradient if asked."""
    state = module.init_state(next(iter(inputs.values())).shape[0])

    def run() -> None:
        with torch.set_grad_enabled(training):
            found = module.step(**inputs, state=state) if step else module(**inputs, state=state)
            if training:
                outputs: list[Tensor] = list(found[0]) if isinstance(found[0], tuple) else [found[0]]
                torch.stack([x.abs().sum() if x.is_complex() else x.sum() for x in outputs]).sum().backward()

    return run


def measured(rec: Recurrence, shapes: tuple[tuple[int, int | None], ...]) -> Iterator[Row]:
    """Both ways of a rule."""
    program, draw = Scheduled(rec, schedule), torch.Generator().manual_seed(0)
    ways: list[Any] = [getattr(backend(target), "module")(program) for target in ("cpu", "torch")]  # noqa: B009
    ways[0].fused.forced = True
    for batch, tokens in shapes:
        lead = (batch,) if tokens is None else (batch, tokens)
        for training in (False, True):
            inputs = {leaf.name: drawn(leaf, rec.sizes, lead, draw) for leaf in rec.inputs}
            for x in inputs.values():
                x.requires_grad_(training and x.dtype is not torch.bool)
            loop, other = (median(runs(way, inputs, training, tokens is None)) for way in ways)
            times = {"loop": float(f"{loop:.3g}"), "torch": float(f"{other:.3g}")}
            yield {"batch": batch, "time": tokens, "training": training, **times}


def table() -> list[Row]:
    """What has been measured."""
    return json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else []


def measure() -> None:
    """Add what is missing to the table."""
    torch.set_num_threads(1)
    known = {(row["spec"], row["rule"], tuple(row["settings"].items())) for row in table()}
    start = time.perf_counter()
    for path, rule, settings, shapes in CASES:
        if (path, rule, tuple(settings.items())) in known:
            continue
        if time.perf_counter() - start > PATIENCE:
            print("there is more to measure: run it again")
            return
        names = {"spec": path, "rule": rule, "settings": settings}
        found = [names | row for row in measured(recurrence(path, rule, settings), shapes)]
        lines = ",\n".join(json.dumps(row) for row in (*table(), *found))
        TABLE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        print(path, rule, settings, flush=True)


def works(rows: list[Row]) -> list[Work]:
    """What each row measured, in counts."""
    known: dict[tuple[str, str, str], Work] = {}
    for row in rows:
        key = (row["spec"], row["rule"], str(row["settings"]))
        if key not in known:
            known[key] = work(schedule(recurrence(row["spec"], row["rule"], row["settings"])))
    return [known[row["spec"], row["rule"], str(row["settings"])] for row in rows]


def fitted(counts: list[list[float]], seconds: list[float]) -> cost.Weights:
    """The weights of least squares of the relative errors that are not negative (Lee and Seung, 2001)."""
    found = np.array([[1.0, *own] for own in counts]) / np.array(seconds)[:, None]
    scale = np.maximum(np.abs(found).max(0), 1e-300)
    found /= scale
    weights, wanted, square = np.full(found.shape[1], 1e-3), found.sum(0), found.T @ found
    for _ in range(ROUNDS):
        weights *= wanted / np.maximum(square @ weights, 1e-300)
    weights = np.where(weights < 1e-9, 0.0, weights) / scale
    return cost.Weights(float(weights[0]), tuple(map(float, weights[1:])))


def fit() -> None:
    """Print the constants, how far predictions with them are off, and which choices are worse than they should be."""
    rows = table()
    pairs = list(zip(rows, works(rows), strict=True))
    for training in (False, True):
        some = [(row, own) for row, own in pairs if row["training"] is training]
        several = [(row, own) for row, own in some if row["time"] is not None]
        single = [(row, own) for row, own in some if row["time"] is None]
        word = "TRAINING" if training else "FORWARD"
        loop = [cost.loop_counts(own, row["batch"], row["time"] or 1) for row, own in some]
        show(f"LOOP_{word}", loop, [row["loop"] for row, _ in some])
        parts = [[*own.forward, *(own.backward if training else ())] for _, own in several]
        whole = [
            cost.torch_counts(p, row["batch"], row["time"])
            for p, (row, _) in zip(parts, several, strict=True)
        ]
        show(f"TORCH_{word}", whole, [row["torch"] for row, _ in several])
        token = [cost.torch_counts(own.token, row["batch"], 1) for row, own in single]
        show(f"TOKEN_{word}", token, [row["torch"] for row, _ in single])


def show(name: str, counts: list[list[float]], seconds: list[float]) -> None:
    found = fitted(counts, seconds)
    off = [abs(math.log(cost.weighed(found, own) / real)) for own, real in zip(counts, seconds, strict=True)]
    setattr(cost, name, found)
    shown = ", ".join(f"{weight:.2g}" for weight in found.counts)
    print(f"{name} = Weights({found.call:.2g}, ({shown}))")
    print(
        f"    # off by a factor of {math.exp(statistics.mean(off)):.2f} on average, {math.exp(max(off)):.1f} at most"
    )


def check() -> None:
    """Which choices cost more than they have to."""
    rows = table()
    for row, own in zip(rows, works(rows), strict=True):
        chosen = (
            row["loop"] if cost.saved(own, row["batch"], row["time"], row["training"]) > 0 else row["torch"]
        )
        lost = chosen / min(row["loop"], row["torch"])
        if lost > 1.1:
            print(f"{lost:.2f}x", row)


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    else:
        fit()
        check()
