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
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn

import seqc
from seqc.backend import Runner
from seqc.bundled import folder
from seqc.conformance.report import Outcome, Report
from seqc.oracle import run_model
from seqc.runtime import continued, load_runner, throughput
from seqc.spec import ModelHandle

PROMPT = b"    def __init__("
OUT = Path("demo-out")
console = Console(highlight=False)


@dataclass(frozen=True)
class Options:
    """How long, and on how much; the defaults fit two cores and five minutes."""

    seconds: float = 60.0
    batch: int = 8
    length: int = 128
    rate: float = 4e-3
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


def loss_of(model: Any, tokens: Tensor) -> Tensor:
    logits, _ = model(tokens[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def train(model: Any, data: Tensor, options: Options) -> list[float]:
    """AdamW with warm-up and cosine decay over the time that was given; the losses in bits a byte."""
    generator = torch.Generator().manual_seed(options.seed)
    optimiser = torch.optim.AdamW(
        model.parameter_groups(), lr=options.rate, betas=(0.9, 0.95), weight_decay=0.1
    )
    losses: list[float] = []
    columns = (
        TextColumn("  training"),
        BarColumn(),
        TextColumn("{task.fields[shown]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=options.seconds, shown="")
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < options.seconds:
            done = spent / options.seconds
            for group in optimiser.param_groups:
                group["lr"] = (
                    options.rate * min(1.0, (len(losses) + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * done))
                )
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


def title(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def error_of(runner: Runner, reference: Tensor, tokens: Tensor) -> float:
    """How far the logits of the last token are from the oracle's: a relative 2-norm."""
    outputs, _ = runner.prefill(tokens.numpy())
    logits = torch.from_numpy(outputs["logits"][:, -1]).double()
    return float((logits - reference).norm() / reference.norm())


def proof_table(report: Report) -> Table:
    """One row a check, one column a form: the worst error against the oracle."""
    forms = list(dict.fromkeys((outcome.backend, outcome.mode) for outcome in report.outcomes))
    cells = {(o.check, o.backend, o.mode): o for o in report.outcomes}
    table = Table("error of", *(f"{backend}, {mode}" for backend, mode in forms))
    for check in dict.fromkeys(outcome.check for outcome in report.outcomes):
        found = [cells.get((check, *form)) for form in forms]
        if any(outcome is not None and outcome.status != "not applicable" for outcome in found):
            table.add_row(check, *(cell(outcome) for outcome in found))
    return table


def cell(outcome: Outcome | None) -> str:
    if outcome is None or outcome.status == "not applicable":
        return ""
    if outcome.status == "failed":
        return "[red]failed[/red]"
    return f"{outcome.worst.error:.0e}" if outcome.worst else "ok"


def closing_table(columns: list[list[str]]) -> Table:
    table = Table("", "PyTorch", "ONNX Runtime")
    rows = (
        "parameters",
        "state, bytes a sequence",
        "prefill of 512, tokens/s",
        "decode, tokens/s",
        "error against the oracle",
    )
    for name, *cells in zip(rows, *columns, strict=True):
        table.add_row(name, *cells)
    return table


def measured(runner: Runner, facts: dict[str, Any], error: float) -> list[str]:
    prefill, decode = throughput(runner)
    state = facts["states"]["bytes"]
    return [
        f"{facts['parameters']['count']:,}",
        f"{state:,}",
        f"{prefill:,.0f}",
        f"{decode:,.0f}",
        f"{error:.1e}",
    ]


# --- the six acts --------------------------------------------------------------------------------------------------


def compile_it() -> ModelHandle:
    title("1. Compile specs/hybrid/griffin.seq to PyTorch")
    griffin = seqc.load(folder("specs") / "hybrid" / "griffin.seq").model()
    count = griffin.report()["parameters"]["count"]
    console.print(f"  {count:,} parameters; `seqc explain griffin` says what was understood")
    return griffin


def train_it(griffin: ModelHandle, data: Tensor, options: Options) -> dict[str, Tensor]:
    title(f"2. Train the emitted module on Python's standard library for {options.seconds:.0f} seconds")
    model = griffin.torch()
    losses = train(model, data, options)
    console.print(
        f"  {len(losses)} steps: {mean(losses[:10]):.2f} bits a byte at first, {mean(losses[-10:]):.2f} now"
    )
    if mean(losses[-10:]) >= mean(losses[:10]):
        sys.exit("the loss did not fall")
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    OUT.mkdir(exist_ok=True)
    save_file(weights, OUT / "griffin.safetensors")
    return weights


def write_it(griffin: ModelHandle, weights: dict[str, Tensor]) -> None:
    title("3. Write it for PyTorch and for ONNX Runtime, with the trained weights")
    for target in ("torch", "onnx"):
        griffin.write(target, OUT / target, weights=weights)
        console.print(
            f"  {OUT / target}: {', '.join(sorted(path.name for path in (OUT / target).iterdir()))}"
        )


def prove_it(griffin: ModelHandle, weights: dict[str, Tensor]) -> bool:
    title("4. Prove that both compute what the spec says")
    report = seqc.conform(griffin, backends=["torch", "onnx"], weights=weights, fast=True)
    console.print(proof_table(report))
    console.print(f"  {report.summary()}")
    return report.ok


def continue_it(runners: dict[str, Runner], length: int) -> bool:
    title("5. Continue a prompt, greedily")
    made = {name: bytes(continued(runner, PROMPT, length)) for name, runner in runners.items()}
    same = made["PyTorch"] == made["ONNX Runtime"]
    text = (PROMPT + made["ONNX Runtime"]).decode(errors="replace")
    console.print(text, markup=False, style="dim", soft_wrap=True)
    console.print(
        f"  PyTorch and ONNX Runtime {'give the same' if same else 'DIFFER in their'} {length} bytes"
    )
    return same


def sum_it_up(
    griffin: ModelHandle, runners: dict[str, Runner], weights: dict[str, Tensor], tokens: Tensor
) -> None:
    title("6. What came of it")
    facts = griffin.report()
    reference = run_model(griffin.whole, tokens, weights)[0][0][:, -1]
    columns = [measured(runner, facts, error_of(runner, reference, tokens)) for runner in runners.values()]
    console.print(closing_table(columns))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="how long to train")
    parser.add_argument("--length", type=int, default=120, help="how many bytes to continue the prompt by")
    arguments = parser.parse_args()
    options, start, data = Options(seconds=arguments.seconds), time.perf_counter(), corpus()
    torch.manual_seed(options.seed)

    griffin = compile_it()
    weights = train_it(griffin, data, options)
    write_it(griffin, weights)
    proven = prove_it(griffin, weights)
    runners = {"PyTorch": load_runner(OUT / "torch"), "ONNX Runtime": load_runner(OUT / "onnx")}
    same = continue_it(runners, arguments.length)
    sum_it_up(griffin, runners, weights, data[: 2 * options.length].long()[None])
    console.print(f"  {time.perf_counter() - start:.0f} seconds in all; everything is in {OUT}/")
    console.print(f"  next:  .venv/bin/seqc run {OUT}/onnx --prompt 'class '")
    return 0 if same and proven else 1


if __name__ == "__main__":
    sys.exit(main())
