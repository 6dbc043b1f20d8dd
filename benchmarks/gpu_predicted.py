"""What kernels take, compiled for an H200 without one, and how long they should run there.

    python -m benchmarks.gpu_predicted            # results/gpu-predicted.json and .md; some minutes
    python -m benchmarks.gpu_predicted --only delta

A kernel takes the longest of three times.  Memory: what is read and written once, at the rate that copies reach.
Products: operations of matrix products at half of the tensor cores' rate, on as many multiprocessors as have a program.
Chain: what has to follow one another, where a program goes through time; programs that find no place wait their turn.
Gradients that several programs share are counted as often as they are written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from benchmarks.gpu import CASES, SHAPES, Case, recurrence
from benchmarks.report import RESULTS
from seqc.backend import Scheduled
from seqc.passes.schedule import schedule

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
WIDTH = 2  # bytes of an input and of an output of a loop: bf16


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


def resident(made: aot.Compiled) -> int:
    """How many programs of a kernel a multiprocessor holds."""
    threads = made.warps * 32
    registers = -(-max(made.registers, 16) // 8) * 8 * threads
    return max(1, min(REGISTERS // registers, SHARED // max(made.shared, 1024), THREADS // threads, PLACES))


def predicted(
    about: tuple[str, tuple[int, ...]],
    made: aot.Compiled,
    moved: float,
    products: float,
    programs: int,
    step: float,
) -> Prediction:
    """`step` are seconds of what a program does one after another."""
    room = resident(made)
    share = min(1.0, programs / SMS)
    turns = ceil(programs / (SMS * room))
    name, shape = about
    backward = "back" in made.kernel or "differentiate" in made.kernel
    return Prediction(
        name, shape, made.kernel, backward, moved / (COPY * share), products / (PRODUCTS * share),
        turns * step, room,
    )  # fmt: skip


def of_loop(case: Case, shape: tuple[int, ...], rule: Any, made: dict[str, Any]) -> Iterator[Prediction]:
    batch, time = shape[:2]
    face = rule.kernel.interface
    programs = batch * face.rows * face.tiles
    inputs, outputs = (WIDTH * sum(prod(p.shape) for p in ports) for ports in (face.inputs, face.outputs))
    states = 4 * sum(prod(p.shape) for p in face.states) / face.segment
    written = sum(prod(p.shape) * (4 * s if (s := face.sharing(p)) > 1 else WIDTH) for p in face.inputs)
    moved = {
        "forward": inputs + outputs + states,
        "backward": 2 * inputs + outputs + 3 * states + written,
    }
    for kernel, each in moved.items():
        step = time * TOKEN * (1 if kernel == "forward" else 2)
        yield predicted((case.name, shape), made[kernel], batch * time * each, 0.0, programs, step)


def of_blocks(
    case: Case, shape: tuple[int, ...], rule: Any, made: list[dict[str, Any]]
) -> Iterator[Prediction]:
    batch, time = shape[:2]
    width = WIDTH if rule.unrounded else 4
    for stage, kernels in zip(rule.stages, made, strict=True):
        face = stage.kernels.face
        blocks, each = ceil(time / face.block), face.rows * face.tiles
        total = batch * blocks
        for kernel, code in kernels.items():
            function = FUNCTIONS.get(kernel, kernel.replace("differentiate", "gradients"))
            narrow, wide, products = face.work[function]
            swept = kernel.startswith("sweep")
            programs, step = batch * each * (1 if swept else blocks), (blocks if swept else 1) * BLOCK
            moved = total * (width * narrow + 4 * wide)
            yield predicted((case.name, shape), code, moved, total * products, programs, step)
    yield from casts(case, shape, rule)


def casts(case: Case, shape: tuple[int, ...], rule: Any) -> Iterator[Prediction]:
    """What PyTorch does around blocks: between 16 bits and single precision."""
    sign = rule.signature
    outputs = sum(prod(x.shape) for x in sign.outputs)
    inputs = 0 if rule.unrounded else sum(prod(x.shape) for x in sign.inputs)
    moved = shape[0] * shape[1] * (WIDTH + 4) * (inputs + outputs) / COPY
    for kernel, backward in (("casts", False), ("casts_back", True)):
        yield Prediction(case.name, shape, kernel, backward, moved, 0.0, 0.0, 0)


FUNCTIONS = {
    "prepare": "before", "sweep": "update", "answer": "reads", "prepare_back": "before_back", "sweep_back": "back",
}  # fmt: skip


def compiled(rule: Any, target: Any) -> list[dict[str, Any]]:
    """The kernels of a rule by name: of its loop, or of each of its stages in blocks."""
    if not rule.stages:
        return [{k: aot.compiled(rule, k, target, "bfloat16") for k in ("forward", "backward")}]
    return [
        {k: aot.compiled_blocks(s.kernels, k, target, "tf32") for k in aot.block_kernels(s.kernels.face)}
        for s in rule.stages
    ]


def examined(case: Case) -> tuple[list[Any], list[Prediction]]:
    """What the kernels of a case take, and how long they should run at every shape."""
    (target,) = aot.targets("sm_90")
    taken, found, known = list[Any](), list[Prediction](), dict[int, Any]()
    for shape in SHAPES:
        heads, size = shape[2:]
        (rule,) = units(Scheduled(recurrence(case, heads, size), schedule), "a benchmark").values()
        if size not in known:  # how many heads there are changes no more than addresses
            known[size] = compiled(rule, target)
            taken += [(f"{case.name}, {size}", each) for part in known[size] for each in part.values()]
        made = known[size]
        found += of_blocks(case, shape, rule, made) if rule.stages else of_loop(case, shape, rule, made[0])
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
    asked = parser.parse_args()
    taken, found = list[Any](), list[Prediction]()
    for case in CASES:
        if asked.only in (None, case.name):
            more = examined(case)
            taken, found = taken + more[0], found + more[1]
            print(case.name, flush=True)
    text = [
        "# Kernels on an H200, predicted", "",
        "No GPU was at hand: kernels were compiled for sm_90, and their times follow from what they move and compute.",
        "`python -m benchmarks.gpu_predicted` says how; `python -m benchmarks.gpu` measures.", "",
        *sums(found), "", "## What kernels take", "",
        "Entries of keys and values behind the name of a case; loops read bf16, products of blocks are TF32.", "",
        aot.table(taken),
    ]  # fmt: skip
    print("\n".join(sums(found)))
    if asked.only is None:
        RESULTS.mkdir(exist_ok=True)
        rows = [{**asdict(x), "seconds": x.seconds, "bound": x.bound} for x in found]
        (RESULTS / "gpu-predicted.json").write_text(json.dumps(rows, indent=1) + "\n")
        (RESULTS / "gpu-predicted.md").write_text("\n".join(text) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
