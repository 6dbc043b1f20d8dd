"""Fits what chooses between tokens and blocks of tokens in fused loops: the weights of backends/cpu/effort.py.

    python -m benchmarks.fit_blocks measure   # writes benchmarks/results/cpu_blocks.json
    python -m benchmarks.fit_blocks           # prints the weights that fit it best, and how good the choices are

Matrix memories of several sizes, 4 heads, 1,024 tokens, fp32, one thread; medians of processor time, both ways in turn.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import seqc
from benchmarks.cpu import RULES
from benchmarks.fit_cpu import fitted
from seqc.ir.recurrence import Recurrence

if TYPE_CHECKING:
    from backends.cpu import effort  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.cpu.effort import Efforts, efforts, efforts_in_blocks  # noqa: TID251
    from backends.cpu.layout import choose  # noqa: TID251
    from backends.cpu.module import by_blocks  # noqa: TID251
    from backends.cpu.program import program  # noqa: TID251
    from backends.cpu.runtime.cost import weighed  # noqa: TID251
else:
    from seqc.backends.cpu import effort
    from seqc.backends.cpu.effort import Efforts, efforts, efforts_in_blocks
    from seqc.backends.cpu.layout import choose
    from seqc.backends.cpu.module import by_blocks
    from seqc.backends.cpu.program import program
    from seqc.backends.cpu.runtime.cost import weighed

TABLE = Path(__file__).parent / "results" / "cpu_blocks.json"
SIZES = ((16, 16), (32, 32), (64, 64), (128, 64), (128, 128))
HEADS, TOKENS, ROUNDS = 4, 1024, 9
Row = dict[str, Any]


def recurrence(title: str, n: int, m: int) -> Recurrence:
    """A rule with `HEADS` heads."""
    head, body = RULES[title][0].split(") {", 1)
    head = re.sub(r"(\w+)\[", r"\1[h, ", head)
    head = re.sub(r", (\w+)(?=,|$)", r", \1[h]", head)
    text = f"{head}) {{{body.replace('state  S[', 'state  S[h, ')}"
    return seqc.loads(text).rule(n=n, m=m, h=HEADS).recurrence


def both(rec: Recurrence) -> tuple[Efforts, Efforts]:
    """What a token takes, alone and in a block."""
    made = program(rec)
    alone = replace(made, block=None)
    return efforts(alone, choose(alone)), efforts_in_blocks(made, choose(made))


def _runs(rec: Recurrence, blocks: bool) -> dict[str, Callable[[], object]]:
    """A rule's call, and with its gradient."""
    draw, inputs, module = torch.Generator().manual_seed(0), dict[str, Tensor](), by_blocks(rec, blocks)
    for leaf in rec.inputs:
        x = torch.rand(1, TOKENS, *(rec.sizes[axis] for axis in leaf.axes), generator=draw)
        inputs[leaf.name] = (x / rec.sizes["n"] if leaf.name in "kab" else x).requires_grad_()

    def forward() -> object:
        with torch.no_grad():
            return module(**inputs)

    def training() -> object:
        out = module(**inputs)[0]
        return torch.autograd.grad(out, list(inputs.values()), torch.ones_like(out))

    return {"forward": forward, "training": training}


def measure() -> None:
    """Write the table."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    for title in RULES:
        for n, m in SIZES:
            rec = recurrence(title, n, m)
            ways = {"loop": _runs(rec, False), "blocks": _runs(rec, True)}
            for kind in ("forward", "training"):
                times: dict[str, list[float]] = {way: [] for way in ways}
                for _ in range(ROUNDS):
                    for way, runs in ways.items():
                        start = time.process_time()
                        runs[kind]()
                        times[way].append(time.process_time() - start)
                found = {way: float(f"{statistics.median(own):.3g}") for way, own in times.items()}
                rows.append({"rule": title, "n": n, "m": m, "training": kind == "training", **found})
                print(rows[-1], flush=True)
    TABLE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")


def table() -> list[Row]:
    """What has been measured."""
    rows: list[Row] = json.loads(TABLE.read_text(encoding="utf-8"))
    return rows


def counts(row: Row, way: str) -> list[float]:
    """What the weights apply to: the call with gradients and what it hands over, then the efforts."""
    rec = recurrence(row["rule"], row["n"], row["m"])
    own = both(rec)[way == "blocks"]
    total = own.forward.plus(own.backward) if row["training"] else own.forward
    handed = sum(prod(rec.sizes[axis] for axis in leaf.axes) for leaf in rec.inputs)
    return [row["training"], row["training"] * handed, *(TOKENS * count for count in total)]


def fit() -> None:
    """Print the weights, how far predictions with them are off, and which choices are worse than they should be."""
    rows = [(row, way) for row in table() for way in ("loop", "blocks")]
    found, seconds = [counts(row, way) for row, way in rows], [row[way] for row, way in rows]
    weights = fitted(found, seconds)
    off = [math.log(weighed(weights, own) / real) for own, real in zip(found, seconds, strict=True)]
    shown = ", ".join(f"{weight:.2g}" for weight in weights.counts[2:])
    print(f"WEIGHTS = ({shown})")
    print(f"    # off by a factor of {math.exp(statistics.mean(map(abs, off))):.2f} on average")
    effort.WEIGHTS = (weights.counts[2], weights.counts[3], weights.counts[4])
    for row in table():
        alone, together = both(recurrence(row["rule"], row["n"], row["m"]))
        sides = [sum(x.seconds for x in (own if row["training"] else own[:1])) for own in (alone, together)]
        chosen = row["loop" if sides[0] < sides[1] else "blocks"]
        lost = chosen / min(row["loop"], row["blocks"])
        if lost > 1.1:
            print(f"{lost:.2f}x", row, f"{sides[0] / sides[1]:.2f}")


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    else:
        fit()
