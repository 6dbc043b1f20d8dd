"""The functions of a rule that move tensors between memory and registers.

Tensors lie as callers know them, without gaps.  A `place` is the position along what comes before a tensor's own axes:
the token, the sequence of the batch, or the segment.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from math import prod

from seqc.ir.expr import Axes, Leaf
from seqc.ir.plan import TOKEN

from ..torch.layout import split_statement
from ..torch.names import Names
from .layout import Layout
from .primitives import Code, number
from .printing import Body, Value

WIDTH = 110


class Accessors:
    """Prints loads and stores for one layout; `names` gives out what is new in each function.

    `fixed` are arguments of all functions that are known when they are compiled, besides the tile.
    """

    def __init__(self, layout: Layout, names: Names, fixed: str = "") -> None:
        self.layout, self.names, self.fixed = layout, names, fixed

    def locate(self) -> list[str]:
        """The function that says what a program works on."""
        count, tiles = self.layout.count, self.layout.tiles
        lines = [
            f"tiles = {tiles}",
            f"return program // ({count} * tiles), program // tiles % {count}, program % tiles",
        ]
        return function_text("locate", "program", "The batch, the row and the tile of a program.", lines)

    def load(
        self, function: str, leaves: Sequence[Leaf], doc: str, place: bool = True, parts: Container[Leaf] = ()
    ) -> list[str]:
        """Of what programs wrote `parts`, each loads its own."""
        body = Body(self.layout, self.names.copy())
        found: list[str] = []
        for k, leaf in enumerate(leaves):
            name = body.names.fresh(hint(leaf))
            own = self.place_of_part(leaf) if leaf in parts else "place" if place else ""
            address, mask = self._address(body, f"pointers[{k}]", leaf, own)
            mask = mask and f", mask={mask}, other=0.0"
            body.lines.append(f"{name} = tl.load({address}{mask})")
            found.append(f"{name}.to(tl.float32)")
        arguments = "pointers, place, row, tile" if place else "pointers, row, tile"
        lines = [*body.lines, f"return {packed(found)}"]
        return function_text(function, arguments, doc, lines, self.fixed)

    def store(
        self,
        function: str,
        leaves: Sequence[Leaf],
        doc: str,
        shared: str = "",
        more: str = "",
        once: bool = False,
        same: Sequence[Leaf] = (),
    ) -> list[str]:
        """`shared` says at which place programs that share a tensor write theirs, in terms of `{share}`, `{shares}`;
        with `once`, where all would write the same block, one of them does.  So it is with `same`, which follow.
        """
        body = Body(self.layout, self.names.copy())
        for k, leaf in enumerate(leaves):
            share, shares = self._share(leaf)
            place = shared.format(share=share, shares=shares) if shared else "place"
            self.store_one(body, f"pointers[{k}]", leaf, f"values[{k}]", place, once)
        for k, leaf in enumerate(same, len(leaves)):
            self.store_one(body, f"pointers[{k}]", leaf, f"values[{k}]", "place", once=True)
        arguments = f"pointers, values, place, {more}row, tile"
        return function_text(function, arguments, doc, body.lines, self.fixed)

    def store_one(
        self, body: Body, pointer: str, leaf: Leaf, value: str, place: str, once: bool = False
    ) -> None:
        """The line that writes one of them."""
        address, mask = self._address(body, pointer, leaf, place)
        share, _ = self._share(leaf)
        if once and share != "0":
            mask = self._first(body, leaf, share, mask)
        body.lines.append(f"tl.store({address}, {value}{mask and f', mask={mask}'})")

    def place_of_part(self, leaf: Leaf) -> str:
        """Where a program's part of a tensor lies, among those of all programs that share it."""
        share, shares = self._share(leaf)
        return "place" if shares == "1" else f"(place * ({shares}) + {share})"

    def _first(self, body: Body, leaf: Leaf, share: str, mask: str) -> str:
        """Which entries of a block the first of the programs that share it writes: all; the others write none.

        Scalars all of them write: they write the same.
        """
        inner = self.layout.inner(leaf.axes)
        axis = next((axis for axis in inner if axis != self.layout.vector), "")
        if not axis:
            return mask
        at, size = body.aligned(Value(Code(body.place(axis)), (axis,)), inner).text, self.layout.padded(axis)
        own = f"{at} + {share} * {size} < {size}"
        return f"({own}) & ({mask})" if mask else own

    def clear(self, function: str, leaves: Sequence[Leaf], doc: str) -> list[str]:
        """Values of leaves with 0 beyond their axes, as if they were loaded."""
        body, found = Body(self.layout, self.names.copy()), list[str]()
        for k, leaf in enumerate(leaves):
            inner = self.layout.inner(leaf.axes)
            ragged = [axis for axis in inner if self.layout.ragged(axis)]
            found.append(
                f"tl.where({body.inside(ragged, inner)}, values[{k}], 0.0)" if ragged else f"values[{k}]"
            )
        lines = [*body.lines, f"return {packed(found)}"]
        return function_text(function, "values, row, tile", doc, lines, self.fixed)

    # --- blocks of tokens -----------------------------------------------------------------------------------------

    def load_blocks(
        self, function: str, leaves: Sequence[Leaf], padding: Sequence[float], doc: str, again: bool = False
    ) -> list[str]:
        """Tokens after the last of the sequence are padding; with `again`, they are the last."""
        body = Body(self.layout, self.names.copy())
        found: list[str] = []
        for k, (leaf, filling) in enumerate(zip(leaves, padding, strict=True)):
            name = body.names.fresh(hint(leaf))
            address, mask = self._block_address(body, f"pointers[{k}]", leaf, "", again)
            body.lines.append(f"{name} = tl.load({address}{mask and f', mask={mask}, other=0.0'})")
            value = f"{name}.to(tl.float32)"
            if filling:
                inside = self._tokens(body, leaf)
                value = f"tl.where({inside} < time, {value}, {number(filling).text})"
            found.append(value)
        arguments = "pointers, batch, first, time, row, tile"
        lines = [*body.lines, f"return {packed(found)}"]
        return function_text(function, arguments, doc, lines, self.fixed)

    def store_blocks(
        self, function: str, leaves: Sequence[Leaf], doc: str, shared: bool = False
    ) -> list[str]:
        """With `shared`, programs that share a tensor write one each: [programs, batch, time, …] of what has tokens,
        [batch, blocks, programs, …] of what has none.
        """
        body = Body(self.layout, self.names.copy())
        for k, leaf in enumerate(leaves):
            self.store_block(body, f"pointers[{k}]", leaf, f"values[{k}]", shared)
        arguments = f"pointers, values, batch, first, {'tokens, ' if shared else ''}time, row, tile"
        return function_text(function, arguments, doc, body.lines, self.fixed)

    def store_block(self, body: Body, pointer: str, leaf: Leaf, value: str, shared: bool) -> None:
        """The line that writes one of them."""
        share, shares = self._share(leaf)
        if TOKEN in leaf.axes:
            place = f"{share} * tokens + " if shared and share != "0" else ""
            address, mask = self._block_address(body, pointer, leaf, place)
        else:
            size = self.layout.size(TOKEN)
            block = f"(batch * tl.cdiv(time, {size}) + first // {size})"
            address, mask = self._address(body, pointer, leaf, f"({block} * ({shares}) + {share})")
        body.lines.append(f"tl.store({address}, {value}{mask and f', mask={mask}'})")

    def _tokens(self, body: Body, leaf: Leaf) -> str:
        """The tokens of a block, as a block with the axes of a leaf."""
        at = Value(Code(body.place(TOKEN)), (TOKEN,))
        return f"first + {body.aligned(at, self.layout.inner(leaf.axes)).text}"

    def _block_address(
        self, body: Body, pointer: str, leaf: Leaf, share: str, again: bool = False
    ) -> tuple[str, str]:
        """As `_address`, of a tensor [batch, time, …] where the leaf has tokens."""
        if TOKEN not in leaf.axes:
            return self._address(body, pointer, leaf, "")
        rest = Leaf(leaf.kind, leaf.name, tuple(axis for axis in leaf.axes if axis != TOKEN), leaf.number)
        at = self._tokens(body, leaf)
        place = f"({share}batch * time + {f'tl.minimum({at}, time - 1)' if again else at})"
        address, mask = self._address(body, pointer, rest, place, self.layout.inner(leaf.axes))
        if again:
            return address, mask
        inside = f"{self._tokens(body, leaf)} < time"
        return address, f"({inside}) & ({mask})" if mask else inside

    # --- addresses ------------------------------------------------------------------------------------------------

    def _address(self, body: Body, pointer: str, leaf: Leaf, place: str, block: Axes = ()) -> tuple[str, str]:
        """Where a program's part of a tensor lies, and which entries of the block there are.

        `block` are the axes of the block where it has more than the leaf.
        """
        layout, step, terms = self.layout, 1, list[str]()
        inner = block or layout.inner(leaf.axes)
        for axis in reversed(leaf.axes):
            text = self._row(axis) if axis in layout.rows else body.aligned(
                Value(Code(body.place(axis)), (axis,)), inner
            ).text  # fmt: skip
            terms.append(text if step == 1 else f"{text} * {step}")
            step *= layout.size(axis)
        if place:
            terms.append(place if step == 1 else f"{place} * {step}")
        ragged = [axis for axis in inner if axis in leaf.axes and layout.ragged(axis)]
        return " + ".join([pointer, *reversed(terms)]), body.inside(ragged, inner) if ragged else ""

    def _row(self, axis: str) -> str:
        """The position along an axis that is taken apart, from the number of the row."""
        rows = self.layout.rows
        after = prod(self.layout.size(other) for other in rows[rows.index(axis) + 1 :])
        text = "row" if after == 1 else f"row // {after}"
        return text if axis == rows[0] and after == 1 else f"({text} % {self.layout.size(axis)})"

    def _share(self, leaf: Leaf) -> tuple[str, str]:
        """Which of the programs that share a tensor this one is, and how many they are."""
        layout = self.layout
        share, shares = "0", "1"
        for axis in layout.rows:
            if axis not in leaf.axes:
                size = layout.size(axis)
                share = self._row(axis) if share == "0" else f"({share} * {size} + {self._row(axis)})"
                shares = str(size) if shares == "1" else f"{shares} * {size}"
        if layout.vector and layout.vector not in leaf.axes:
            share = "tile" if share == "0" else f"({share} * {layout.tiles} + tile)"
            shares = layout.tiles if shares == "1" else f"{shares} * {layout.tiles}"
        return share, shares


