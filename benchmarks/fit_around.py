"""Fits what chooses how a block's elementwise operations run: the last constants of backends/cpu/runtime/cost.py.

    python -m benchmarks.fit_around measure   # writes benchmarks/results/cpu_around.json
    python -m benchmarks.fit_around           # prints the constants that fit it best

Parts of the blocks of the specs, as units and as PyTorch's operations, one after another, forward and training, one
thread, fp32; medians of processor time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import seqc
from benchmarks.fit_cpu import Row, drawn, median, show
from seqc.bundled import folder
from seqc.ir.expr import Expr
from seqc.ir.paths import instances
from seqc.ir.program import Function
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import substitute

if TYPE_CHECKING:
    from backends.cpu.cost import region_work  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.cpu.module import between  # noqa: TID251
    from backends.cpu.regions import regions  # noqa: TID251
    from backends.cpu.runtime import cost  # noqa: TID251
    from backends.torch import rule as in_torch  # noqa: TID251
else:
    from seqc.backends.cpu.cost import region_work
    from seqc.backends.cpu.module import between
    from seqc.backends.cpu.regions import regions
    from seqc.backends.cpu.runtime import cost
    from seqc.backends.torch import rule as in_torch

TABLE = Path(__file__).parent / "results" / "cpu_around.json"
# Spec, settings of its model.
CASES: tuple[tuple[str, dict[str, int]], ...] = (
    ("linear/mamba2", {"d": 128, "layers": 1}),
    ("linear/mamba2", {"d": 768, "p": 64, "n": 128, "layers": 1}),
    ("linear/rwkv6", {"d": 384, "layers": 1}),
    ("hybrid/griffin", {"d": 256, "w": 384, "layers": 1}),
    ("attention/llama", {}),
)
TOKENS = (16, 128, 512, 2048)


def parts(path: str, settings: Mapping[str, int]) -> list[Recurrence]:
    """The parts of a model's blocks, each once."""
    model = seqc.load(folder("specs") / f"{path}.seq").model(**settings)
    owners = dict.fromkeys(instance.owner for instance in instances(model.whole))
    return [region.rule for owner in owners if isinstance(owner, Function) for region in regions(owner)]


def alone(rule: Recurrence) -> Any:
    """PyTorch's operations of a part, which takes the values that it looks back on as further inputs."""
    before = [state.leaf for state in rule.states]
    inputs = [replace(leaf, kind=rule.inputs[0].kind, name=f"before{k}") for k, leaf in enumerate(before)]
    known: dict[Expr, Expr] = dict(zip(before, inputs, strict=True))
    outputs = substitute(rule.outputs, known)
    plain = replace(rule, inputs=(*rule.inputs, *inputs), states=(), updates=(), outputs=outputs, names=())
    return in_torch(plain, mode="step"), plain


def timed(outputs: Callable[[], Any], training: bool) -> float:
    def run() -> None:
        with torch.set_grad_enabled(training):
            found = outputs()
            if training:
                torch.autograd.backward(list(found), [torch.ones_like(x) for x in found])

    return float(f"{median(run):.3g}")


def measured(rule: Recurrence) -> Iterator[Row]:
    draw = torch.Generator().manual_seed(0)
    for time in TOKENS:
        for training in (False, True):
            yield {"time": time, "training": training} | both(rule, time, training, draw)


def both(rule: Recurrence, time: int, training: bool, draw: torch.Generator) -> Row:
    """Seconds of a unit and of PyTorch."""
    module, plain = alone(rule)
    fused = between("", 0.0, rule, region_work(rule))
    values = [drawn(leaf, rule.sizes, (1, time), draw).requires_grad_(training) for leaf in plain.inputs]
    given = [drawn(p.leaf, rule.sizes, (), draw).requires_grad_(training) for p in rule.parameters]
    for parameter, value in zip(rule.parameters, given, strict=True):
        *path, last = parameter.name.split(".")
        owner = module
        for part in path:
            owner = owner[part]
        owner._parameters[last] = torch.nn.Parameter(value.detach().clone())
    states = {state.name: torch.zeros(1, *(rule.sizes[a] for a in state.axes)) for state in rule.states}
    count = len(rule.inputs)
    flat: list[Tensor] = [x.detach()[0].requires_grad_(training) for x in values]
    return {
        "loop": timed(lambda: fused.sequence(states, None, values[:count], given, (1, time))[0], training),
        "torch": timed(lambda: module.token({}, *flat)[0], training),
    }


def measure() -> None:
    torch.set_num_threads(1)
    found: list[Row] = []
    for path, settings in CASES:
        for number, rule in enumerate(parts(path, settings)):
            names = {"spec": path, "settings": settings, "part": number}
            found += [names | row for row in measured(rule)]
            print(path, settings, rule.name, flush=True)
    lines = ",\n".join(json.dumps(row) for row in found)
    TABLE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def fit() -> None:
    rows: list[Row] = json.loads(TABLE.read_text(encoding="utf-8"))
    known = {str(case): [region_work(rule) for rule in parts(*case)] for case in CASES}
    works = [known[str((row["spec"], row["settings"]))][row["part"]] for row in rows]
    for training in (False, True):
        some = [(row, own) for row, own in zip(rows, works, strict=True) if row["training"] is training]
        word = "TRAINING" if training else "FORWARD"
        loop = [cost.loop_counts(own, 1, row["time"]) for row, own in some]
        show(f"PART_{word}", loop, [row["loop"] for row, _ in some])
        counts = [
            cost.torch_counts([*own.forward, *(own.backward if training else ())], 1, row["time"])
            for row, own in some
        ]
        show(f"AROUND_{word}", counts, [row["torch"] for row, _ in some])
    for row, own in zip(rows, works, strict=True):
        chosen = row["loop" if cost.spared(own, 1, row["time"], row["training"]) > 0 else "torch"]
        if chosen > 1.1 * min(row["loop"], row["torch"]):
            print(f"{chosen / min(row['loop'], row['torch']):.2f}x", row)


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    else:
        fit()
