"""What kernels take, compiled for an H200 without one, and how long they should run there.

    python -m benchmarks.gpu_predicted               # results/gpu-predicted.json and .md; a quarter of an hour
    python -m benchmarks.gpu_predicted --within 60   # compiles for so many seconds, and goes on from there next time

What kernels take is kept in results/gpu-taken.json, by digest; of those that are not there yet it is assumed how many
programs a multiprocessor holds.

A kernel takes the longest of three times.  Memory: what is read and written once, at the rate that copies reach.
Products: operations of matrix products at half of the tensor cores' rate, on as many multiprocessors as have a program.
Chain: what has to follow one another, where a program goes through time; programs that find no place wait their turn.
Gradients that several programs share are counted as often as they are written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import ceil, inf, prod
from time import monotonic
from typing import TYPE_CHECKING, Any

from benchmarks.gpu import CASES, SHAPES, Case, recurrence
from benchmarks.report import RESULTS
from seqc.backend import Scheduled
from seqc.passes.schedule import schedule
from tools.kernels.record import VERSION, Taken
from tools.kernels.units import Work

if TYPE_CHECKING:
    from backends.triton import aot  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.module import units  # noqa: TID251
else:
    from seqc.backends.triton import aot
    from seqc.backends.triton.module import units

SMS, THREADS, REGISTERS, SHARED, PLACES = (
    132,
    2048,
    65536,
    227 * 1024,
    32,
)  # of a multiprocessor, but the first
COPY = 0.9 * 4.8e12  # bytes a second
PRODUCTS = 0.5 * 494e12  # operations of TF32 a second
LAUNCH = 3e-6  # seconds that a kernel costs besides
TOKEN, BLOCK = 0.15e-6, 1.5e-6  # seconds of a token of a loop whose inputs are at hand, and of a block
ASSUMED = 2  # programs that a multiprocessor holds, of a kernel that was not compiled
WIDTH = 2  # bytes of an input and of an output of a loop: bf16


Kernels = list[dict[str, Taken]]
TARGET = "sm_90"
KEPT = RESULTS / "gpu-taken.json"


@dataclass(frozen=True)
class Prediction:
    """A kernel at a shape: seconds of each kind, and the longest with what a launch costs."""

    case: str
    shape: tuple[int, ...]
    kernel: str
    backward: bool
    memory: float
    products: float
    chain: float
    resident: int  # programs that a multiprocessor holds

    @property
    def seconds(self) -> float:
        return LAUNCH + max(self.memory, self.products, self.chain)

    @property
    def bound(self) -> str:
        return max(("memory", "products", "chain"), key=lambda kind: getattr(self, kind))


def resident(made: Taken) -> int:
    """How many programs of a kernel a multiprocessor holds."""
    threads = made.warps * 32
    registers = -(-max(made.registers, 16) // 8) * 8 * threads
    return max(1, min(REGISTERS // registers, SHARED // max(made.shared, 1024), THREADS // threads, PLACES))


@dataclass(frozen=True)
class Run:
    """A case at a shape, the rule with one head, and its kernels by name, of its loop or of each of its stages.

    Those that were not compiled are not there.
    """

    case: str
    shape: tuple[int, ...]
    rule: Any
    made: Kernels

    def predicted(
        self,
        kernel: str,
        code: Mapping[str, Taken],
        moved: float,
        products: float,
        programs: int,
        step: float,
    ) -> Prediction:
        """Of a kernel that moves so many bytes a head; `step` are seconds of what a program does one after another."""
        heads = self.shape[2]
        moved, products, programs = moved * heads, products * heads, programs * heads
        room = resident(code[kernel]) if kernel in code else ASSUMED
        share = min(1.0, programs / SMS)
        turns = ceil(programs / (SMS * room))
        memory, computing = moved / (COPY * share), products / (PRODUCTS * share)
        backward = "back" in kernel or "differentiate" in kernel
        return Prediction(self.case, self.shape, kernel, backward, memory, computing, turns * step, room)


def of_loop(run: Run) -> Iterator[Prediction]:
    batch, time = run.shape[:2]
    face, (code,) = run.rule.kernel.interface, run.made
    inputs, outputs = (WIDTH * sum(prod(p.shape) for p in ports) for ports in (face.inputs, face.outputs))
    states = 4 * sum(prod(p.shape) for p in face.states) / face.segment
    for kernel in aot.LOOP:
        cut, back = launched(face, code.get(kernel)), kernel == "backward"
        written = sum(prod(p.shape) * (4 * s if (s := cut.sharing(p)) > 1 else WIDTH) for p in face.inputs)
        each = 2 * inputs + outputs + 3 * states + written if back else inputs + outputs + states
        step, programs = time * TOKEN * (2 if back else 1), batch * face.rows * cut.tiles
        yield run.predicted(kernel, code, batch * time * each, 0.0, programs, step)


def of_blocks(run: Run) -> Iterator[Prediction]:
    batch, time = run.shape[:2]
    for stage, code in zip(run.rule.stages, run.made, strict=True):
        face = stage.kernels.face
        blocks = ceil(time / face.block)
        for kernel in aot.block_kernels(face):
            narrow, wide, products = face.work[
                FUNCTIONS.get(kernel, kernel.replace("differentiate", "gradients"))
            ]
            swept, each = kernel.startswith(("sweep", "solve")), launched(face, code.get(kernel)).tiles
            programs, step = (
                batch * face.rows * each * (1 if swept else blocks),
                (blocks if swept else 1) * BLOCK,
            )
            moved = batch * blocks * (WIDTH * narrow + 4 * wide)
            yield run.predicted(kernel, code, moved, batch * blocks * products, programs, step)
    yield from casts(run)


def launched(face: Any, made: Taken | None) -> Any:
    """How a unit is called, with the tile of a kernel of it that was compiled."""
    return face.cut(made.tile) if made else face


def casts(run: Run) -> Iterator[Prediction]:
    """What PyTorch does around blocks: between 16 bits and single precision."""
    sign = run.rule.signature
    outputs = sum(prod(x.shape) for x in sign.outputs)
    inputs = sum(prod(x.shape) for k, x in enumerate(sign.inputs) if k not in run.rule.kept)
    moved = prod(run.shape[:3]) * (WIDTH + 4) * (inputs + outputs) / COPY
    for kernel, backward in (("casts", False), ("casts_back", True)):
        yield Prediction(run.case, run.shape, kernel, backward, moved, 0.0, 0.0, 0)


FUNCTIONS = {
    "prepare": "before", "sweep": "update", "answer": "reads", "prepare_back": "before_back", "sweep_back": "back",
}  # fmt: skip


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


def examined(case: Case, compiler: Compiler) -> tuple[list[tuple[str, str, Taken]], list[Prediction]]:
    """What the kernels of a case take, and how long they should run at every shape."""
    taken, found = list[tuple[str, str, Taken]](), list[Prediction]()
    known = dict[int, tuple[Any, Kernels]]()
    for shape in SHAPES:
        size = shape[-1]
        if size not in known:  # heads are apart: so many take so many times what one takes
            (rule,) = units(Scheduled(recurrence(case, 1, size), schedule), "a benchmark").values()
            known[size] = rule, compiled(rule, compiler)
            each = [(f"{case.name}, {size}", *item) for part in known[size][1] for item in part.items()]
            taken += each
        run = Run(case.name, shape, *known[size])
        found += of_blocks(run) if run.rule.stages else of_loop(run)
    return taken, found


def sums(found: list[Prediction]) -> list[str]:
    """Milliseconds of each case at each shape: forward, and with the backward pass, where all is made again."""
    lines = [
        "| case | B x T x H x D | forward, ms | both, ms | bound of the longest kernel |",
        "| --- " * 5 + "|",
    ]
    for key in dict.fromkeys((x.case, x.shape) for x in found):
        own = [x for x in found if (x.case, x.shape) == key]
        forward = sum(x.seconds for x in own if not x.backward)
        again = sum(x.seconds for x in own if x.backward or x.kernel == "prepare")
        longest = max(own, key=lambda x: x.seconds)
        name, shape = key
        cells = (name, "x".join(map(str, shape)), f"{1e3 * forward:.3f}", f"{1e3 * (forward + again):.3f}",
                 f"{longest.kernel}: {longest.bound}")  # fmt: skip
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
    for case in CASES:
        if asked.only in (None, case.name):
            more = examined(case, compiler)
            taken, found = taken + more[0], found + more[1]
    print("\n".join(sums(found)))
    if asked.only is None:
        RESULTS.mkdir(exist_ok=True)
        keep(compiler.used)
        rows = [{**asdict(x), "seconds": x.seconds, "bound": x.bound} for x in found]
        (RESULTS / "gpu-predicted.json").write_text(json.dumps(rows, indent=1) + "\n")
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
