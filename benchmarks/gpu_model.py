"""How long kernels should run on an H200, from what they move, compute and wait for, and what they take of it.

A kernel takes the longest of three times.  Memory: what is read and written once, at the rate that copies reach.
Products: operations of matrix products at half of the tensor cores' rate, on as many multiprocessors as have a program.
Chain: what has to follow one another, where a program goes through time; programs that find no place wait their turn.
Gradients that several programs share are counted as often as they are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from tools.kernels.record import Taken

if TYPE_CHECKING:
    from backends.triton import aot  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.runtime.attention import ReadKernels  # noqa: TID251
    from backends.triton.runtime.chunk import bare  # noqa: TID251
else:
    from seqc.backends.triton import aot
    from seqc.backends.triton.runtime.attention import ReadKernels
    from seqc.backends.triton.runtime.chunk import bare

SMS = 132
THREADS, REGISTERS, SHARED, PLACES = (
    2048,
    65536,
    227 * 1024,
    32,
)  # of a multiprocessor; programs that it holds at most
COPY = 0.9 * 4.8e12  # bytes a second
PRODUCTS, ROUNDED = 0.5 * 494e12, 0.5 * 989e12  # operations a second, with factors of TF32 and of 16 bits
LAUNCH = 3e-6  # seconds that a kernel costs besides
TOKEN, BLOCK = 0.15e-6, 1.5e-6  # seconds of a token of a loop whose inputs are at hand, and of a block
ASSUMED = 2  # programs that a multiprocessor holds, of a kernel that was not compiled
WIDTH = 2  # bytes of an input and of an output of a loop: bf16
KEPT_STATES = 4  # bytes of a number of a state
STEP = 0.4e-6  # seconds of a block of queries and a step of entries, or of entries and queries
FUNCTIONS = {
    "prepare": "before", "sweep": "update", "answer": "reads", "prepare_back": "before_back", "sweep_back": "back",
    "combine": "meet", "differentiate": "gradients",
}  # fmt: skip
MEETING = {"read": "gather", "back_queries": "flow_queries", "back_entries": "flow_entries"}


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
    """A case at a shape [batch, time, heads, …], the rule with one head, and its kernels by name, of its loop or of
    each of its stages.  Those that were not compiled are not there.
    """

    case: str
    shape: tuple[int, ...]
    rule: Any
    made: Sequence[Mapping[str, Taken]]

    def predicted(
        self,
        kernel: str,
        code: Mapping[str, Taken],
        moved: float,
        products: tuple[float, float],
        programs: int,
        step: float,
    ) -> Prediction:
        """Of a kernel that moves so many bytes a head, with operations of products in TF32 and in 16 bits; `step` are
        seconds of what a program does one after another.
        """
        heads = self.shape[2]
        moved, programs = moved * heads, programs * heads
        exact, rounded = (heads * count for count in products)
        room = resident(code[kernel]) if kernel in code else ASSUMED
        share = min(1.0, programs / SMS)
        turns = ceil(programs / (SMS * room))
        memory, computing = moved / (COPY * share), (exact / PRODUCTS + rounded / ROUNDED) / share
        backward = "back" in kernel or kernel.startswith(aot.MEETING)
        return Prediction(self.case, self.shape, kernel, backward, memory, computing, turns * step, room)


def predictions(run: Run) -> Iterator[Prediction]:
    """Of every kernel of a rule, those of its stages where it runs in blocks."""
    if isinstance(run.rule, ReadKernels):
        yield from _of_reads(run)
        return
    if not run.rule.stages:
        yield from _of_loop(run)
        return
    for stage, code in zip(run.rule.stages, run.made, strict=True):
        yield from _of_blocks(run, stage.kernels.face, code)
    yield from _casts(run)


def _of_loop(run: Run) -> Iterator[Prediction]:
    batch, time = run.shape[:2]
    face, (code,) = run.rule.kernel.interface, run.made
    inputs, outputs = (WIDTH * sum(prod(p.shape) for p in ports) for ports in (face.inputs, face.outputs))
    states = KEPT_STATES * sum(prod(p.shape) for p in face.states) / face.segment
    for kernel in aot.LOOP:
        cut, back = _launched(face, code.get(kernel)), kernel == "backward"
        written = sum(prod(p.shape) * (4 * s if (s := cut.sharing(p)) > 1 else WIDTH) for p in face.inputs)
        written += 4 * sum(prod(p.shape) for p in face.sides)
        each = 2 * inputs + outputs + 3 * states + written if back else inputs + outputs + states
        step, programs = time * TOKEN * (2 if back else 1), batch * face.rows * cut.tiles
        yield run.predicted(kernel, code, batch * time * each, (0.0, 0.0), programs, step)
    if face.products:
        read = [face.operands[k] for product in face.products for k in (product.left, product.right)]
        moved = 4 * batch * time * sum(prod(port.shape) for port in read)
        yield run.predicted("products_back", {}, moved, (0.0, 0.0), SMS, 0.0)


def _of_blocks(run: Run, face: Any, code: Mapping[str, Taken]) -> Iterator[Prediction]:
    batch, time = run.shape[:2]
    blocks = ceil(time / face.block)
    for kernel in _taken(run, face):
        name = bare(kernel)
        function = kernel.replace(name, FUNCTIONS.get(name, name), 1)
        narrow, single, products, rounded = (batch * blocks * count for count in face.work[function])
        cut = _launched(face, code.get(kernel))
        if kernel in face.fused:
            cut = cut.cut(min(cut.tile, face.busy(run.shape[0] * run.shape[2], SMS)))
        swept, each = kernel.startswith(("sweep", "solve", "fused")), face.rows * cut.tiles
        programs, step = batch * each * (1 if swept else blocks), (blocks if swept else 1) * BLOCK
        moved = WIDTH * narrow + 4 * single
        yield run.predicted(kernel, code, moved, (products - rounded, rounded), programs, step)


def _taken(run: Run, face: Any) -> list[str]:
    """The kernels of a stage that run: in one pass where a program for each row and tile keeps the GPU busy."""
    known = aot.block_kernels(face)
    one = face.fused if face.busy(run.shape[0] * run.shape[2], SMS) else ()
    split = {
        "fused": ("prepare", "sweep", "answer"),
        "fused_back": ("prepare_back", "sweep_back", "differentiate"),
    }
    left_out = tuple(name for kernel in one for name in split[kernel])
    left_out += tuple(kernel for kernel in face.fused if kernel not in one)
    return [kernel for kernel in known if bare(kernel) not in left_out]


def _of_reads(run: Run) -> Iterator[Prediction]:
    """A query sees all entries before it, half of them on average; entries are read once, and later near at hand."""
    batch, time = run.shape[:2]
    face, (code,) = run.rule.face, run.made
    asked, known, given, found = (
        sum(prod(port.shape) * (WIDTH if port.given or ports is face.outputs else 4) for port in ports)
        for ports in (face.queries, face.entries, face.outputs, face.found)
    )
    moved = {
        "read": asked + known + given + found,
        "back_queries": 2 * asked + known + given + 2 * found,
        "back_entries": asked + 2 * known + 2 * found,
    }
    for kernel, each in moved.items():
        products, rounded = face.work[MEETING[kernel]]
        pairs = batch * time * time / 2 / (face.block * face.step)
        blocks, steps = ceil(time / face.block), ceil(time / 2 / face.step)
        work = ((products - rounded) * pairs, rounded * pairs)
        yield run.predicted(kernel, code, batch * time * each, work, batch * face.rows * blocks, steps * STEP)


def _launched(face: Any, made: Taken | None) -> Any:
    """How a unit is called, with the tile of a kernel of it that was compiled."""
    return face.cut(made.tile) if made else face


def _casts(run: Run) -> Iterator[Prediction]:
    """What PyTorch does around blocks: between 16 bits and single precision, where kernels do not."""
    ports = [port for stage in run.rule.stages for port in stage.kernels.face.outputs]
    outputs = sum(prod(port.shape) for port in ports if not port.given)
    inputs = sum(prod(x.shape) for k, x in enumerate(run.rule.signature.inputs) if k not in run.rule.kept)
    moved = prod(run.shape[:3]) * (WIDTH + 4) * (inputs + outputs) / COPY
    for kernel, backward in (("casts", False), ("casts_back", True)):
        yield Prediction(run.case, run.shape, kernel, backward, moved, 0.0, 0.0, 0)
