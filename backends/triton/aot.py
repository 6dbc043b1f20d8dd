"""Compiling kernels ahead of time, on a machine without a GPU: machine code, how to launch it, and what it takes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import ceil, inf
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import torch

from seqc.diagnostics.words import by_nearness
from seqc.errors import UserError

from .runtime.chunk import STAGES, BlockKernels, Blocks, bare, factors, typed
from .runtime.kernel import Interface, Port
from .runtime.launch import COMPILED, Choice, quickest
from .runtime.load import loaded
from .runtime.rule import Looped

NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
KINDS = {short: getattr(torch, name) for name, short in NAMES.items()}


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of GPU: its name, what Triton calls it, and how much shared memory a program may have, in bytes."""

    name: str
    backend: str
    arch: int | str
    warp: int
    shared: int


TARGETS = (
    Target("sm_80", "cuda", 80, 32, 163 * 1024),
    Target("sm_90", "cuda", 90, 32, 227 * 1024),
    Target("gfx942", "hip", "gfx942", 64, 64 * 1024),
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A kernel for a target: its machine code and what a thread or a program takes.

    `spills` are bytes of local memory that a thread needs for what does not fit into registers.
    """

    kernel: str
    target: str
    dtype: str
    choice: Choice
    registers: int
    spills: int
    shared: int
    dots: int
    code: bytes
    assembly: str


def targets(text: str) -> list[Target]:
    """The targets of a list with commas."""
    known = {target.name: target for target in TARGETS}
    return [known[_known(name, known, "there is no GPU")] for name in text.split(",")]


def typed_targets(text: str) -> list[tuple[Target, str]]:
    """The targets of a list with commas, and the type of the inputs of each: `sm_80,sm_90:bfloat16`."""
    found = list[tuple[Target, str]]()
    for each in text.split(","):
        name, colon, dtype = each.partition(":")
        (target,) = targets(name)
        found.append((target, _known(dtype, NAMES, "kernels have no inputs of type") if colon else "float32"))
    return found


def _known(name: str, known: Collection[str], otherwise: str) -> str:
    """A name that is known; raises `UserError`, which says what is otherwise."""
    if name in known:
        return name
    near = ", ".join(f"`{other}`" for other in by_nearness(name, known))
    raise UserError(f"{otherwise} `{name}`", f"the known ones are {near}")


class Source(NamedTuple):
    """A kernel of a unit, `name`, whose inputs are of a type, and how it is launched.

    There are the types of all its arguments, and the values of those that are known when it is compiled.  `grid` says
    how many programs there are; `widest` is the length of the vector axis.  `again` is the same, launched otherwise.
    """

    text: str
    name: str
    kernel: str
    types: dict[str, Any]
    fixed: dict[str, Any]
    choice: Choice
    dtype: str
    grid: str
    widest: int
    again: Callable[[Choice], Source]

    @property
    def options(self) -> dict[str, int]:
        """What Triton is told besides; a loop has its stages among what is `fixed`."""
        ahead = {} if "STAGES" in self.fixed else {"num_stages": self.choice.stages}
        return {"num_warps": self.choice.warps, **ahead}


def source(
    rule: Looped,
    kernel: str,
    dtype: str = "float32",
    resets: bool = False,
    keeps: bool = True,
    choice: Choice | None = None,
) -> Source:
    """The kernel `forward` or `backward` of a rule that has a loop."""
    assert rule.kernel is not None
    face = rule.kernel.interface
    choice = choice or Choice(face.warps, face.stages, face.tile)
    face = face.cut(choice.tile)._replace(stages=choice.stages)
    types, fixed = signature(face, kernel, NAMES[dtype], resets, keeps)
    grid = f"batch * {face.rows * face.tiles}"
    again = partial(source, rule, kernel, dtype, resets, keeps)
    return Source(rule.kernel.text, rule.name, kernel, types, fixed, choice, dtype, grid, face.vector, again)


def block_source(
    made: BlockKernels,
    kernel: str,
    target: Target,
    dtype: str = "float32",
    resets: bool = False,
    choice: Choice | None = None,
) -> Source:
    """A kernel of a stage, by its name in `kernels/chunk.py`, `stream.py` or `newton.py`."""
    choice = choice or Choice(made.face.warps, 1 if made.face.form == "newton" else STAGES, made.face.tile)
    face = made.face.cut(choice.tile)
    types, fixed = block_signature(face, kernel, target, NAMES[dtype], resets)
    each, _ = called(face, kernel)
    grid = f"{each} * {face.rows * face.tiles}".format(block=face.block)
    again = partial(block_source, made, kernel, target, dtype, resets)
    meeting = bool(face.common) and kernel.startswith(MEETING)
    widest = 0 if face.form == "newton" or meeting else face.vector
    return Source(made.text, made.name, kernel, types, fixed, choice, dtype, grid, widest, again)


def sources(rule: Looped, target: Target, dtype: str, resets: bool = False) -> Iterator[Source]:
    """All kernels of a rule whose inputs are of a type, those of its loop first."""
    for kernel in LOOP if rule.kernel is not None else ():
        yield source(rule, kernel, dtype, resets)
    for stage in rule.stages:
        for kernel in block_kernels(stage.kernels.face):
            yield block_source(stage.kernels, kernel, target, dtype, resets)


def compiled(
    rule: Looped,
    kernel: str,
    target: Target,
    dtype: str = "float32",
    resets: bool = False,
    keeps: bool = True,
) -> Compiled:
    """`source`, compiled as it is launched."""
    return fitted(source(rule, kernel, dtype, resets, keeps), target)[1]


def compiled_blocks(made: BlockKernels, kernel: str, target: Target, dtype: str = "float32") -> Compiled:
    """`block_source`, compiled as it is launched."""
    return fitted(block_source(made, kernel, target, dtype), target)[1]


def fitted(given: Source, target: Target) -> tuple[Source, Compiled]:
    """A kernel and its machine code, launched by default, or if it spills then, or needs more shared memory than there
    is, in the way that spills least among those that are measured on a GPU.
    """
    tried = dict[Choice, tuple[Source, Compiled]]()

    def spilled(choice: Choice) -> float:
        own = given if choice == given.choice else given.again(choice)
        made = compile_source(own, target)
        tried[choice] = own, made
        return made.spills if made.shared <= target.shared else inf

    return tried[quickest(given.choice, given.widest, spilled)]


def compile_source(given: Source, target: Target) -> Compiled:
    """The machine code of a kernel."""
    if find_spec("triton") is None:
        raise UserError("compiling for a GPU needs Triton", "install it: `pip install triton`")
    import triton
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if os.environ.get("TRITON_INTERPRET", "0") == "1":
        raise UserError(
            "Triton's interpreter compiles nothing", "unset the environment variable TRITON_INTERPRET"
        )
    unit = loaded(given.text, given.name)
    gpu = GPUTarget(target.backend, target.arch, target.warp)
    fixed: dict[Any, Any] = {**typed(given.fixed, unit.tl), **_missing(given.types)}
    kernel = ASTSource(getattr(unit, given.kernel), given.types, fixed, _aligned(given.types))
    with knobs.compilation.scope():
        knobs.compilation.disable_line_info = True  # lines of a text that is nowhere to be found
        made: Any = triton.compile(kernel, target=gpu, options={**given.options, **COMPILED})
    assembly, code = _code(made)
    registers, spills = _taken(made, target, assembly)
    dots = len(re.findall(r"\b(?:wgmma\.mma_async|mma\.sync|v_mfma_)", assembly))
    shared: int = made.metadata.shared
    return Compiled(
        kernel=given.kernel,
        target=target.name,
        dtype=given.dtype,
        choice=given.choice,
        registers=registers,
        spills=spills,
        shared=shared,
        dots=dots,
        code=code,
        assembly=assembly,
    )


def _aligned(types: Mapping[str, Any]) -> dict[tuple[int, ...], list[list[Any]]]:
    """What is said of every pointer: it is a multiple of 16 bytes, as those of tensors of PyTorch are."""
    found: dict[tuple[int, ...], list[list[Any]]] = {}
    for k, kind in enumerate(types.values()):
        many = isinstance(kind, tuple)
        pointers = [i for i, each in enumerate(kind) if each[0] == "*"] if many else []
        places = [(k, i) for i in pointers] if many else [(k,)] * (kind[0] == "*")
        found |= {place: [["tt.divisibility", 16]] for place in places}
    return found


def _missing(types: Mapping[str, Any]) -> dict[tuple[int, int], None]:
    """The tensors of tuples that are not there."""
    tuples = [(k, kind) for k, kind in enumerate(types.values()) if isinstance(kind, tuple)]
    return {(k, i): None for k, kind in tuples for i, each in enumerate(kind) if each == "constexpr"}


def block_signature(
    face: Blocks, kernel: str, target: Target, dtype: str, resets: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `signature`, of a kernel of a stage; what is not the rule's input as it is, is single precision."""
    states = _pointers(face.states, "fp32")
    outputs = tuple(f"*{dtype if port.given else 'fp32'}" for port in face.outputs)
    flags = "*u8" if resets else "constexpr"
    inputs = tuple(flags if port.flags else f"*{dtype if port.given else 'fp32'}" for port in face.inputs)
    known: dict[str, Any] = {
        "inputs": inputs, "carried": states, "starts": states, "finals": states, "outputs": outputs,
        "d_outputs": outputs, "d_finals": states, "flows": states, "d_carried": states,
        "d_sources": tuple(inputs[k] if face.alone(k) else "*fp32" for k in written(face, kernel)),
        "made": ("*fp32",) * len(face.made), "later": ("*fp32",) * len(face.later),
        "common": ("*fp32",) * len(face.common), "tokens": "i32", "time": "i32",
        "d_inputs": ("*fp32",) * sum(port.differentiable for port in face.inputs),
    }  # fmt: skip
    if face.form == "streamed":
        known |= {"scratch": "*fp32", "zero": "*i32", "start": "i32"}
    keeps = {"KEEPS": True} if kernel == "fused" else {}
    fixed: dict[str, Any] = {**keeps, "BLOCK": face.block, "TILE": face.tile}
    if face.form != "newton":
        kind = KINDS[dtype] if face.factors else torch.float32  # as kernels are launched
        fixed |= factors(kind, target.backend != "cuda")
    _, arguments = called(face, kernel)
    return {
        **{name: known[name] for name in arguments},
        **dict.fromkeys(fixed, "constexpr"),
    }, fixed


def written(face: Blocks, kernel: str) -> list[int]:
    """The inputs, by number, whose cotangents a kernel writes, if it writes any."""
    number, every = kernel.removeprefix("differentiate").split("_")[0], dict(face.writes)
    return [*every[int(number)]] if number.isdigit() else [k for own in every.values() for k in own]


def block_kernels(face: Blocks) -> list[str]:
    """The names of the kernels of a stage."""
    if face.form == "newton":
        return [*SOLVED]
    each = [f"differentiate{k}" for k, _ in face.writes]
    split = (name for name in BLOCK_KERNELS if name not in (*MEETING, *FUSED, *SOLVED))
    return [*(name for kernel in (*split, *face.combines, *each) for name in face.each(kernel)), *face.fused]


def called(face: Blocks, kernel: str) -> tuple[str, tuple[str, ...]]:
    """How many programs a kernel has for each row and tile, and its arguments."""
    name = bare(kernel)
    grid, arguments = BLOCK_KERNELS[name]
    if face.form == "streamed":
        return grid, (*STREAMED[name], "scratch", "zero", "start", "tokens", "time")
    return grid, arguments


LOOP = ("forward", "backward")  # the kernels of a loop
FUSED = ("fused", "fused_back")  # the kernels of a stage that go through a sequence in one pass
MEETING = ("combine", "differentiate")  # that have the same tile, if they have anything in common
SOLVED = ("solve", "solve_back")  # the kernels of a stage that is solved by Newton's iteration

# The programs that a kernel of `kernels/chunk.py`, `fused.py` or `newton.py` has for each row and tile; its arguments.
BLOCK_KERNELS = {
    "prepare": ("batch * ceil(time / {block})", ("inputs", "made", "time")),
    "sweep": ("batch", ("inputs", "made", "carried", "starts", "finals", "time")),
    "answer": ("batch * ceil(time / {block})", ("inputs", "made", "starts", "outputs", "time")),
    "prepare_back": (
        "batch * ceil(time / {block})",
        ("inputs", "made", "starts", "d_outputs", "later", "time"),
    ),
    "sweep_back": ("batch", ("inputs", "made", "later", "d_finals", "flows", "d_carried", "time")),
    "combine": (
        "batch * ceil(time / {block})",
        ("inputs", "made", "starts", "d_outputs", "flows", "common", "time"),
    ),
    "differentiate": (
        "batch * ceil(time / {block})",
        ("inputs", "made", "starts", "d_outputs", "flows", "common", "d_sources", "tokens", "time"),
    ),
    "fused": ("batch", ("inputs", "carried", "starts", "finals", "outputs", "time")),
    "fused_back": (
        "batch",
        ("inputs", "starts", "d_outputs", "d_finals", "d_sources", "d_carried", "tokens", "time"),
    ),
    "solve": ("batch", ("inputs", "carried", "starts", "finals", "outputs", "time")),
    "solve_back": (
        "batch",
        ("inputs", "starts", "d_outputs", "d_finals", "d_inputs", "d_carried", "tokens", "time"),
    ),
}
# The tensors of kernels of the same names in `kernels/stream.py`.
STREAMED = {
    "prepare": ("inputs", "made"),
    "sweep": ("inputs", "made", "starts"),
    "answer": ("inputs", "made", "starts", "outputs"),
    "prepare_back": ("inputs", "made", "starts", "d_outputs", "later"),
    "sweep_back": ("inputs", "made", "later", "flows"),
    "differentiate": ("inputs", "made", "starts", "d_outputs", "flows", "d_sources"),
}


def signature(
    face: Interface, kernel: str, dtype: str, resets: bool, keeps: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The types of a kernel's arguments, and the values of those that are known when it is compiled."""
    inputs, outputs = _pointers(face.inputs, dtype), _pointers(face.outputs, dtype if face.inputs else "fp32")
    constants, states = _pointers(face.constants, "fp32"), _pointers(face.states, "fp32")
    types: dict[str, Any] = {"inputs": inputs, "constants": constants, "initial": states}
    fixed: dict[str, Any] = {
        "RESETS": resets,
        "SEGMENT": face.segment,
        "STAGES": face.stages,
        "TILE": face.tile,
    }
    if kernel == "forward":
        types |= {"before": states, "reset": "*u8", "outputs": outputs, "after": states, "kept": states}
        fixed["KEEPS"] = keeps
    else:
        types |= {"kept": states, "reset": "*u8", "d_outputs": outputs, "d_after": states, "scratch": states}
        types["d_inputs"] = tuple(
            f"*{dtype}" if face.sharing(port) == 1 else "*fp32" for port in face.inputs if port.differentiable
        ) + _pointers(face.sides, "fp32")
        types["d_constants"] = ("*fp32",) * len(face.summed)
        types |= {"d_initial": states, "d_before": states, "tokens": "i32"}
    types["time"] = "i32"
    if not resets:
        fixed["reset"] = None
    return {**types, **dict.fromkeys(fixed, "constexpr")}, fixed


def _pointers(ports: Sequence[Port], dtype: str) -> tuple[str, ...]:
    return (f"*{dtype}",) * len(ports)


def _code(made: Any) -> tuple[str, bytes]:
    for text, binary in (("ptx", "cubin"), ("amdgcn", "hsaco")):
        if binary in made.asm:
            return made.asm[text], made.asm[binary]
    raise AssertionError(list(made.asm))


def _taken(made: Any, target: Target, assembly: str) -> tuple[int, int]:
    """Registers of a thread, and the bytes that it spills."""
    if target.backend == "hip":
        return _number(assembly, r"\.vgpr_count:\s+(\d+)"), _number(
            assembly, r"\.private_segment_fixed_size:\s+(\d+)"
        )
    registers, stack = _cubin_use(made.asm["cubin"])
    arrays = _number(assembly, r"__local_depot\d+\[(\d+)\]")  # as sines of large numbers have them
    return registers, max(0, stack - 8 * ceil(arrays / 8))


def _cubin_use(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread and its bytes of stack, which kernels use for spills and for arrays."""
    from triton import knobs

    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = knobs.nvidia.cuobjdump.path
        text = subprocess.run(
            [tool, "-res-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    return _number(text, r"REG:(\d+)"), _number(text, r"STACK:(\d+)") + _number(text, r"LOCAL:(\d+)")


def _number(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0
