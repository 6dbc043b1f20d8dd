"""The unit of a stage: what happens in a block, as functions of the kernels in `kernels/chunk.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial as bound

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import DType, Expr, Index, Leaf, LeafKind, Scan, Solve
from seqc.ir.plan import TOKEN, Adjoint, Stage, StageInput
from seqc.ir.traverse import leaves, substitute, walk

from ..cpu.diagnose import Unsupported
from ..torch.names import RESERVED, Names
from ..torch.stages import input_hint
from .accessors import Accessors, function_text, hint, packed, unit_text
from .block_layout import LARGEST, SMALLEST, alone, block_layout, gated_apart
from .blocks import BlockBody, for_blocks
from .common import common, partial, pieces
from .gates import Sources, as_they_are
from .inputs import Given, InputAccessors, called
from .kept import as_given
from .layout import LIMIT, Layout
from .printing import GIVEN, SINGLE
from .runtime.chunk import Blocks
from .runtime.kernel import Port
from .unit import WORD, definitions, spliced

WARPS = 8
# Functions whose factors of TF32 are rounded: of the errors of the others nothing comes after.
NEAREST = ("before", "update", "before_back", "back")
FIXED = "".join(f", {name}: tl.constexpr" for name in ("PRECISION", "GIVEN", "ROUNDED"))
RESIDENT_IN = {"update": "state", "back": "flow"}  # what lies in registers from block to block


class Outgrown(Unsupported):
    """States that do not fit into the registers of a program, whether it takes blocks or single tokens."""


def print_blocks(
    stage: Stage,
    adjoint: Adjoint,
    origin: str,
    kept: frozenset[Leaf] = frozenset(),
    sources: Sources | None = None,
    returned: frozenset[Leaf] = frozenset(),
) -> tuple[str, Blocks]:
    """The unit of a stage, and how to call it.

    `kept` are the rule's inputs and `returned` the stage's results that may be of 16 bits.  It reads `sources`, by
    default the inputs as they are.

    Raises `Unsupported`, or `Outgrown`.
    """
    if stage.block < SMALLEST or stage.phase is not None or stage.newton is not None:
        raise Unsupported("a stage that is no loop over blocks of equal length")
    return StageWriter(stage, adjoint, kept, sources or as_they_are(stage), returned).unit(origin)


def systems(stage: Stage) -> int:
    """How many matrices of triangular systems a block has."""
    nodes = walk([*(expr for _, expr in stage.pre), *stage.updates])
    return len({node.matrix for node in nodes if isinstance(node, Solve)})


class StageWriter:
    """Prints the unit of a stage, whose kernels are those of a file of `kernels/`."""

    kernels = "chunk"

    def __init__(
        self,
        stage: Stage,
        adjoint: Adjoint,
        kept: frozenset[Leaf],
        sources: Sources,
        returned: frozenset[Leaf] = frozenset(),
    ) -> None:
        self.stage = stage
        named: dict[Expr, Leaf] = {item.leaf: _named(item) for item in stage.inputs}
        first: dict[Expr, Expr] = dict(stage.pre)
        forward = substitute([*stage.updates, *(read.value for read in stage.reads)], first)
        self.indexed = {node.axis for node in walk(sources.values) if isinstance(node, Index)}
        self.layout = self._laid_out(forward)
        self.alone = alone(stage, self.layout.rows, self.layout.vector) and gated_apart(
            forward, self.layout.vector
        )

        def ready(roots: Iterable[Expr]) -> tuple[Expr, ...]:
            return self._ready(substitute(tuple(roots), dict[Expr, Expr](named)))

        self.made = [leaf for leaf, _ in stage.pre]
        self.before = ready(expr for _, expr in stage.pre)
        self.updates, self.reads = ready(stage.updates), ready(read.value for read in stage.reads)
        direct = [Leaf(LeafKind.COTANGENT, f"{s.name}.direct", s.axes) for s in stage.carried]
        pairs = [(leaf, expr) for leaf, expr in zip(direct, adjoint.direct, strict=True) if expr is not ZERO]
        pairs = [*adjoint.pre, *pairs]
        self.later = [leaf for leaf, _ in pairs]
        self.before_back = ready(expr for _, expr in pairs)
        known = [leaf if leaf in self.later else ZERO for leaf in direct]
        self.steps = ready(build.add(x, y) for x, y in zip(adjoint.steps, known, strict=True))
        self.gradients = ready(adjoint.inputs)
        whole = [{*state.axes, TOKEN} for state in stage.carried]
        scans = [node.axes for node in walk((*self.before, *self.reads)) if isinstance(node, Scan)]
        scanned = [axes for axes in scans if any(own <= {*axes} for own in whole)]
        if max((self.layout.volume(axes) for axes in scanned), default=0) > LARGEST:
            raise Unsupported("a scan of states that do not fit into registers at all tokens of a block")
        if any(leaf.dtype is DType.COMPLEX for leaf in leaves((*self.before, *self.updates, *self.reads))):
            raise Unsupported("blocks of complex numbers")
        self.names, self.work, self.factors = Names(_taken(self.kernels)), dict[str, list[int]](), set[Leaf]()
        self.states = [state.leaf for state in stage.carried]
        self.inputs = list(named.values())
        items = list(zip(self.inputs, stage.inputs, strict=True))
        self.narrow = {leaf for leaf, item in items if as_given(item.value) in kept}
        self.padded = {leaf for leaf, item in items if item.padding}
        self.given = self._given(sources)
        self.kept = {j for j, item in enumerate(sources.items) if as_given(item.value) in kept}
        self.results = [_with_tokens(read.leaf) for read in stage.reads]
        ends = [x for x, read in zip(self.results, stage.reads, strict=True) if read.leaf in returned]
        self.returned = {*ends, *(Leaf(LeafKind.COTANGENT, x.name, x.axes) for x in ends)}
        self.groups = {group[0]: group for group in self._groups()}
        self.written = {k: self.given.gradients(group) for k, group in self.groups.items()}
        self.common = self._common()
        self.meetings = pieces(self.common)
        self.parts = {leaf for x, leaf in self.common.items() if partial(x, self.layout)}
        self.gradients = substitute(self.gradients, self.common)

    def _ready(self, roots: Sequence[Expr]) -> tuple[Expr, ...]:
        """Values over what is printed."""
        return for_blocks(roots, self.stage.sizes, self.layout.rows, self.alone)

    def _laid_out(self, forward: Sequence[Expr]) -> Layout:
        """What programs hold, given what the forward pass computes."""
        found = block_layout(self.stage, forward, self.indexed)
        held = sum(found.volume(state.axes) for state in self.stage.carried)
        if held > LIMIT:
            raise Outgrown(f"states of {held:,} numbers, where a program holds at most {LIMIT:,}")
        return found

    def _given(self, sources: Sources) -> Given:
        """The inputs over what is read, under names that say what they are."""
        read = [_named(item) for item in sources.items]
        known = dict[Expr, Expr](zip((item.leaf for item in sources.items), read, strict=True))
        values, padding = substitute(sources.values, known), [item.padding for item in self.stage.inputs]
        return Given(self.inputs, values, padding, read, sources.items)

    def unit(self, origin: str) -> tuple[str, Blocks]:
        rule = ["\n".join(lines) for lines in (*self._accessors(), *self._functions())]
        rule += ["\n".join(lines) for lines in self._cleared()]
        used = "\n".join(rule)
        linear = spliced(used, "linear")
        parts = [*spliced(used), *linear, *rule, *self._kernels()]
        names = ", ".join(state.name for state in self.stage.carried)
        about = f"{names}: {self.stage.block} tokens at a time."
        return unit_text(origin, about, self.layout.words, parts), self._blocks()

    def _kernels(self) -> list[str]:
        known = dict(definitions(self.kernels))
        text, meeting = known.pop("differentiate"), known.pop("combine", "")
        each = [
            *(numbered(meeting, k) for k in range(len(self.meetings))),
            *(numbered(text, k) for k in self.groups),
        ]
        fused = definitions("fused")
        return [
            *known.values(),
            *each,
            *(numbered(fused[name], min(self.groups, default=0)) for name in self.fused),
        ]

    @property
    def fused(self) -> list[str]:
        """The kernels that go through a sequence in one pass, where no programs would make the same products."""
        if self.kernels != "chunk" or any(count for *_, count, _ in self.work.values()):
            return []
        return ["fused", "fused_back"] if len(self.groups) == 1 else ["fused"]

    def _cleared(self) -> list[list[str]]:
        """Functions of the kernels that go through a sequence in one pass."""
        prints, beyond = Accessors(self.layout, self.names), "with 0 beyond the axes."
        wanted = (("states", self.states), ("made", self.made), ("later", self.later))
        return [
            prints.clear(f"clear_{name}", own, f"The same {beyond}") for name, own in wanted if self.fused
        ]

    def _common(self) -> Mapping[Expr, Leaf]:
        """What the cotangents of several groups of inputs have in common."""
        groups = [[self.gradients[k] for k in group] for group in self.groups.values()]
        return common(groups, self.layout, systems(self.stage))

    def _groups(self) -> list[list[int]]:
        """The inputs whose cotangents one kernel computes.

        Those of diagonal states have their scans in common; others together need more registers than there are.
        """
        wanted = [k for k, g in enumerate(self.gradients) if g is not ZERO and self.given.gradients([k])]
        shared = [k for k in wanted if self.alone and not self.stage.inputs[k].constant]
        return [group for group in (shared, *([k] for k in wanted if k not in shared)) if group]

    def _accessors(self) -> list[list[str]]:
        prints = InputAccessors(self.layout, self.names, self.given)
        return [
            prints.locate(),
            prints.load_inputs(),
            prints.load("load_states", self.states, "States."),
            prints.load_blocks(
                "load_cotangents", self.results, [0.0] * len(self.results), "The cotangents of results."
            ),
            prints.store("store_states", self.states, "States."),
            prints.load("load_made", self.made, "What does not depend on the states."),
            prints.store("store_made", self.made, "What does not depend on the states.", once=True),
            prints.load("load_later", self.later, "What does not depend on the cotangents of states."),
            prints.store(
                "store_later", self.later, "What does not depend on the cotangents of states.", once=True
            ),
            prints.load("load_common", self._shared, "What several cotangents need.", parts=self.parts),
            prints.store_blocks("store_outputs", self.results, "The results of a block."),
            *(
                prints.store_gradients(f"store_gradients{k}", group, self.written[k])
                for k, group in self.groups.items()
            ),
        ]

    # --- a block --------------------------------------------------------------------------------------------------

    def _functions(self) -> list[list[str]]:
        known = [Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes) for leaf in self.results]
        flow = [Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes) for leaf in self.states]
        given: dict[str, Sequence[Leaf]] = {"given": self.inputs}
        whole: dict[str, Sequence[Leaf]] = {"state": self.states, **given, "made": self.made}
        first: dict[str, Sequence[Leaf]] = {**whole, "known": known}
        steps: dict[str, Sequence[Leaf]] = {**given, "made": self.made, "later": self.later, "flow": flow}
        back: dict[str, Sequence[Leaf]] = {**first, "flow": flow}
        each: dict[str, Sequence[Leaf]] = {**back, "shared": self._shared}
        about = "What does not depend on the"
        return [
            self._function("before", given, self.before, self.made, f"{about} states."),
            self._function("update", whole, self.updates, self.states, "The states after a block."),
            self._function("reads", whole, self.reads, self.results, "The results of a block."),
            self._function(
                "before_back", first, self.before_back, self.later, f"{about} cotangents of states."
            ),
            self._function(
                "back", steps, self.steps, self.states, "The cotangents of the states before a block."
            ),
            *(self._met(each, number) for number in range(len(self.meetings))),
            *(
                self._function(
                    f"gradients{number}",
                    each,
                    [self.gradients[k] for k in group],
                    [self.inputs[k] for k in group],
                    f"The cotangents of {called(self.inputs[k] for k in group)} in a block.",
                )
                for number, group in self.groups.items()
            ),
        ]

    def _function(
        self,
        name: str,
        given: Mapping[str, Sequence[Leaf]],
        roots: Sequence[Expr],
        targets: Sequence[Leaf],
        doc: str,
    ) -> list[str]:
        body, read = self._body(name, given, roots)
        found = body.emit(roots, [f"{hint(leaf)}_new" for leaf in targets])
        texts = [body.full(value, leaf.axes) for value, leaf in zip(found, targets, strict=True)]
        self._count(name, body, read, targets)
        lines = [*body.lines, f"return {packed(texts)}"]
        return function_text(name, f"{', '.join(given)}, tile", doc, lines, FIXED)

    def _met(self, given: Mapping[str, Sequence[Leaf]], number: int) -> list[str]:
        """A function that computes some of what cotangents have in common, and writes each value at once."""
        found, name = self.meetings[number], f"meet{number}"
        own = [*found.values()]
        before = {node: leaf for piece in self.meetings[:number] for node, leaf in piece.items()}
        roots = substitute([*found], before)
        body, read = self._body(name, given, roots)
        prints = Accessors(self.layout, self.names)
        for node, leaf in zip(roots, own, strict=True):
            part, k = leaf in self.parts, self._shared.index(leaf)
            place = prints.place_of_part(leaf) if part else "place"
            store = bound(prints.store_one, body, f"pointers[{k}]", leaf, place=place, once=not part)
            body.stores[node] = store
        body.emit(roots, [*map(hint, own)])
        self._count(name, body, read, own)
        arguments = f"pointers, {', '.join(given)}, place, row, tile"
        doc = "What several cotangents need, each value written at once."
        return function_text(name, arguments, doc, body.lines, FIXED)

    def _body(
        self, name: str, given: Mapping[str, Sequence[Leaf]], roots: Sequence[Expr]
    ) -> tuple[BlockBody, list[Leaf]]:
        """The body of a function that computes `roots` from what it is given, and what is loaded for it."""
        rounds = not systems(self.stage)
        body = BlockBody(self.layout, self.names.copy(), loaded_left=True, narrow=True, rounds=rounds)
        body.joins, body.nearest = self.alone, not rounds and name in NEAREST
        used, read = set(leaves(roots)), list[Leaf]()
        for argument, own in given.items():
            for k, leaf in enumerate(own):
                resident = argument == RESIDENT_IN.get(name)
                if self._bind(body, leaf, f"{argument}[{k}]", used, resident) and not resident:
                    read.append(leaf)
        return body, read

    def _count(self, name: str, body: BlockBody, read: Sequence[Leaf], written: Sequence[Leaf]) -> None:
        """Remember what a function takes."""
        self.factors |= body.factors
        products = (body.products, body.rounded)
        self.work[name] = [*self._moved(read, written), *(x * self.programs for x in products)]

    @property
    def _shared(self) -> list[Leaf]:
        return [*self.common.values()]

    def _moved(self, read: Sequence[Leaf], written: Sequence[Leaf]) -> tuple[int, int]:
        """How many entries are moved: as wide as the rule's inputs are, and in single precision.

        In place of inputs they are those of what is read for them; sequences that begin no others anew have no flags.
        """
        given, moved = self.given, list[tuple[bool, int]]()
        sources = {j for k, leaf in enumerate(self.inputs) if leaf in read for j in given.read(k)}
        for k in (k for k, leaf in enumerate(self.inputs) if leaf in written and k in self.written):
            found = self.written[k]
            sources |= {j for j, leaf in enumerate(given.sources) if leaf in leaves(found.values())}
            moved += [(j in self.kept and self._alone(j), self._shares(j) * self._size(j)) for j in found]
        numbers = (j for j in sources if given.sources[j].dtype is not DType.BOOL)
        moved += [(j in self.kept, self._size(j)) for j in numbers]
        others = [x for x in (*read, *written) if x not in self.inputs]
        moved += [(x in self.returned, self.layout.entries(x.axes) * self._writers(x)) for x in others]
        narrow = sum(count for as_given, count in moved if as_given)
        return narrow, sum(count for _, count in moved) - narrow

    def _rows(self, leaf: Leaf) -> tuple[int, bool]:
        """How many rows write a part of a value each, and whether every tile does; 0 where all write the same."""
        apart = (axis for axis in self.layout.rows if axis not in leaf.axes)
        tiled = bool(self.layout.vector) and self.layout.vector not in leaf.axes
        return (self.layout.entries(apart), tiled) if leaf in self.parts else (0, False)

    def _size(self, j: int) -> int:
        return self.layout.entries(self.given.sources[j].axes)

    def _alone(self, j: int) -> bool:
        """Whether one program writes an entry of a source's cotangents."""
        writers = sum(j in found for found in self.written.values())
        return writers == 1 and self._shares(j) == 1

    def _writers(self, leaf: Leaf) -> int:
        rows, tiled = self._rows(leaf)
        return rows * (self.programs // self.layout.count if tiled else 1) or 1

    def _shares(self, j: int) -> int:
        """How many programs share a source."""
        port = self._port(self.given.sources[j])
        return port.shares * (self.programs // self.layout.count if port.tiled else 1)

    def _bind(self, body: BlockBody, leaf: Leaf, text: str, used: set[Leaf], resident: bool) -> bool:
        """Whether a leaf is used.  A cotangent of a result that is the same at all tokens is the sum of theirs."""
        once = summed_over_tokens(leaf)
        prefix = "d_" if leaf.kind is LeafKind.COTANGENT else ""
        if leaf in used:
            name = body.names.fresh(f"{prefix}{hint(leaf)}")
            body.lines.append(f"{name} = {text}")
            blank = not resident and leaf not in self.padded
            body.bind(leaf, name, GIVEN if leaf in self.narrow else SINGLE, blank)
        if once is not leaf and once in used and leaf.kind is LeafKind.COTANGENT:
            name = body.names.fresh(f"{prefix}{hint(leaf)}_sum")
            dimension = self.layout.inner(leaf.axes).index(TOKEN)
            body.lines.append(f"{name} = tl.sum({text}, {dimension})")
            body.bind(once, name)
            return True
        return leaf in used

    # --- how it is called -----------------------------------------------------------------------------------------

    @property
    def programs(self) -> int:
        """How many programs share a block of a sequence."""
        found = self.layout
        return found.count * (-(-found.size(found.vector) // found.tile) if found.vector else 1)

    def _blocks(self) -> Blocks:
        found, stage = self.layout, self.stage
        writes = [(k, list(found)) for k, found in self.written.items()]
        reached = {j for _, own in writes for j in own}
        factors = {
            j for k, leaf in enumerate(self.inputs) if leaf in self.factors for j in self.given.read(k)
        }
        return Blocks(
            rows=found.count,
            vector=found.size(found.vector) if found.vector else 0,
            tile=found.tile,
            warps=WARPS,
            block=stage.block,
            inputs=[
                self._port(leaf, j in reached, item.constant, j in self.kept)
                for j, (leaf, item) in enumerate(zip(self.given.sources, self.given.items, strict=True))
            ],
            outputs=[self._port(leaf, given=leaf in self.returned) for leaf in self.results],
            states=[self._port(leaf) for leaf in self.states],
            made=[self._between(leaf) for leaf in self.made],
            later=[self._between(leaf) for leaf in self.later],
            common=[self._between(leaf) for leaf in self._shared],
            parts=[self._rows(leaf) for leaf in self._shared],
            work={**self.work, **self._passes()},
            writes=writes,
            factors=sorted(factors & self.kept),
            fused=self.fused,
        )

    def _passes(self) -> dict[str, list[int]]:
        """What a block takes of the kernels that go through a sequence in one pass."""
        used = leaves([*self.before, *self.updates, *self.reads])
        read = [leaf for leaf in self.inputs if leaf in used]
        known = [Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes) for leaf in self.results]
        written = [self.inputs[k] for group in self.groups.values() for k in group]
        moved = {
            "fused": self._moved(read, [*self.results, *self.states]),
            "fused_back": self._moved([*self.inputs, *self.states, *known], written),
        }
        return {name: [*moved[name], 0, 0] for name in self.fused}

    def _between(self, leaf: Leaf) -> tuple[int, ...]:
        return tuple(self.layout.size(axis) for axis in leaf.axes)

    def _port(
        self, leaf: Leaf, differentiable: bool = True, constant: bool = False, given: bool = False
    ) -> Port:
        found = self.layout
        return Port(
            leaf.name,
            tuple(found.size(axis) for axis in leaf.axes if axis != TOKEN),
            found.entries(axis for axis in found.rows if axis not in leaf.axes),
            bool(found.vector) and found.vector not in leaf.axes,
            differentiable,
            constant,
            given,
            leaf.dtype is DType.BOOL,
        )


def _named(item: StageInput) -> Leaf:
    """The leaf of an input under a name that says what it is."""
    leaf = item.leaf
    return Leaf(leaf.kind, f"{leaf.name}.{input_hint(item.value)}", leaf.axes, leaf.number)


def summed_over_tokens(leaf: Leaf) -> Leaf:
    return Leaf(leaf.kind, leaf.name, tuple(axis for axis in leaf.axes if axis != TOKEN), leaf.number)


def numbered(text: str, group: int) -> str:
    """A kernel for one of several groups of values, whose functions have its number."""
    return re.sub(r"\b(combine|meet|differentiate|gradients|store_gradients)\b", rf"\g<1>{group}", text)


def _with_tokens(leaf: Leaf) -> Leaf:
    return Leaf(leaf.kind, leaf.name, (TOKEN, *(axis for axis in leaf.axes if axis != TOKEN)), leaf.number)


def _taken(file: str) -> frozenset[str]:
    """Names that mean something in a unit already whose kernels are those of a file."""
    files = (file, "fused", "linear", "math")
    kernels = "\n".join(text for file in files for text in definitions(file).values())
    return RESERVED | frozenset(WORD.findall(kernels + FIXED)) | {"pointers", "values", "first", "tokens"}
