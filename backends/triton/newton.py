"""The unit of a stage that is solved by Newton's iteration: its functions of the kernels in `kernels/newton.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import DType, Expr, Leaf, LeafKind
from seqc.ir.plan import TOKEN, Adjoint, Stage
from seqc.ir.traverse import leaves, rewrite, substitute, walk

from ..cpu.diagnose import Unsupported
from ..cpu.layout import mixed_axes
from ..torch.names import RESERVED, Names
from ..torch.stages import input_hint
from .accessors import Accessors, function_text, hint, packed, unit_text
from .layout import LIMIT, Layout, worth
from .moves import compared
from .primitives import Code
from .printing import Body, Value
from .runtime.chunk import Blocks
from .runtime.kernel import Port
from .runtime.launch import power_of_two
from .unit import WORD, definitions, spliced

BLOCK = 64  # tokens that are solved at once
WIDEST, NARROWEST = 32, 4  # entries of a tile
RESIDENT = 1024  # numbers of a value that a program should hold at most
WARPS = 8
INSIDE = Leaf(LeafKind.READ, "%inside", (TOKEN,), DType.BOOL)  # whether a token is one of the sequence


def print_newton(stage: Stage, adjoint: Adjoint, origin: str) -> tuple[str, Blocks]:
    """The unit of a stage, and how to call it.  Raises `Unsupported`."""
    if stage.newton is None or not stage.newton.exact:
        raise Unsupported("a stage that is not solved with its whole Jacobian")
    return _NewtonWriter(stage, adjoint).unit(origin)


class _NewtonWriter:
    """All expressions have the tokens of a block as an axis."""

    def __init__(self, stage: Stage, adjoint: Adjoint) -> None:
        assert stage.newton is not None
        self.stage, self.roundings = stage, stage.newton.tolerance
        self.sizes = {**stage.sizes, TOKEN: BLOCK}
        found = {(after, before): slope for after, before, slope in stage.newton.slopes}
        slopes = [found.get((after, before), ZERO) for after, before in product(stage.carried, repeat=2)]
        named: dict[Expr, Expr] = {
            item.leaf: _named(item.leaf, input_hint(item.value)) for item in stage.inputs
        }
        same = {named[item.leaf] for item in stage.inputs if item.constant}
        made: dict[Expr, Expr] = dict((*stage.pre, *adjoint.pre))

        def ready(roots: Iterable[Expr]) -> tuple[Expr, ...]:
            whole = substitute(substitute(tuple(roots), made), named)
            every: dict[Expr, Expr] = {x: _with_tokens(x) for x in leaves(whole) if x not in same}
            return rewrite(substitute(whole, every), lambda node: compared(node, self.sizes))

        self.slopes, self.updates = ready(slopes), ready(stage.updates)
        self.reads, self.direct = ready(read.value for read in stage.reads), ready(adjoint.direct)
        self.gradients = ready(adjoint.inputs)
        self.inputs = [_with_tokens(x) if x not in same else x for x in map(_leaf, named.values())]
        self.results = [_with_tokens(read.leaf) for read in stage.reads]
        self.states = [state.leaf for state in stage.carried]
        self.begins = [_with_tokens(leaf) for leaf in self.states]
        self.flows = [Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes) for leaf in self.begins]
        roots = (*self.updates, *self.slopes, *self.reads, *self.direct, *self.gradients)
        if any(node.dtype is DType.COMPLEX for node in walk(roots)):
            raise Unsupported("complex numbers in a stage that is solved by Newton's iteration")
        self.layout = self._layout((*self.updates, *self.reads))
        self.names = Names(_taken())
        self.wanted = [
            k
            for k, (item, g) in enumerate(zip(stage.inputs, self.gradients, strict=True))
            if g is not ZERO and any(leaf.dtype is not DType.BOOL for leaf in leaves([item.value]))
        ]

    def _layout(self, forward: Sequence[Expr]) -> Layout:
        """Axes along which nothing meets are taken apart or cut into tiles."""
        every = [leaf.axes for leaf in (*self.begins, *self.results)]
        mixed = {*mixed_axes(forward), TOKEN}
        independent = [a for a in every[0] if a not in mixed and all(a in axes for axes in every)]
        known = [leaf.axes for leaf in (*self.inputs, *self.begins, *self.results)]
        vector = max(independent, key=lambda axis: worth(axis, self.sizes[axis], known), default="")
        rows = tuple(axis for axis in independent if axis != vector)
        order = {
            axis: k for k, axis in enumerate(dict.fromkeys(a for axes in ((TOKEN,), *known) for a in axes))
        }
        values = {node.axes for node in walk(forward)}

        def with_tile(tile: int) -> Layout:
            return Layout(self.sizes, rows, vector, tile, order)

        def largest(found: Layout) -> int:
            return max(found.volume(axes) for axes in values)

        tile = min(WIDEST, power_of_two(self.sizes[vector])) if vector else 1
        while tile > NARROWEST and largest(with_tile(tile)) > RESIDENT:
            tile //= 2
        if largest(with_tile(tile)) > LIMIT:
            raise Unsupported(f"values of {largest(with_tile(tile)):,} numbers at the tokens of a block")
        return with_tile(tile)

    def unit(self, origin: str) -> tuple[str, Blocks]:
        rule = ["\n".join(lines) for lines in (*self._accessors(), *self._functions(), *self._tuples())]
        kernels = list(definitions("newton").values())
        guesses = spliced("\n".join(rule), "guess")
        parts = [*spliced("\n".join([*rule, *guesses])), *guesses, *rule, *kernels]
        names = ", ".join(state.name for state in self.stage.carried)
        about = f"{names}: {BLOCK} tokens at once, by Newton's iteration."
        return unit_text(origin, about, self.layout.words, parts), self._face()

    def _accessors(self) -> list[list[str]]:
        prints = Accessors(self.layout, self.names)
        padding = [item.padding for item in self.stage.inputs]
        none, real = [0.0] * len(self.results), [self.inputs[k] for k in self.wanted]
        return [
            prints.locate(),
            prints.load_blocks("load_inputs", self.inputs, padding, "The inputs of a block."),
            prints.load("load_states", self.states, "States."),
            prints.store("store_states", self.states, "States."),
            prints.load_blocks(
                "load_begins",
                self.begins,
                [0.0] * len(self.begins),
                "The states before the tokens of a block.",
            ),
            prints.store_blocks("store_begins", self.begins, "The states before the tokens of a block."),
            prints.load_blocks("load_cotangents", self.results, none, "The cotangents of results."),
            prints.store_blocks("store_outputs", self.results, "The results of a block."),
            prints.store_blocks("store_gradients", real, "The cotangents of inputs.", True),
        ]

    # --- a block --------------------------------------------------------------------------------------------------

    def _functions(self) -> list[list[str]]:
        known = [Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes) for leaf in self.results]
        whole: dict[str, Sequence[Leaf]] = {"begin": self.begins, "given": self.inputs}
        back: dict[str, Sequence[Leaf]] = {**whole, "known": known}
        axes, count = self.begins[0].axes, len(self.states)
        matrix = [axes] * count**2
        own = [build.where(INSIDE, value, ZERO) for value in self.direct]
        across = [
            build.where(INSIDE, self.slopes[after * count + before], ONE if after == before else ZERO)
            for before, after in product(range(count), repeat=2)
        ]
        real = [self._gradient(k) for k in self.wanted]
        return [
            self._function(
                "tangent",
                whole,
                [(self.updates, [axes] * count), (self.slopes, matrix)],
                "The states after tokens, and their derivatives by those before: row by row.",
            ),
            self._function(
                "reads", whole, [(self.reads, [x.axes for x in self.results])], "The results of a block."
            ),
            self._function(
                "reverse",
                back,
                [(own, [axes] * count), (across, matrix)],
                "The cotangents of the states before tokens: what results add, and factors of those after.",
                "count",
            ),
            self._function(
                "gradients",
                {**back, "flow": self.flows},
                [(real, [self.inputs[k].axes for k in self.wanted])],
                "The cotangents of the inputs of a block.",
                "count",
            ),
        ]

    def _gradient(self, k: int) -> Expr:
        """The cotangent of an input; what all tokens share has the sum of theirs."""
        value = self.gradients[k]
        if TOKEN in self.inputs[k].axes:
            return value
        return build.sum_over([TOKEN], build.where(INSIDE, value, ZERO))

    def _function(
        self,
        name: str,
        given: Mapping[str, Sequence[Leaf]],
        results: Sequence[tuple[Sequence[Expr], Sequence[tuple[str, ...]]]],
        doc: str,
        more: str = "",
    ) -> list[str]:
        body = Body(self.layout, self.names.copy())
        used = set(leaves([value for values, _ in results for value in values]))
        for argument, own in given.items():
            for k, leaf in enumerate(own):
                if leaf in used:
                    prefix = "d_" if leaf.kind is LeafKind.COTANGENT else ""
                    variable = body.names.fresh(f"{prefix}{hint(leaf)}")
                    body.lines.append(f"{variable} = {argument}[{k}]")
                    body.bind(leaf, variable)
        if INSIDE in used:
            body.known[INSIDE] = Value(Code(f"({body.place(TOKEN)} < count)", truth=True), (TOKEN,))
        every = [(value, own) for values, axes in results for value, own in zip(values, axes, strict=True)]
        found = body.emit([value for value, _ in every], [f"{name}_new"] * len(every))
        texts = iter([body.full(value, own) for value, (_, own) in zip(found, every, strict=True)])
        packs = [packed([next(texts) for _ in values]) for values, _ in results]
        arguments = ", ".join([*given, *([more] if more else []), "tile"])
        return function_text(name, arguments, doc, [*body.lines, f"return {', '.join(packs)}"])

    # --- states as tuples -----------------------------------------------------------------------------------------

    def _tuples(self) -> list[list[str]]:
        count, axes = len(self.states), self.begins[0].axes
        inner = self.layout.inner(axes)
        row, column = range(count), range(count)
        place = f"place = tl.arange(0, {BLOCK})" + (
            f"[:, {', '.join(['None'] * (len(inner) - 1))}]" * (len(inner) > 1)
        )
        order = f"order = {BLOCK - 1} - place if REVERSE else place"
        whole, ways = self.layout.shape(axes), ", REVERSE: tl.constexpr"
        cells = [f"slopes[{k}]" for k in range(count**2)]
        missing = [f"missing{k}" for k in row]
        steps = [
            " + ".join([f"own[{i}]", *(f"slopes[{i * count + j}] * flow[{j}]" for j in column)]) for i in row
        ]
        picks = [f"tl.sum(tl.where(place == at, x[{k}], 0.0), 0)" for k in row]
        sides = [f"beside(x[{k}], end[{k}], place, {BLOCK}, REVERSE)" for k in row]
        better = [f"improved(guess[{k}], exact[{k}], found[{count**2 + k}], order, settled)" for k in row]
        scan = f"found = tl.associative_scan({packed([*cells, *missing])}, 0, follow, reverse=REVERSE)"
        return [
            function_text(
                "spread",
                "x",
                "The same at all tokens of a block.",
                [f"return {packed([f'x[{k}] + tl.full({whole}, 0.0, tl.float32)' for k in row])}"],
            ),
            function_text(
                "moved",
                "x, end",
                "What stands before each token; see `beside`.",
                [place, f"return {packed(sides)}"],
                ways,
            ),
            function_text("last", "x, at", "The values at a token.", [place, f"return {packed(picks)}"]),
            function_text(
                "step",
                "own, slopes, flow",
                "The cotangents before tokens, from those after.",
                [f"return {packed(steps)}"],
            ),
            self._follow(),
            function_text(
                "corrected",
                "guess, exact, slopes, settled",
                "A better guess: what is missing goes on as the slopes say.",
                [
                    place,
                    order,
                    *(f"missing{k} = tl.where(order < settled, 0.0, exact[{k}] - guess[{k}])" for k in row),
                    scan,
                    f"return {packed(better)}",
                ],
                ways,
            ),
            self._agreeing(ways),
        ]

    def _follow(self) -> list[str]:
        """Two steps of `h' = A·h + b` as one; matrices row by row."""
        count = len(self.states)
        row = range(count)
        first, then = ([f"{name}{i}{j}" for i, j in product(row, row)] for name in ("a", "c"))
        start, later = ([f"{name}{i}" for i in row] for name in ("b", "d"))
        products = [" + ".join(f"c{i}{m} * a{m}{j}" for m in row) for i, j in product(row, row)]
        sums = [" + ".join([*(f"c{i}{m} * b{m}" for m in row), f"d{i}"]) for i in row]
        return [
            "@triton.jit",
            f"def follow({', '.join([*first, *start, *then, *later])}):",
            '    """Two steps of the linearised rule as one."""',
            f"    return {packed([*products, *sums])}",
        ]

    def _agreeing(self, ways: str) -> list[str]:
        """For how many tokens the rule gives what was guessed, or its cotangents do."""
        body, axes = Body(self.layout, self.names.copy()), self.layout.inner(self.begins[0].axes)
        rest, tests = [axis for axis in axes if axis != TOKEN], list[str]()

        def most(text: str) -> str:
            return body.total(Value(Code(text), axes), rest, "max").code.text

        for k in range(len(self.states)):
            missing, size = most(f"gap(exact[{k}], guess[{k}])"), most(f"tl.abs(exact[{k}])")
            tests.append(f"close({missing}, {size}, {self.roundings}, REVERSE)")
        lines = [
            *body.lines,
            f"place = tl.arange(0, {BLOCK})",
            f"order = {BLOCK - 1} - place if REVERSE else place",
            f"settled = {' & '.join(tests)}",
            f"return tl.min(tl.where(settled, {BLOCK}, order), 0)",
        ]
        doc = "For how many tokens, one after another, a guess is what follows from it."
        return function_text("agreeing", "guess, exact, tile", doc, lines, ways)

    # --- how it is called -----------------------------------------------------------------------------------------

    def _face(self) -> Blocks:
        found = self.layout
        return Blocks(
            rows=found.count,
            vector=found.size(found.vector) if found.vector else 0,
            tile=found.tile,
            warps=WARPS,
            block=BLOCK,
            inputs=[
                self._port(leaf, k in self.wanted, TOKEN not in leaf.axes)
                for k, leaf in enumerate(self.inputs)
            ],
            outputs=[self._port(leaf) for leaf in self.results],
            states=[self._port(leaf) for leaf in self.states],
            made=[],
            later=[],
            common=[],
            parts=[],
            work=self._work(),
            form="newton",
            writes=[(0, self.wanted)],
        )

    def _work(self) -> dict[str, list[int]]:
        """Of each kernel, the entries that it reads or writes for a block of a sequence."""
        read, found = (sum(self.layout.entries(x.axes) for x in own) for own in (self.inputs, self.results))
        states = sum(self.layout.entries(x.axes) for x in self.begins)
        written = sum(
            self._shares(self.inputs[k]) * self.layout.entries(self.inputs[k].axes) for k in self.wanted
        )
        forward = read + states + found
        return {"solve": [0, forward, 0, 0], "solve_back": [0, forward + written, 0, 0]}

    def _shares(self, leaf: Leaf) -> int:
        """How many programs share a tensor."""
        port, found = self._port(leaf), self.layout
        return port.shares * (-(-found.size(found.vector) // found.tile) if port.tiled else 1)

    def _port(self, leaf: Leaf, differentiable: bool = True, constant: bool = False) -> Port:
        found = self.layout
        return Port(
            leaf.name,
            tuple(found.size(axis) for axis in leaf.axes if axis != TOKEN),
            found.entries(axis for axis in found.rows if axis not in leaf.axes),
            bool(found.vector) and found.vector not in leaf.axes,
            differentiable,
            constant,
        )


def _leaf(expr: Expr) -> Leaf:
    assert isinstance(expr, Leaf)
    return expr


def _named(leaf: Leaf, name: str) -> Leaf:
    """The leaf of an input under a name that says what it is."""
    return Leaf(leaf.kind, f"{leaf.name}.{name}", leaf.axes, leaf.number)


def _with_tokens(leaf: Leaf) -> Leaf:
    return Leaf(leaf.kind, leaf.name, (TOKEN, *leaf.axes), leaf.number)


def _taken() -> frozenset[str]:
    """Names that mean something in a unit already."""
    kernels = "\n".join(text for file in ("newton", "guess", "math") for text in definitions(file).values())
    return (
        RESERVED
        | frozenset(WORD.findall(kernels))
        | {"pointers", "values", "first", "tokens", "at", "x", "own"}
    )
