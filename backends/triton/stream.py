"""The unit of a stage whose states do not fit into registers: they lie in memory, and so does what is computed from
them; see `kernels/stream.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from seqc.ir.build import ZERO
from seqc.ir.expr import Expr, Leaf
from seqc.ir.plan import TOKEN, Adjoint, Stage

from .accessors import Accessors, function_text, hint
from .block_layout import RESIDENT, SMALLEST, WIDEST, independent_axes, order_of
from .contractions import reordered
from .gates import as_they_are
from .layout import LIMIT, Layout
from .phases import Phase, phases
from .primitives import Code, number
from .printing import Body, Value
from .runtime.chunk import Blocks, continued
from .runtime.kernel import Port
from .runtime.launch import power_of_two
from .stage import FIXED, Outgrown, StageWriter, summed_over_tokens, systems
from .tiling import TiledBody

WARPS = 8
LONGEST = 16  # phases of a kernel: of so many, one after another, compilers do what takes the square of their number
TENSORS = (
    "inputs",
    "made",
    "starts",
    "d_outputs",
    "later",
    "flows",
    "outputs",
    "d_sources",
)  # in their order
# The tensors of what functions are given, and where in them a block's part lies; without a place, at its tokens.
GIVEN = {
    "given": ("inputs", ""),
    "made": ("made", "place"),
    "state": ("starts", "place"),
    "known": ("d_outputs", ""),
    "later": ("later", "place"),
    "flow": ("flows", "(place + 1)"),
}
# The same of what functions write.
WRITTEN = {
    "before": ("made", "place"),
    "update": ("starts", "(place + 1)"),
    "reads": ("outputs", ""),
    "before_back": ("later", "place"),
    "back": ("flows", "place"),
    "gradients": ("d_sources", ""),
}
KERNELS = {
    "prepare": "before",
    "sweep": "update",
    "answer": "reads",
    "prepare_back": "before_back",
    "sweep_back": "back",
    "differentiate": "gradients",
}


SWEPT = ("update", "back")  # functions that a program calls for one block after another


def print_streamed(stage: Stage, adjoint: Adjoint, origin: str) -> tuple[str, Blocks]:
    """The unit of a stage, and how to call it.  Raises `Unsupported`, or `Outgrown`."""
    return StreamWriter(stage, adjoint).unit(origin)


class StreamWriter(StageWriter):
    """Functions that load and store what they need by themselves, phase after phase."""

    kernels = "stream"

    def __init__(self, stage: Stage, adjoint: Adjoint) -> None:
        super().__init__(stage, adjoint, frozenset(), as_they_are(stage))
        self.padding = dict(zip(self.inputs, (item.padding for item in stage.inputs), strict=True))
        self.rooms = dict[str, int]()  # numbers between phases, by function
        self.pieces = dict[tuple[str, str], int]()  # how many kernels do what one would do, and call what

    def _laid_out(self, forward: Sequence[Expr]) -> Layout:
        """Of the axes that are not taken apart, that one is cut into tiles which leaves least to hold."""
        stage = self.stage
        given = [{*item.leaf.axes} - {TOKEN} for item in stage.inputs if not item.constant]
        rows = tuple(a for a in independent_axes(stage, forward) if all(a in axes for axes in given if axes))

        def cut(axis: str, tile: int) -> Layout:
            return Layout(stage.sizes, rows, axis, tile, order_of(stage), SMALLEST)

        def held(axis: str, tile: int) -> int:
            return max(cut(axis, tile).volume(state.axes) for state in stage.carried)

        axes = dict.fromkeys(axis for state in stage.carried for axis in state.axes if axis not in rows)
        axis = min(axes, key=lambda axis: held(axis, SMALLEST), default="")
        if not axis or held(axis, SMALLEST) > LIMIT:
            raise Outgrown(f"states whose tiles have more than {LIMIT:,} numbers")
        tile = min(WIDEST, max(SMALLEST, power_of_two(stage.sizes[axis])))
        while tile > SMALLEST and held(axis, tile) > RESIDENT:
            tile //= 2
        return cut(axis, tile)

    def _ready(self, roots: Sequence[Expr]) -> tuple[Expr, ...]:
        """Over sums that take as little as they can."""
        return reordered(super()._ready(roots), self.stage.sizes)

    def _common(self) -> Mapping[Expr, Leaf]:
        """Nothing: there is one group."""
        return {}

    def _groups(self) -> list[list[int]]:
        """All inputs: what their cotangents have in common is computed once."""
        wanted = [k for k, g in enumerate(self.gradients) if g is not ZERO and self.given.gradients([k])]
        return [wanted] if wanted else []

    def _accessors(self) -> list[list[str]]:
        return [self._accessor().locate()]

    # --- a block --------------------------------------------------------------------------------------------------

    def _function(
        self,
        name: str,
        given: Mapping[str, Sequence[Leaf]],
        roots: Sequence[Expr],
        targets: Sequence[Leaf],
        doc: str,
    ) -> list[str]:
        function = name.rstrip("0123456789")
        found = phases(roots, targets, self.layout.vector)
        room, names = _Room(self.layout, found), self.names.copy()
        known = _places(given)
        self.rooms[function] = room.size
        moved = {*(GIVEN[argument][0] for argument in given if argument in GIVEN), WRITTEN[function][0]}
        tensors = [tensor for tensor in TENSORS if tensor in moved]
        arguments = f"{', '.join(tensors)}, scratch, zero, slot, batch, first, place, tokens, time, row"
        texts = list[list[str]]()
        for piece in self._cut(function, found):
            own = continued(name, len(texts))
            lines, read, products, depth = list[str](), dict[Leaf, None](), 0, piece[0].depth if piece else 0
            for phase in piece:
                if phase.depth > depth:
                    lines.append("tl.debug_barrier()")
                body = TiledBody(
                    self.layout, names, loaded_left=True, narrow=True, rounds=not systems(self.stage)
                )
                self._phase(body, function, known, room, phase, read)
                lines += body.lines
                products, depth = products + body.products, phase.depth
            written = [targets[phase.place] for phase in piece if phase.place is not None]
            self.work[own] = [*self._moved([*read], written), products * self.programs, 0]
            texts.append(function_text(own, arguments, doc, lines or ["pass"], FIXED))
        self.pieces[called_by(name), name] = len(texts)
        return "\n\n\n".join("\n".join(text) for text in texts).split("\n")

    def _cut(self, function: str, found: Sequence[Phase]) -> list[Sequence[Phase]]:
        """The phases by the kernel that does them; a program that goes from block to block does all of them."""
        if function in SWEPT or len(found) <= LONGEST:
            return [found]
        return [found[k : k + LONGEST] for k in range(0, len(found), LONGEST)]

    def _kernels(self) -> list[str]:
        """Of functions that are cut, one for each piece."""
        found = super()._kernels()
        for (kernel, function), count in self.pieces.items():
            (text,) = [each for each in found if f"def {kernel}(" in each]
            names = rf"\b({kernel}|{function})\b"
            found += [re.sub(names, continued(r"\g<1>", k), text) for k in range(1, count)]
        return found

    def _phase(
        self,
        body: TiledBody,
        function: str,
        known: Mapping[Leaf, tuple[str, int, Leaf]],
        room: _Room,
        phase: Phase,
        read: dict[Leaf, None],
    ) -> None:
        """The lines of a phase; what it reads besides other phases goes into `read`."""

        def load(wanted: Leaf) -> None:
            if wanted in room.places:
                name = body.names.fresh(hint(wanted))
                body.lines.append(f"{name} = tl.load({room.address(body, wanted)})")
                return body.bind(wanted, name)
            argument, k, leaf = known[wanted]
            self._bind(body, leaf, self._loaded(body, argument, k, leaf), {wanted}, False)
            read[leaf] = None

        def store(value: Value) -> None:
            text = body.full(value, phase.leaf.axes)
            if phase.place is None:
                body.lines.append(f"tl.store({room.address(body, phase.leaf)}, {text})")
            else:
                self._store(body, function, phase.place, phase.leaf, text)

        body.load = load
        body.through(phase.leaf, phase.value, store)

    def _loaded(self, body: TiledBody, argument: str, k: int, leaf: Leaf) -> str:
        tensor, place = GIVEN[argument]
        return self._accessor(leaf).loaded(body, leaf, f"{tensor}[{k}]", place, self.padding.get(leaf, 0.0))

    def _store(self, body: TiledBody, function: str, k: int, leaf: Leaf, text: str) -> None:
        tensor, place = WRITTEN[function]
        prints = self._accessor(leaf)
        if place:
            prints.store_one(body, f"{tensor}[{k}]", leaf, text, place, once=tensor in ("made", "later"))
        else:
            prints.store_block(body, f"{tensor}[{k}]", leaf, text, shared=tensor == "d_sources")

    def _accessor(self, leaf: Leaf | None = None) -> _Accessors:
        """Programs have all tiles: they share nothing of which each has a tile."""
        cut = leaf is not None and self.layout.vector in leaf.axes
        return _Accessors(self.layout if cut else replace(self.layout, vector=""), self.names)

    # --- how it is called -----------------------------------------------------------------------------------------

    @property
    def programs(self) -> int:
        return self.layout.count

    def _port(
        self, leaf: Leaf, differentiable: bool = True, constant: bool = False, given: bool = False
    ) -> Port:
        return super()._port(leaf, differentiable, constant, given)._replace(tiled=False)

    def _blocks(self) -> Blocks:
        room = [(kernel, self.rooms.get(function, 0)) for kernel, function in KERNELS.items()]
        pieces = [(kernel, count) for (kernel, _), count in self.pieces.items() if count > 1]
        face = super()._blocks()
        return face._replace(vector=0, warps=WARPS, form="streamed", room=room, pieces=pieces)


def called_by(function: str) -> str:
    """The kernel that calls a function; both have the same number."""
    bare = function.rstrip("0123456789")
    return next(kernel for kernel, own in KERNELS.items() if own == bare) + function.removeprefix(bare)


def _places(given: Mapping[str, Sequence[Leaf]]) -> dict[Leaf, tuple[str, int, Leaf]]:
    """Where leaves are read: an argument, a place there, and the leaf that lies there, or of which they are sums."""
    found = dict[Leaf, tuple[str, int, Leaf]]()
    for argument, own in given.items():
        for k, leaf in enumerate(own):
            found[leaf] = (argument, k, leaf)
            found.setdefault(summed_over_tokens(leaf), (argument, k, leaf))
    return found


class _Accessors(Accessors):
    """Prints single loads, too."""

    def loaded(self, body: Body, leaf: Leaf, pointer: str, place: str, filling: float) -> str:
        """A program's part of a tensor: of [places, …], or without a place at the tokens of a block of
        [batch, time, …], of which those after the last are `filling`.
        """
        if place:
            address, mask = self._address(body, pointer, leaf, place)
        else:
            address, mask = self._block_address(body, pointer, leaf, "")
        text = f"tl.load({address}{mask and f', mask={mask}, other=0.0'})"
        return (
            f"tl.where({self._tokens(body, leaf)} < time, {text}, {number(filling).text})"
            if filling
            else text
        )


class _Room:
    """Where values lie between phases: blocks with all entries, one after another, for each program."""

    def __init__(self, found: Layout, given: Sequence[Phase]) -> None:
        self.layout, self.places, self.size = found, dict[Leaf, int](), 0
        for phase in given:
            if phase.place is None:
                self.places[phase.leaf] = self.size
                self.size += prod(map(self._length, found.inner(phase.leaf.axes)))

    def _length(self, axis: str) -> int:
        """All tiles of an axis."""
        found = self.layout
        return -(-found.size(axis) // found.tile) * found.tile if axis == found.vector else found.padded(axis)

    def address(self, body: Body, leaf: Leaf) -> str:
        inner = self.layout.inner(leaf.axes)
        step, terms = 1, list[str]()
        for axis in reversed(inner):
            text = body.aligned(Value(Code(body.place(axis)), (axis,)), inner).text
            terms.append(text if step == 1 else f"{text} * {step}")
            step *= self._length(axis)
        start = [str(self.places[leaf])] if self.places[leaf] else []
        return " + ".join(["scratch", f"slot * {self.size}", *start, *reversed(terms)])