def hint(leaf: Leaf) -> str:
    """What to call the value of a leaf."""
    return leaf.name.split(".")[-1].lstrip("%")


def packed(values: Sequence[str]) -> str:
    """A tuple as text."""
    return f"({', '.join(values)}{',' if len(values) == 1 else ''})"


def unit_text(origin: str, about: str, facts: str, parts: Sequence[str], imports: Sequence[str] = ()) -> str:
    """The text of a unit: where it comes from, what it is, `facts` about its programs, its imports, its functions."""
    head = [
        f"# Generated by seqc from {origin}.",
        "# Edits are lost when it is generated again.",
        f'"""{about}',
        "",
        facts,
        '"""',
        "",
        *imports,
        "import triton",
        "import triton.language as tl",
    ]
    return "\n\n\n".join(["\n".join(head), *parts]) + "\n"


def function_text(name: str, arguments: str, doc: str, lines: Sequence[str], more: str = "") -> list[str]:
    """A function of a kernel; `more` are arguments that are known when it is compiled, besides the tile."""
    return [
        "@triton.jit",
        *split_statement(f"def {name}({arguments and f'{arguments}, '}TILE: tl.constexpr{more}):", WIDTH),
        f'    """{doc}"""',
        *(piece for line in lines for piece in _statement(line)),
    ]


def _statement(line: str) -> list[str]:
    """A statement of a function, which may stand in a loop, over several lines if it is too long for one."""
    text = line.lstrip(" ")
    return split_statement(text, WIDTH, 4 + len(line) - len(text))
