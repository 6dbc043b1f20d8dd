"""The unit of what the tokens of a rule with growing stores read: functions of `kernels/attention.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from seqc.ir.build import ZERO
from seqc.ir.expr import DType, Expr, Leaf, LeafKind
from seqc.ir.plan import TOKEN, Plan
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import leaves, substitute

from ..cpu.diagnose import Unsupported
from ..torch.attention import print_attention, store_axis
from ..torch.names import RESERVED, Names
from ..torch.softmax import find_softmax
from .accessors import Accessors, function_text, hint, packed, unit_text
from .block_layout import SMALLEST
from .blocks import for_blocks
from .kept import exact
from .primitives import Code
from .printing import GIVEN, NOTHING, SINGLE, Value
from .reads import Reads, find_reads
from .runtime.attention import Given, Reading
from .runtime.kernel import Port
from .scores import ReadBody, ReadLayout
from .unit import WORD, definitions, spliced

BLOCKS = ((64, 64), (64, 32), (32, 32), (16, 16))  # what a program holds and goes through, the largest first
RESIDENT = 8192  # numbers of a value that a program should hold at most
STREAMED = 4096  # and of what it goes through
WARPS = 4
LENGTHS = ", QUERIES: tl.constexpr, ENTRIES: tl.constexpr"
FIXED = f"{LENGTHS}, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr"


def print_reads(plan: Plan, origin: str, operators: Sequence[str] = ()) -> tuple[str, Reading, Given]:
    """The unit of what the tokens of a rule read, how to call it, and what it takes as it is.

    `operators` are those of its stages.  Raises `Unsupported`.
    """
    rec = plan.recurrence
    outputs = list(plan.outputs[: len(rec.outputs)])
    axis = store_axis(rec)
    printed = print_attention(rec, outputs, "Reads", "reads")  # whose module calls the kernels
    if printed.kind is not None and (softmax := find_softmax(rec, outputs)) is not None:
        outputs = [softmax.expr]
    asked: dict[Expr, Leaf] = {}
    for k, expr in enumerate(printed.queries):
        name = f"query{k}.{expr.name.split('.')[-1]}" if isinstance(expr, Leaf) else f"query{k}.query"
        asked[expr] = Leaf(LeafKind.READ, name, (TOKEN, *expr.axes), expr.dtype)
    stored = {store.leaf: store.next for store in rec.stores}
    found = find_reads(outputs, rec.returns, asked, stored, axis)
    kept = kept_inputs(plan, printed.queries)
    narrow = {leaf for expr, leaf in asked.items() if expr in kept}
    narrow |= {store.next for store in rec.stores if store.value in kept}
    stores = [store.name for store in rec.stores if store.value in kept]
    given = Given([k for k, leaf in enumerate(rec.inputs) if leaf in kept], stores, operators)
    for sizes in BLOCKS:
        try:
            unit, face = _Writer(rec, found, narrow, origin, *sizes).unit(sizes == BLOCKS[-1])
            return unit, face, given
        except Unsupported:
            if sizes == BLOCKS[-1]:
                raise
    raise AssertionError


def kept_inputs(plan: Plan, queries: Sequence[Expr]) -> frozenset[Leaf]:
    """The inputs that reads are handed in the type that they have: nothing else is computed from them."""
    rec = plan.recurrence
    values = [item.value for stage in plan.stages for item in stage.inputs]
    if not all(exact(value) for value in values):
        return frozenset()
    known = [*queries, *(store.value for store in rec.stores)]
    computed = leaves([*values, *rec.updates, *(expr for expr in known if not isinstance(expr, Leaf))])
    return frozenset(leaf for leaf in rec.inputs if leaf in known and leaf not in computed)


class _Writer:
    def __init__(
        self, rec: Recurrence, found: Reads, narrow: Collection[Leaf], origin: str, block: int, step: int
    ) -> None:
        self.rec, self.reads, self.narrow, self.origin = rec, found, narrow, origin
        self.lengths = (block, step)
        axis = found.axis
        known = [*found.queries, *found.entries, *found.tops, *found.sums]
        axes = dict.fromkeys([TOKEN, axis, *(a for leaf in known for a in leaf.axes)])
        order = {a: k for k, a in enumerate(axes)}
        turned = {**order, axis: order[TOKEN], TOKEN: order[axis]}
        sizes = {**rec.sizes, TOKEN: block, axis: step}
        both = {TOKEN: "QUERIES", axis: "ENTRIES"}
        self.layout = ReadLayout(sizes, found.rows, "", 1, order, SMALLEST, both)
        self.turned = ReadLayout(sizes, found.rows, "", 1, turned, SMALLEST, both)
        inside = {TOKEN: "ENTRIES"}
        self.inside = ReadLayout({**sizes, TOKEN: step}, found.rows, "", 1, order, SMALLEST, inside)
        self.names, self.largest, self.factors = Names(_taken()), 0, set[Leaf]()
        self.work = dict[str, list[int]]()
        own = ({*leaf.axes} - {TOKEN, axis} for leaf in known)
        self.streamed = step * max((self.layout.volume(axes) for axes in own), default=1)
        if any(leaf.dtype is not DType.REAL for leaf in known):
            raise Unsupported("queries or entries that are no real numbers")
        self.entries = [_along(leaf, axis) for leaf in found.entries]
        self.outputs = [
            Leaf(LeafKind.COTANGENT, f"out{k}", (TOKEN, *axes)) for k, axes in enumerate(rec.returns)
        ]
        self.flow = [Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes) for leaf in found.sums]
        self.gathered = self._ready(found.gathered())
        weights = found.weights()
        self.weights = {*self._ready(weights), *self._ready(substitute(weights, found.after()))}
        self.answers = self._ready(found.outputs)
        slopes = self._ready(found.slopes(self.outputs))
        self.slopes, self.direct = slopes[: len(found.sums)], slopes[len(found.sums) :]
        flows = self._ready(found.flows(self.flow))
        self.asking, self.known = flows[: len(found.queries)], flows[len(found.queries) :]
        self.wanted = [
            k for k, own in enumerate(zip(self.asking, self.direct, strict=True)) if own != (ZERO, ZERO)
        ]

    def _ready(self, roots: Sequence[Expr]) -> tuple[Expr, ...]:
        return for_blocks(roots, self.layout.sizes, self.layout.rows)

    def unit(self, any_size: bool) -> tuple[str, Reading]:
        """Raises `Unsupported` where a block would be too large, and unless `any_size` where it might spill."""
        rule = ["\n".join(lines) for lines in (*self._accessors(), *self._tuples(), *self._functions())]
        if not any_size and (self.largest > RESIDENT or self.streamed > STREAMED):
            raise Unsupported(
                f"values of {self.largest:,} and {self.streamed:,} numbers, where a program should hold"
                f" {RESIDENT:,} and {STREAMED:,}"
            )
        parts = [*spliced("\n".join(rule)), *rule, *definitions("attention").values()]
        about = f"What tokens of the rule `{self.rec.name}` read."
        return unit_text(self.origin, about, self.layout.row_words, parts), self._reading()

    # --- between memory and registers -----------------------------------------------------------------------------

    def _accessors(self) -> list[list[str]]:
        prints = Accessors(self.layout, self.names, LENGTHS)
        entries = Accessors(self.inside, self.names, LENGTHS)
        reads, count = self.reads, self.layout.count
        found = [*reads.tops, *reads.sums]
        queries = [reads.queries[k] for k in self.wanted]

        def load(function: str, leaves: Sequence[Leaf], doc: str, again: bool = False) -> list[str]:
            return prints.load_blocks(function, leaves, [0.0] * len(leaves), doc, again)

        locate = [f"return program // {count}, program % {count}, 0"]
        return [
            function_text(
                "locate", "program", "The batch, the row and the tile of a program.", locate, LENGTHS
            ),
            load("load_queries", reads.queries, "What some tokens ask with.", again=True),
            load("load_found", found, "The numbers that the results of some queries are made of."),
            load("load_flow", self.flow, "The cotangents of the sums of some queries."),
            load("load_cotangents", self.outputs, "The cotangents of the results of some queries."),
            entries.load_blocks(
                "load_entries", self.entries, [0.0] * len(self.entries), "Some entries.", again=True
            ),
            prints.store_blocks("store_found", found, "The numbers that results are made of."),
            prints.store_blocks("store_flow", self.flow, "The cotangents of sums."),
            prints.store_blocks("store_outputs", self.outputs, "The results of some queries."),
            prints.store_blocks("store_queries", queries, "The cotangents of some queries.", True),
            entries.store_blocks("store_entries", self.entries, "The cotangents of some entries.", True),
        ]

    def _tuples(self) -> list[list[str]]:
        reads, layout = self.reads, self.layout
        begin = [*((NOTHING, leaf) for leaf in reads.tops), *(("0.0", leaf) for leaf in reads.sums)]
        start = [f"tl.full({layout.shape(leaf.axes)}, {x}, tl.float32)" for x, leaf in begin]
        found = [function_text("empty", "", "What no entry gives.", [f"return {packed(start)}"], LENGTHS)]
        own = [self.inside.shape(leaf.axes) for leaf in self.entries]
        zeros = packed([f"tl.full({shape}, 0.0, tl.float32)" for shape in own])
        found.append(function_text("zero_entries", "", "Zeros.", [f"return {zeros}"], LENGTHS))
        for name, count in (("queries", len(self.wanted)), ("entries", len(self.entries))):
            sums = packed([f"x[{k}] + y[{k}]" for k in range(count)])
            found.append(function_text(f"add_{name}", "x, y", "A sum.", [f"return {sums}"], LENGTHS))
        return found

    # --- a block --------------------------------------------------------------------------------------------------

    def _functions(self) -> list[list[str]]:
        reads = self.reads
        have = {"found": [*reads.tops, *reads.sums]}
        asked, known, flow = {"asked": reads.queries}, {"known": reads.entries}, {"flow": self.flow}
        queries = [reads.queries[k] for k in self.wanted]
        asking, direct = ([own[k] for k in self.wanted] for own in (self.asking, self.direct))
        both = {**have, **asked, **known}
        back = {**have, **flow, **asked, **known}
        sums = "The cotangents of sums, and those of queries but for what entries give."
        return [
            self._function("gather", both, [(self.gathered, have["found"])], "Once more entries are seen."),
            self._function(
                "answers", {**have, **asked}, [(self.answers, self.outputs)], "The results of some queries."
            ),
            self._function(
                "slopes",
                {**have, **asked, "d_out": self.outputs},
                [(self.slopes, self.flow), (direct, queries)],
                sums,
            ),
            self._function(
                "flow_queries", back, [(asking, queries)], "What entries add to those of queries."
            ),
            self._function(
                "flow_entries", back, [(self.known, reads.entries)], "What queries add to those of entries."
            ),
        ]

    def _function(
        self,
        name: str,
        given: Mapping[str, Sequence[Leaf]],
        results: Sequence[tuple[Sequence[Expr], Sequence[Leaf]]],
        doc: str,
    ) -> list[str]:
        turned = name == "flow_entries"  # entries are the rows of what is summed for them
        layout, loaded = (self.turned, ("flow",)) if turned else (self.layout, ())
        body = ReadBody(layout, self.names.copy(), self.weights)
        roots = [root for own, _ in results for root in own]
        targets = [leaf for _, own in results for leaf in own]
        used = set(leaves(roots))
        for argument, own in given.items():
            for k, leaf in enumerate(own):
                if leaf in used:
                    prefix = "d_" if leaf.kind is LeafKind.COTANGENT else ""
                    variable = body.names.fresh(f"{prefix}{_called(leaf)}")
                    body.lines.append(f"{variable} = {argument}[{k}]")
                    blank = argument in ("asked", "known", "d_out", *loaded)
                    body.bind(leaf, variable, GIVEN if leaf in self.narrow else SINGLE, blank)
        both = layout.inner((TOKEN, self.reads.axis))
        body.known[self.reads.visible] = Value(Code("sees", truth=True), both)
        body.known[self.reads.age] = Value(Code("age"), both)
        values = iter(body.emit(roots, [f"{_called(leaf)}_new" for leaf in targets]))
        self.largest = max(self.largest, *(self.layout.volume(value.axes) for value in body.known.values()))
        self.factors |= body.factors
        if "known" in given:
            self.work[name] = [body.products, body.rounded]
        packs = [packed([body.full(next(values), leaf.axes) for leaf in own]) for _, own in results]
        body.lines.append(f"return {', '.join(packs)}")
        more = ["sees", "age"] if "known" in given else []
        arguments = ", ".join([*given, *more, "tile"])
        return function_text(name, arguments, doc, body.lines, FIXED)

    # --- how it is called -----------------------------------------------------------------------------------------

    def _reading(self) -> Reading:
        reads, store = self.reads, self.rec.stores[0]
        block, step = self.lengths
        return Reading(
            rows=self.layout.count,
            warps=WARPS if self.largest <= RESIDENT else 2 * WARPS,
            block=block,
            step=step,
            window=store.window or 0,
            sinks=store.sinks,
            queries=[
                self._port(leaf, k in self.wanted, leaf in self.narrow)
                for k, leaf in enumerate(reads.queries)
            ],
            entries=[
                self._port(leaf, given=self.reads.entries[k] in self.narrow)
                for k, leaf in enumerate(self.entries)
            ],
            outputs=[self._port(leaf) for leaf in self.outputs],
            found=[self._port(leaf) for leaf in (*reads.tops, *reads.sums)],
            sums=len(reads.sums),
            factors=[k for k, leaf in enumerate((*reads.queries, *reads.entries)) if leaf in self.factors],
            work=self.work,
        )

    def _port(self, leaf: Leaf, differentiable: bool = True, given: bool = False) -> Port:
        layout = self.layout
        return Port(
            hint(leaf),
            tuple(layout.size(axis) for axis in leaf.axes if axis != TOKEN),
            layout.entries(axis for axis in layout.rows if axis not in leaf.axes),
            differentiable=differentiable,
            given=given,
        )


def _called(leaf: Leaf) -> str:
    """What to call the value of a leaf: `top0`, `sum1`, or by its name."""
    return leaf.name.replace(".", "") if leaf.name.startswith(("top.", "sum.")) else hint(leaf)


def _along(leaf: Leaf, axis: str) -> Leaf:
    """A store with its entries where accessors expect tokens."""
    own = tuple(other for other in leaf.axes if other != axis)
    return Leaf(leaf.kind, leaf.name, (TOKEN, *own), leaf.number)


def _taken() -> frozenset[str]:
    """Names that mean something in a unit already."""
    kernels = "\n".join(text for file in ("attention", "math") for text in definitions(file).values())
    words = {*WORD.findall(FIXED), "pointers", "values", "asked", "known", "flow", "have", "d_out"}
    return RESERVED | frozenset(WORD.findall(kernels)) | words
