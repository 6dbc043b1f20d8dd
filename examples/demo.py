"""`make demo`: from a spec to a trained model in ONNX Runtime, with a proof on the way.

Compiles specs/hybrid/griffin.seq (a byte-level Griffin) to PyTorch, trains the emitted module for a minute on the
source of Python's standard library, checks the trained model against the definition, exports it, and continues a
prompt in ONNX Runtime: the same bytes as in PyTorch.
"""

from __future__ import annotations

import argparse
import math
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn

import seqc
from seqc.bundled import folder
from seqc.runtime import Runner, continued, load_runner, throughput

PROMPT = b"import os\n\ndef main(argv):\n    "
OUT = Path("demo-out")
console = Console(highlight=False)


@dataclass(frozen=True)
class Options:
    """How long, and on how much; the defaults fit two cores and five minutes."""

    seconds: float = 60.0
    batch: int = 16
    length: int = 128
    rate: float = 3e-3
    seed: int = 0


def corpus() -> Tensor:
    """The standard library's source as one long row of bytes: text that every machine with Python has."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.glob("*.py") if path.is_file())
    text = b"\n".join(path.read_bytes() for path in files)
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def batches(data: Tensor, options: Options, generator: torch.Generator) -> Tensor:
    """Random windows `[batch, length + 1]`; targets are the same bytes one later."""
    starts = torch.randint(len(data) - options.length - 1, (options.batch, 1), generator=generator)
    return data[starts + torch.arange(options.length + 1)].long()


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    logits, _ = model(tokens[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train(model: nn.Module, data: Tensor, options: Options) -> list[float]:
    """AdamW with warm-up and cosine decay over the time that was given; the losses in bits a byte."""
    generator = torch.Generator().manual_seed(options.seed)
    optimiser = torch.optim.AdamW(model.parameter_groups(weight_decay=0.1), lr=options.rate, betas=(0.9, 0.95))
    losses: list[float] = []
    columns = (TextColumn("  training"), BarColumn(), TextColumn("{task.fields[shown]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=options.seconds, shown="")
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < options.seconds:
            done = spent / options.seconds
            for group in optimiser.param_groups:
                group["lr"] = options.rate * min(1.0, (len(losses) + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * done))
            loss = loss_of(model, batches(data, options, generator))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item() / math.log(2))
            shown = f"step {len(losses):4}  {mean(losses[-10:]):.3f} bits a byte"
            progress.update(task, completed=spent, shown=shown)
        progress.update(task, completed=options.seconds)
    return losses


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
