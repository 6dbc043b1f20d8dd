"""The unit of what the tokens of a rule with growing stores read: functions of `kernels/attention.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from seqc.ir.build import ZERO
from seqc.ir.expr import DType, Expr, Leaf, LeafKind
from seqc.ir.plan import TOKEN, Plan
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import leaves

from ..cpu.diagnose import Unsupported
from ..torch.attention import print_attention, store_axis
from ..torch.names import RESERVED, Names
from ..torch.softmax import find_softmax
from .accessors import Accessors, function_text, hint, packed, unit_text
from .blocks import BlockBody, for_blocks
from .layout import Layout
from .primitives import Code
from .printing import NOTHING, Value
from .reads import Reads, find_reads
from .runtime.attention import Reading
from .runtime.kernel import Port
from .unit import WORD, definitions, spliced

EACH = re.compile(
    r"\b(?:back|flow|add|zero|store)_entries\b"
)  # what a kernel for some of the entries has of its own
BLOCKS = ((64, 32), (32, 32), (16, 16))  # queries and entries of a program, the largest first
RESIDENT = 4096  # numbers of a value that a program should hold at most
WARPS = 4
SMALLEST = 16  # entries of a block along an axis, so that it may be a side of a matrix product


def print_reads(plan: Plan, origin: str) -> tuple[str, Reading]:
    """The unit of what the tokens of a rule read, and how to call it.  Raises `Unsupported`."""
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
    for sizes in BLOCKS:
        try:
            return _Writer(rec, found, origin, *sizes).unit(sizes == BLOCKS[-1])
        except Unsupported:
            if sizes == BLOCKS[-1]:
                raise
    raise AssertionError


class _Writer:
    def __init__(self, rec: Recurrence, found: Reads, origin: str, queries: int, entries: int) -> None:
        self.rec, self.reads, self.origin = rec, found, origin
        self.lengths = (queries, entries)
        axis = found.axis
        known = [*found.queries, *found.entries, *found.tops, *found.sums]
        axes = dict.fromkeys([TOKEN, axis, *(a for leaf in known for a in leaf.axes)])
        order = {a: k for k, a in enumerate(axes)}
        sizes = {**rec.sizes, TOKEN: queries, axis: entries}
        self.layout = Layout(sizes, found.rows, "", 1, order, SMALLEST)
        self.inside = Layout({**sizes, TOKEN: entries}, found.rows, "", 1, order, SMALLEST)
        self.names, self.largest = Names(_taken()), 0
        if any(leaf.dtype is not DType.REAL for leaf in known):
            raise Unsupported("queries or entries that are no real numbers")
        self.entries = [_along(leaf, axis) for leaf in found.entries]
        self.groups = self._groups()
        self.outputs = [
            Leaf(LeafKind.COTANGENT, f"out{k}", (TOKEN, *axes)) for k, axes in enumerate(rec.returns)
        ]
        self.flow = [Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes) for leaf in found.sums]
        self.gathered = self._ready(found.gathered())
        self.answers = self._ready(found.outputs)
        slopes = self._ready(found.slopes(self.outputs))
        self.slopes, self.direct = slopes[: len(found.sums)], slopes[len(found.sums) :]
        flows = self._ready(found.flows(self.flow))
        self.asking, self.known = flows[: len(found.queries)], flows[len(found.queries) :]
        self.wanted = [
            k for k, own in enumerate(zip(self.asking, self.direct, strict=True)) if own != (ZERO, ZERO)
        ]

    def _groups(self) -> list[list[int]]:
        """Entries whose cotangents are computed together: a matrix, and with the first all that are numbers.

        The sums of two matrices need more registers than there are.
        """
        wide = [len(self.inside.inner(leaf.axes)) > 1 for leaf in self.entries]
        matrices = [[k] for k, own in enumerate(wide) if own] or [[]]
        matrices[0] += [k for k, own in enumerate(wide) if not own]
        return matrices

    def _ready(self, roots: Sequence[Expr]) -> tuple[Expr, ...]:
        return for_blocks(roots, self.layout.sizes, self.layout.rows)

    def unit(self, any_size: bool) -> tuple[str, Reading]:
        """Raises `Unsupported` where a block would be too large, and unless `any_size` where it might spill."""
        rule = ["\n".join(lines) for lines in (*self._accessors(), *self._tuples(), *self._functions())]
        if not any_size and self.largest > RESIDENT:
            raise Unsupported(
                f"a value of {self.largest:,} numbers, where a program should hold {RESIDENT:,}"
            )
        parts = [*spliced("\n".join(rule)), *rule, *self._kernels()]
        queries, entries = self.lengths
        about = (
            f"What tokens of the rule `{self.rec.name}` read: {queries} queries, {entries} entries at a time."
        )
        return unit_text(self.origin, about, self.layout.row_words, parts), self._reading()

    def _kernels(self) -> list[str]:
        """The cotangents of each group of entries have a kernel of their own."""
        known = dict(definitions("attention"))
        text = known.pop("back_entries")
        return [*known.values(), *(EACH.sub(rf"\g<0>{k}", text) for k in range(len(self.groups)))]

    # --- between memory and registers -----------------------------------------------------------------------------

    def _accessors(self) -> list[list[str]]:
        prints, entries = Accessors(self.layout, self.names), Accessors(self.inside, self.names)
        reads, count = self.reads, self.layout.count
        found = [*reads.tops, *reads.sums]
        queries = [reads.queries[k] for k in self.wanted]

        def load(function: str, leaves: Sequence[Leaf], doc: str) -> list[str]:
            return prints.load_blocks(function, leaves, [0.0] * len(leaves), doc)

        locate = [f"return program // {count}, program % {count}, 0"]
        return [
            function_text("locate", "program", "The batch, the row and the tile of a program.", locate),
            load("load_queries", reads.queries, "What some tokens ask with."),
            load("load_found", found, "The numbers that the results of some queries are made of."),
            load("load_flow", self.flow, "The cotangents of the sums of some queries."),
            load("load_cotangents", self.outputs, "The cotangents of the results of some queries."),
            entries.load_blocks("load_entries", self.entries, [0.0] * len(self.entries), "Some entries."),
            prints.store_blocks("store_found", found, "The numbers that results are made of."),
            prints.store_blocks("store_flow", self.flow, "The cotangents of sums."),
            prints.store_blocks("store_outputs", self.outputs, "The results of some queries."),
            prints.store_blocks("store_queries", queries, "The cotangents of some queries.", True),
            *(
                entries.store_blocks(
                    f"store_entries{k}",
                    [self.entries[e] for e in group],
                    "The cotangents of some entries.",
                    True,
                )
                for k, group in enumerate(self.groups)
            ),
        ]

    def _tuples(self) -> list[list[str]]:
        reads, layout = self.reads, self.layout
        begin = [*((NOTHING, leaf) for leaf in reads.tops), *(("0.0", leaf) for leaf in reads.sums)]
        start = [f"tl.full({layout.shape(leaf.axes)}, {x}, tl.float32)" for x, leaf in begin]
        found = [function_text("empty", "", "What no entry gives.", [f"return {packed(start)}"])]
        for k, group in enumerate(self.groups):
            own = [self.inside.shape(self.entries[e].axes) for e in group]
            zeros = packed([f"tl.full({shape}, 0.0, tl.float32)" for shape in own])
            found.append(function_text(f"zero_entries{k}", "", "Zeros.", [f"return {zeros}"]))
        added = [("queries", self.wanted), *((f"entries{k}", group) for k, group in enumerate(self.groups))]
        for name, group in added:
            sums = packed([f"x[{k}] + y[{k}]" for k in range(len(group))])
            found.append(function_text(f"add_{name}", "x, y", "A sum.", [f"return {sums}"]))
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
            *(
                self._function(
                    f"flow_entries{k}",
                    back,
                    [([self.known[e] for e in group], [reads.entries[e] for e in group])],
                    "What queries add to those of entries.",
                )
                for k, group in enumerate(self.groups)
            ),
        ]

    def _function(
        self,
        name: str,
        given: Mapping[str, Sequence[Leaf]],
        results: Sequence[tuple[Sequence[Expr], Sequence[Leaf]]],
        doc: str,
    ) -> list[str]:
        body = BlockBody(self.layout, self.names.copy(), loaded_left=False)
        roots = [root for own, _ in results for root in own]
        targets = [leaf for _, own in results for leaf in own]
        used = set(leaves(roots))
        for argument, own in given.items():
            for k, leaf in enumerate(own):
                if leaf in used:
                    prefix = "d_" if leaf.kind is LeafKind.COTANGENT else ""
                    variable = body.names.fresh(f"{prefix}{_called(leaf)}")
                    body.lines.append(f"{variable} = {argument}[{k}]")
                    body.bind(leaf, variable)
        both = (TOKEN, self.reads.axis)
        body.known[self.reads.visible] = Value(Code("sees", truth=True), both)
        body.known[self.reads.age] = Value(Code("age"), both)
        values = iter(body.emit(roots, [f"{_called(leaf)}_new" for leaf in targets]))
        self.largest = max(self.largest, *(self.layout.volume(value.axes) for value in body.known.values()))
        packs = [packed([body.full(next(values), leaf.axes) for leaf in own]) for _, own in results]
        body.lines.append(f"return {', '.join(packs)}")
        more = ["sees", "age"] if "known" in given else []
        arguments = ", ".join([*given, *more, "tile"])
        return function_text(name, arguments, doc, body.lines, ", PRECISION: tl.constexpr")

    # --- how it is called -----------------------------------------------------------------------------------------

    def _reading(self) -> Reading:
        reads, store = self.reads, self.rec.stores[0]
        queries, entries = self.lengths
        return Reading(
            rows=self.layout.count,
            warps=WARPS,
            queries_at_once=queries,
            entries_at_once=entries,
            window=store.window or 0,
            sinks=store.sinks,
            queries=[self._port(leaf, k in self.wanted) for k, leaf in enumerate(reads.queries)],
            entries=[self._port(leaf) for leaf in self.entries],
            outputs=[self._port(leaf) for leaf in self.outputs],
            found=[self._port(leaf) for leaf in (*reads.tops, *reads.sums)],
            sums=len(reads.sums),
            groups=self.groups,
        )

    def _port(self, leaf: Leaf, differentiable: bool = True) -> Port:
        layout = self.layout
        return Port(
            hint(leaf),
            tuple(layout.size(axis) for axis in leaf.axes if axis != TOKEN),
            layout.entries(axis for axis in layout.rows if axis not in leaf.axes),
            differentiable=differentiable,
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
    words = {"pointers", "values", "asked", "known", "flow", "have", "d_out", "PRECISION"}
    return RESERVED | frozenset(WORD.findall(kernels)) | words
