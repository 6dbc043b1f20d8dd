"""Running a stage of an emitted module in blocks, by kernels: the operator that the module calls, with these inside."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .kernel import Port
from .launch import NARROWEST, Choice, Launched, launch
from .load import loaded, runs_on

NARROW = (torch.bfloat16, torch.float16)
STAGES = 3  # blocks that a program has under way at once


class Blocks(NamedTuple):
    """How the unit of a stage is called: `block` tokens at a time, else as `Interface`.

    `made` and `later` are the shapes of what is made for each block before the states and before their cotangents, and
    `common` those of what the cotangents of several inputs need: `parts` says how many rows have a part of each, 0
    where it is the same for all, and whether every tile does.  `work` says of each function what it takes for a block
    of a sequence: entries that are read or written, those of the type of the inputs and those in single precision, and
    operations of matrix products, all and those of them whose factors are cast to 16 bits where the inputs have so
    many.  The `form` is `blocks`, `windows` (blocks that begin where a counter says), `streamed` (the same, states lie
    in memory) or `newton` (solved, without products of matrices).

    `inputs` are what is read.  `writes` says of each kernel that writes cotangents of theirs (`differentiate` and its
    number, `solve_back`) of which it does, and `factors` are those that are factors of matrix products as they are.
    `pairs` says which results are complex: they are two of the `outputs`.  `room` says how many numbers a program of
    each streamed kernel has in memory beside what it reads and writes, and `pieces` how many kernels of those names do
    what one would do.  `fused` are the kernels, of those in `kernels/fused.py`, that the unit has.
    """

    rows: int
    vector: int
    tile: int
    warps: int
    block: int
    inputs: list[Port]
    outputs: list[Port]
    states: list[Port]
    made: list[tuple[int, ...]]
    later: list[tuple[int, ...]]
    common: list[tuple[int, ...]]
    parts: list[tuple[int, bool]]
    work: dict[str, list[int]]
    form: str = "blocks"
    writes: Sequence[tuple[int, Sequence[int]]] = ()
    factors: Sequence[int] = ()
    pairs: Sequence[bool] = ()
    room: Sequence[tuple[str, int]] = ()
    pieces: Sequence[tuple[str, int]] = ()
    fused: Sequence[str] = ()

    @property
    def tiles(self) -> int:
        return -(-self.vector // self.tile) if self.vector else 1

    @property
    def exact(self) -> bool:
        """Whether there are no products of matrices, whose factors may be rounded."""
        return all(products == 0 for *_, products, _ in self.work.values())

    @property
    def combines(self) -> list[str]:
        """The kernels that compute what is common."""
        return [name.replace("meet", "combine") for name in self.work if name.startswith("meet")]

    def each(self, kernel: str) -> list[str]:
        """The kernels that do what one of a name would do, one after another."""
        return [continued(kernel, k) for k in range(dict(self.pieces).get(kernel, 1))]

    def sharing(self, port: Port) -> int:
        """How many programs share a tensor."""
        return port.shares * (self.tiles if port.tiled else 1)

    def results(self, like: Tensor, time: int, kind: torch.dtype) -> list[Tensor]:
        """Empty tensors for the results; what the rule gives has the type `kind`."""
        types = [kind if port.given else like.dtype for port in self.outputs]
        return [
            like.new_empty((like.shape[0], time, *port.shape), dtype=each)
            for port, each in zip(self.outputs, types, strict=True)
        ]

    def busy(self, sequences: int, least: int) -> int:
        """The largest tile with which there are at least so many programs, one for each row and tile of a sequence.

        It is 0 where there is none.
        """
        tile = self.tile
        while tile > NARROWEST and sequences * self.rows * self.cut(tile).tiles < least:
            tile //= 2
        return tile if sequences * self.rows * self.cut(tile).tiles >= least else 0

    def cut(self, tile: int) -> Blocks:
        """The same with another tile."""
        return self._replace(tile=tile)

    def alone(self, place: int) -> bool:
        """Whether one program writes an entry of an input's cotangents."""
        port, writers = self.inputs[place], sum(place in written for _, written in self.writes)
        return writers == 1 and self.sharing(port) == 1 and not port.constant


