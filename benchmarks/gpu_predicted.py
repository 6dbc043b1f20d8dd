"""What kernels take, compiled for an H200 without one, and how long they should run there, by `gpu_model`.

    python -m benchmarks.gpu_predicted               # results/gpu-predicted.json and .md; a quarter of an hour
    python -m benchmarks.gpu_predicted --within 60   # compiles for so many seconds, and goes on from there next time

What kernels take is kept in results/gpu-taken.json, by digest; of those that are not there yet it is assumed how many
programs a multiprocessor holds.  `benchmarks.gpu` shows what was predicted beside what it measures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from benchmarks.gpu_cases import CASES, MORE, SHAPES, Case, recurrence
from benchmarks.gpu_model import ASSUMED, Prediction, Run, predictions, resident
from benchmarks.report import RESULTS
from seqc.backend import Scheduled
from seqc.passes.schedule import schedule
from tools.kernels.record import VERSION, Taken
from tools.kernels.units import Work

if TYPE_CHECKING:
    from backends.triton import aot, aot_reads  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.module import reads, units  # noqa: TID251
    from backends.triton.runtime.attention import ReadKernels  # noqa: TID251
else:
    from seqc.backends.triton import aot, aot_reads
    from seqc.backends.triton.module import reads, units
    from seqc.backends.triton.runtime.attention import ReadKernels

Kernels = list[dict[str, Taken]]
TARGET = "sm_90"
KEPT, WRITTEN = RESULTS / "gpu-taken.json", RESULTS / "gpu-predicted.json"


class Compiler:
    """Compiles what is not known yet, for at most so many seconds; keeps what kernels take on disk."""

    def __init__(self, seconds: float) -> None:
        self.end = monotonic() + seconds
        data = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
        kept = data["kernels"] if data.get("version") == VERSION else {}
        self.known = {digest: Taken(*facts) for digest, facts in kept.items()}
        self.used = dict[str, Taken]()
        self.asked = 0

    def taken(self, sources: Iterable[aot.Source]) -> dict[str, Taken]:
        """By the names of kernels."""
        found: dict[str, Taken] = {}
        for source in sources:
            work, self.asked = Work("", source.kernel, TARGET, source.dtype, source), self.asked + 1
            if work.digest not in self.known and monotonic() < self.end:
                self.known[work.digest] = work.compiled()
                keep(self.known)
            if work.digest in self.known:
                found[source.kernel] = self.used[work.digest] = self.known[work.digest]
        return found


def keep(taken: Mapping[str, Taken]) -> None:
    lines = [f"{json.dumps(digest)}: {json.dumps(facts)}" for digest, facts in sorted(taken.items())]
    text = ",\n".join(lines)
    KEPT.write_text(f'{{"version": {VERSION}, "kernels": {{\n{text}\n}}}}\n', encoding="utf-8")


def compiled(rule: Any, compiler: Compiler) -> Kernels:
    """What runs: the kernels of each stage, or else those of the loop."""
    (target,) = aot.targets(TARGET)
    sources = list(aot.sources(rule, target, "bfloat16"))
    names = [stage.kernels.name for stage in rule.stages] or [rule.name]
    return [compiler.taken(each for each in sources if each.name == name) for name in names]


def compiled_reads(unit: ReadKernels, compiler: Compiler) -> dict[str, Taken]:
    """What the kernels of a rule with growing stores take."""
    (target,) = aot.targets(TARGET)
    return compiler.taken(aot_reads.sources(unit, target, "bfloat16"))


def examined(case: Case, compiler: Compiler) -> tuple[list[tuple[str, str, Taken]], list[Prediction]]:
    """What the kernels of a case take, and how long they should run at every shape where it has some."""
    taken, found = list[tuple[str, str, Taken]](), list[Prediction]()
    known = dict[int, list[tuple[Any, Kernels]]]()  # of each size a rule with its kernels, if it has some
    for shape in SHAPES:
        size = shape[-1]
        if size not in known:  # heads are apart: so many take so many times what one takes
            program = Scheduled(recurrence(case, 1, size), schedule)
            rules, stores = units(program, "a benchmark"), reads(program, "a benchmark")
            known[size] = [(rule, compiled(rule, compiler)) for rule in rules.values()]
            known[size] += [
                (store.kernels, [compiled_reads(store.kernels, compiler)]) for store in stores.values()
            ]
            each = (kernels for _, made in known[size] for kernels in made)
            taken += [(f"{case.name}, {size}", *item) for part in each for item in part.items()]
        for rule, made in known[size]:
            found += predictions(Run(case.name, shape, rule, made))
    return taken, found


def told(found: Iterable[Mapping[str, Any]]) -> dict[tuple[str, tuple[int, ...]], tuple[float, float]]:
    """Milliseconds of each case at each shape: forward, and with the backward pass, where all is made again."""
    times = dict[tuple[str, tuple[int, ...]], tuple[float, float]]()
    for x in found:
        key = x["case"], tuple(x["shape"])
        forward, both = times.get(key, (0.0, 0.0))
        again = x["backward"] or x["kernel"] == "prepare"
        first, second = (0.0 if x["backward"] else x["seconds"]), (x["seconds"] if again else 0.0)
        times[key] = forward + 1e3 * first, both + 1e3 * (first + second)
    return times


def written() -> dict[tuple[str, tuple[int, ...]], tuple[float, float]]:
    """What was predicted before, as `told`; nothing where nothing was."""
    return told(json.loads(WRITTEN.read_text(encoding="utf-8"))) if WRITTEN.is_file() else {}


def data(found: Iterable[Prediction]) -> list[dict[str, Any]]:
    """As JSON."""
    return [{**asdict(x), "seconds": x.seconds, "bound": x.bound} for x in found]


def sums(found: list[Prediction]) -> list[str]:
    """Milliseconds of each case at each shape: forward, and with the backward pass, where all is made again."""
    lines = [
        "| case | B x T x H x D | forward, ms | both, ms | bound of the longest kernel |",
        "| --- " * 5 + "|",
    ]
    for (name, shape), times in told(data(found)).items():
        longest = max((x for x in found if (x.case, x.shape) == (name, shape)), key=lambda x: x.seconds)
        cells = (
            name,
            "x".join(map(str, shape)),
            *(f"{x:.3f}" for x in times),
            f"{longest.kernel}: {longest.bound}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description="What kernels take, and how long they should run on an H200."
    )
    parser.add_argument("--only", help="the name of one case")
    parser.add_argument(
        "--within", type=float, default=inf, metavar="SECONDS", help="how long kernels are compiled"
    )
    asked = parser.parse_args()
    taken, found, compiler = list[tuple[str, str, Taken]](), list[Prediction](), Compiler(asked.within)
    for case in (*CASES, *MORE):
        if asked.only in (None, case.name):
            more = examined(case, compiler)
            taken, found = taken + more[0], found + more[1]
    print("\n".join(sums(found)))
    if asked.only is None:
        RESULTS.mkdir(exist_ok=True)
        keep(compiler.used)
        WRITTEN.write_text("[\n" + ",\n".join(map(json.dumps, data(found))) + "\n]\n")
        (RESULTS / "gpu-predicted.md").write_text("\n".join(page(taken, found, compiler.asked)) + "\n")
    return 0


def page(taken: list[tuple[str, str, Taken]], found: list[Prediction], kernels: int) -> list[str]:
    rooms = f"{len(taken)} of {kernels} kernels were compiled for {TARGET}"
    if len(taken) < kernels:
        rooms += f"; of the others a multiprocessor is taken to hold {ASSUMED} programs"
    return [
        "# Kernels on an H200, predicted", "",
        f"No GPU was at hand. Times follow from what kernels move and compute; {rooms}.",
        "`python -m benchmarks.gpu_predicted` says how; `python -m benchmarks.gpu` measures.", "",
        *sums(found),
        "", "## What kernels take", "", "Behind the name of a case the entries of keys and values.", "",
        *table(taken),
    ]  # fmt: skip


def table(taken: list[tuple[str, str, Taken]]) -> list[str]:
    head = (
        "case",
        "kernel",
        "warps",
        "stages",
        "tile",
        "registers",
        "spills",
        "shared",
        "matrix instructions",
        "programs at once",
    )
    rows = [(name, kernel, *made[1:], resident(made)) for name, kernel, made in taken]
    return [f"| {' | '.join(map(str, cells))} |" for cells in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    raise SystemExit(main())