class BlockKernels:
    """A unit of a stage; states lie between kernels as [batch, blocks, …]."""

    def __init__(self, text: str, face: Blocks, name: str) -> None:
        self.text, self.face, self.name = text, face, name

    @property
    def module(self) -> Any:
        return loaded(self.text, self.name)

    @property
    def inside(self) -> type[Chunked]:
        """What goes into the class of the stage."""
        return Chunked

    def told(self, name: str) -> None:
        """Say what PyTorch has to know of the operator `name` with these kernels, and of its derivative."""

    def launch(
        self,
        kernel: Any,
        programs: int,
        like: Tensor,
        inputs: tuple[Tensor, ...],
        *args: Any,
        tile: int = 0,
        cut: int = 0,
        most: int = 0,
        **more: Any,
    ) -> Launched:
        """`programs` for each row and tile, on the device of `like`; `args` end with how many tokens there are.

        The tile is `cut`, or the quickest that has at most `most` entries, if that says anything; of these by default
        that of the unit, else `tile`, is measured first.
        """
        face = self.face
        types = {inputs[place].dtype for place in face.factors}
        kind = types.pop() if len(types) == 1 and narrow(like) else torch.float32
        fixed = {"BLOCK": face.block, **more, **typed(factors(kind, exact(like)), self.module.tl)}
        default, lengths = Choice(face.warps, STAGES, cut or tile or face.tile), (programs, args[-1])

        def grid(tile: int) -> int:
            return programs * face.rows * face.cut(tile).tiles

        widest = 0 if cut else most or face.vector
        return launch(kernel, grid, like, (inputs, *args), fixed, default, lengths, "num_stages", widest)

    def forward(
        self,
        inputs: Sequence[Tensor],
        carried: Sequence[Tensor],
        time: int,
        kind: torch.dtype = torch.float32,
        keep: bool = True,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The results, those that the rule gives in the type `kind`, the final states and those before each block.

        The last are not all written without `keep`.
        """
        face, like = self.face, carried[0]
        batch, blocks = like.shape[0], -(-time // face.block)
        given, before = read(inputs), plain(carried)
        starts = [x.new_empty((batch, blocks, *x.shape[1:])) for x in before]
        finals = [torch.empty_like(x) for x in before]
        outputs = face.results(like, time, kind)
        if tile := self.fused("fused", like):
            ends = (tuple(starts), tuple(finals), tuple(outputs))
            self.launch(self.module.fused, batch, like, given, before, *ends, time, tile=tile, KEEPS=keep)
            return outputs, finals, starts
        made = self.prepared(given, like, batch, blocks, time)
        states = (before, tuple(starts), tuple(finals))
        self.launch(self.module.sweep, batch, like, given, made or before, *states, time)
        known = (tuple(starts), tuple(outputs))
        self.launch(self.module.answer, batch * blocks, like, given, made or before, *known, time)
        return outputs, finals, starts

    def fused(self, kernel: str, like: Tensor) -> int:
        """The tile with which a kernel takes sequences in one pass; 0 where it does not."""
        return self.face.busy(like.shape[0], multiprocessors(like)) if kernel in self.face.fused else 0

    def prepared(
        self, given: tuple[Tensor, ...], like: Tensor, batch: int, blocks: int, time: int
    ) -> tuple[Tensor, ...]:
        """What does not depend on the states, [batch, blocks, …]."""
        made = tuple(like.new_empty((batch, blocks, *shape)) for shape in self.face.made)
        if made:
            self.launch(self.module.prepare, batch * blocks, like, given, made, time)
        return made

    def begins(self, inputs: Sequence[Tensor], carried: Sequence[Tensor], slots: int) -> list[Tensor]:
        """The states before each block."""
        like, given, before = carried[0], plain(inputs), plain(carried)
        batch, blocks = like.shape[0], -(-slots // self.face.block)
        starts = [x.new_empty((batch, blocks, *x.shape[1:])) for x in before]
        finals = tuple(torch.empty_like(x) for x in before)
        made = self.prepared(given, like, batch, blocks, slots) or before
        self.launch(self.module.sweep, batch, like, given, made, before, tuple(starts), finals, slots)
        return starts

    def backward(
        self, inputs: Sequence[Tensor], starts: Sequence[Tensor], cotangents: Sequence[Tensor], time: int
    ) -> list[Tensor]:
        """The cotangents of the inputs and of the initial states."""
        face, like = self.face, starts[0]
        batch, blocks = like.shape[:2]
        given, begins = read(inputs), plain(starts)
        known = plain(cotangents[: len(face.outputs)])
        after = plain(cotangents[len(face.outputs) :])
        before = [torch.empty_like(x) for x in after]
        totals = dict[int, Tensor]()

        def parts(tile: int, written: Sequence[int]) -> tuple[Tensor, ...]:
            return tuple(
                self.part(place, inputs[place], like, (batch, blocks, time), tile) for place in written
            )

        if tile := self.fused("fused_back", like):
            ((_, written),) = face.writes
            own = (begins, known, after, partial(parts, written=written), tuple(before))
            sizes = (batch * time, time)
            launched = self.launch(self.module.fused_back, batch, like, given, *own, *sizes, tile=tile)
            self.add(totals, written, launched.args[4])
            return [*whole(totals, inputs), *before]
        flows = tuple(torch.empty_like(x) for x in begins)
        each = batch * blocks
        made = self.prepared(given, like, batch, blocks, time) or begins
        later = tuple(like.new_empty((batch, blocks, *shape)) for shape in face.later)
        if later:
            self.launch(self.module.prepare_back, each, like, given, made, begins, known, later, time)
        states = (later or begins, after, flows, tuple(before))
        self.launch(self.module.sweep_back, batch, like, given, made, *states, time)
        several, cut, shared = (made, begins, known, flows), 0, begins
        if face.common:
            more = partial(self.common, like, batch, blocks)
            # no wider than by default: what has to take the same tile might not run
            launched = self.launch(
                self.module.combine0, each, like, given, *several, more, time, most=face.tile
            )
            cut, shared = launched.tile, launched.args[5]
        for kernel in face.combines[1:]:
            self.launch(getattr(self.module, kernel), each, like, given, *several, shared, time, cut=cut)
        for number, written in face.writes:
            kernel, sizes = getattr(self.module, f"differentiate{number}"), (batch * time, time)
            every = (*several, shared, partial(parts, written=written))
            launched = self.launch(kernel, each, like, given, *every, *sizes, cut=cut)
            self.add(totals, written, launched.args[6])
        return [*whole(totals, inputs), *before]

    def common(self, like: Tensor, batch: int, blocks: int, tile: int) -> tuple[Tensor, ...]:
        """For what the cotangents of several inputs need, [batch, blocks, …], or [batch, blocks, parts, …]."""
        face = self.face.cut(tile)
        counts = [rows * (face.tiles if tiled else 1) for rows, tiled in face.parts]
        leads = [(batch, blocks, count) if count else (batch, blocks) for count in counts]
        return tuple(like.new_empty((*lead, *x)) for lead, x in zip(leads, face.common, strict=True))

    def add(self, totals: dict[int, Tensor], written: Sequence[int], parts: Sequence[Tensor]) -> None:
        """Put the cotangents of some inputs, of which programs wrote `parts`, to those of others."""
        for place, part in zip(written, parts, strict=True):
            more = summed(part, self.face.inputs[place])
            totals[place] = totals[place] + more if place in totals else more

    def part(self, place: int, x: Tensor, like: Tensor, lengths: tuple[int, int, int], tile: int) -> Tensor:
        """For the cotangents of an input `x`, of each program that shares it."""
        face, port, (batch, blocks, time) = self.face.cut(tile), self.face.inputs[place], lengths
        shares = face.sharing(port)
        lead = (batch * blocks, shares) if port.constant else (shares, batch, time)
        return like.new_empty((*lead, *port.shape), dtype=x.dtype if face.alone(place) else None)


def continued(name: str, number: int) -> str:
    """The name of a kernel, or of its function, that goes on where others stopped."""
    return f"{name}_{number}" if number else name


def bare(kernel: str) -> str:
    """The name of a kernel without its numbers."""
    return re.sub(r"\d*(_\d+)?$", "", kernel)


def factors(kind: torch.dtype, single: bool) -> dict[str, str]:
    """The types of factors of matrix products, and how those in single precision are rounded.

    `GIVEN` is that of the rule's inputs, `kind`.  What is computed is `ROUNDED` to bfloat16, which has numbers of any
    size, but not to float16.
    """
    given = {torch.bfloat16: "bfloat16", torch.float16: "float16"}.get(kind, "float32")
    rounded = given if given == "bfloat16" else "float32"
    return {"PRECISION": "ieee" if single else "tf32", "GIVEN": given, "ROUNDED": rounded}


def typed(fixed: Mapping[str, Any], language: Any) -> dict[str, Any]:
    """Arguments that are known when a kernel is compiled, types as those of Triton's `language`."""
    return {name: getattr(language, x) if name in ("GIVEN", "ROUNDED") else x for name, x in fixed.items()}


def exact(x: Tensor) -> bool:
    """Whether products of matrices are single precision: on NVIDIA they have factors of 11 bits (TF32)."""
    return not x.is_cuda or torch.version.hip is not None


def narrow(x: Tensor) -> bool:
    """Whether products of matrices may have factors of 16 bits, which Triton's interpreter takes for integers."""
    return x.is_cuda


def suffices(x: Tensor) -> bool:
    """Whether that is as exact as inputs like `x` and `torch.set_float32_matmul_precision` ask for."""
    narrow = x.dtype in NARROW
    return narrow or exact(x) or asked() != "highest"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def asked() -> str:
    """What PyTorch was told, for `torch.compile` when it compiles."""
    return torch.get_float32_matmul_precision()


def whole(totals: Mapping[int, Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The cotangents of all inputs, in their types; of those that have none, zeros."""
    return [totals[k].to(x.dtype) if k in totals else torch.zeros_like(x) for k, x in enumerate(inputs)]


def multiprocessors(x: Tensor) -> int:
    """How many the GPU of a tensor has; where there is none, more than there ever are programs."""
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else sys.maxsize


def plain(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in values)


def read(inputs: Sequence[Tensor]) -> tuple[Any, ...]:
    """Inputs as kernels read them: where sequences begin anew as bytes, and nothing if none does."""
    found = plain(inputs)
    return tuple((x.view(torch.uint8) if x.numel() else None) if x.dtype is torch.bool else x for x in found)


def summed(x: Tensor, port: Port) -> Tensor:
    if port.constant:
        return x.sum((0, 1))
    return x.sum(0) if x.shape[0] > 1 else x[0]


class Chunked:
    """What a stage of an emitted module does where kernels run: put before the stage's own class."""

    kernels: ClassVar[BlockKernels]
    carried: ClassVar[dict[str, Any]]

    @classmethod
    def runs(cls, carried: Sequence[Tensor], time: int) -> bool:
        x = carried[0]
        return time > 0 and x.dtype == torch.float32 and runs_on(x.device)

    @classmethod
    def forward(
        cls, inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool
    ) -> list[Tensor]:
        """The results, the final states and, if asked, the states before each block."""
        base: Any = super()
        if not cls.runs(carried, time):
            made: list[Tensor] = base.forward(inputs, carried, time, keep)
            return made
        outputs, finals, starts = cls.kernels.forward(inputs, carried, time, keep=keep)
        slots = cls.carried.values()
        kept = [
            x.permute(0, 1, *(2 + k for k in s.order)) for x, s in zip(starts, slots, strict=True) if keep
        ]
        return [*outputs, *finals, *(x.contiguous() for x in kept)]

    @classmethod
    def backward(
        cls, inputs: Sequence[Tensor], starts: Sequence[Tensor], cotangents: Sequence[Tensor], time: int
    ) -> list[Tensor]:
        """The cotangents of inputs and initial states; `cotangents` are those of the results and the final states."""
        base: Any = super()
        if not cls.runs(starts, time):
            made: list[Tensor] = base.backward(inputs, starts, cotangents, time)
            return made
        slots = cls.carried.values()
        begins = [
            x.permute(0, 1, *(2 + s.order.index(k) for k in range(len(s.order))))
            for x, s in zip(starts, slots, strict=True)
        ]
        return cls.kernels.backward(inputs, begins, cotangents, time)


class BlockStage(NamedTuple):
    """A stage of an emitted module: the names of its operator and of its class there, and its kernels."""

    operator: str
    owner: str
    kernels: BlockKernels


def place(namespace: dict[str, Any], stage: BlockStage) -> None:
    """Let an emitted module, by its namespace, call the kernels of a stage."""
    owner, kernels = namespace[stage.owner], stage.kernels
    if issubclass(owner, Chunked):
        return
    digest = hashlib.sha256((kernels.text + repr(kernels.face)).encode()).hexdigest()[:12]
    name = f"triton_{kernels.name}_{digest}"
    made = type(owner.__name__, (kernels.inside, owner), {"kernels": kernels})
    namespace[stage.owner] = made
    namespace[stage.operator] = namespace["operator"](made, name)
    kernels.told(name)
