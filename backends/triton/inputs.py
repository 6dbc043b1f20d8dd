"""The functions that read the inputs of a stage, or what these are computed from, and that write the cotangents."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import DType, Expr, Leaf, LeafKind, Reduce
from seqc.ir.plan import TOKEN, StageInput
from seqc.ir.traverse import leaves, rewrite
from seqc.passes.derive import gradient

from ..torch.names import Names
from .accessors import Accessors, function_text, hint, packed
from .layout import Layout
from .primitives import Code, number
from .printing import Body, Value

INSIDE = Leaf(LeafKind.READ, "%inside", (TOKEN,), DType.BOOL)  # whether a token is one of the sequence


@dataclass(frozen=True, slots=True)
class Given:
    """Inputs of a stage: the `leaves` of its expressions, and their `values` over the leaves of `sources`, which are
    read as `items` say.
    """

    leaves: Sequence[Leaf]
    values: Sequence[Expr]
    padding: Sequence[float]
    sources: Sequence[Leaf]
    items: Sequence[StageInput]

    def read(self, k: int) -> list[int]:
        """Which sources an input is computed from."""
        used = leaves([self.values[k]])
        return [j for j, source in enumerate(self.sources) if source in used]

    def gradients(self, group: Sequence[int]) -> dict[int, Expr]:
        """The cotangents of the sources of some inputs, given those of the inputs."""
        total = dict[int, Expr]()
        for k in group:
            for j, x in self._gradients(k).items():
                total[j] = build.add(total[j], x) if j in total else x
        return total

    def _gradients(self, k: int) -> dict[int, Expr]:
        leaf, value = self.leaves[k], self.values[k]
        flow = Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes)
        further = [axis for axis in leaf.axes if axis not in value.axes]
        read = [j for j in self.read(k) if _differentiable(self.items[j].value)]
        found = gradient(value, [self.sources[j] for j in read], build.sum_over(further, flow))
        return {j: x for j, x in zip(read, rewrite(found, _of_tokens), strict=True) if x is not ZERO}


def _of_tokens(node: Expr) -> Expr | None:
    """A sum over the tokens of a block leaves out those after the last of the sequence."""
    if not (isinstance(node, Reduce) and TOKEN in node.over):
        return None
    return Reduce(node.op, node.over, build.where(INSIDE, node.arg, ZERO))


def _differentiable(value: Expr) -> bool:
    return value.dtype is DType.REAL and any(leaf.dtype is not DType.BOOL for leaf in leaves([value]))


class InputAccessors(Accessors):
    """Prints loads and stores of the inputs of a stage."""

    def __init__(self, layout: Layout, names: Names, given: Given) -> None:
        super().__init__(layout, names)
        self.given = given

    def load_inputs(self) -> list[str]:
        given, body = self.given, Body(self.layout, self.names.copy())
        self._read(
            body, "pointers", given.sources, leaves([x for x in given.values if not isinstance(x, Leaf)])
        )
        found = body.emit(given.values, [hint(leaf) for leaf in given.leaves])
        texts = [self._filled(body, k, value) for k, value in enumerate(found)]
        arguments = "pointers, batch, first, time, row, tile"
        lines = [*body.lines, f"return {packed(texts)}"]
        return function_text("load_inputs", arguments, "The inputs of a block.", lines)

    def _filled(self, body: Body, k: int, value: Value) -> str:
        """An input as a block: padding after the last token, and else 0 beyond its axes."""
        leaf, source, filling = self.given.leaves[k], self.given.values[k], self.given.padding[k]
        text = body.full(value, leaf.axes)
        if filling:
            return f"tl.where({self._tokens(body, leaf)} < time, {text}, {number(filling).text})"
        if isinstance(source, Leaf) and set(source.axes) == set(leaf.axes):
            return text
        return f"tl.where({self._block_address(body, '', leaf, '')[1]}, {text}, 0.0)"

    def store_gradients(self, function: str, group: Sequence[int], found: Mapping[int, Expr]) -> list[str]:
        """Those `found` for the sources of some inputs.  Programs that share a source write one each."""
        given, body = self.given, Body(self.layout, self.names.copy())
        used, inputs = leaves(found.values()), [given.leaves[k] for k in group]
        self._read(body, "inputs", [source for source in given.sources if source in used], used)
        for place, leaf in enumerate(inputs):
            body.bind(Leaf(LeafKind.COTANGENT, leaf.name, leaf.axes), f"values[{place}]")
        if INSIDE in used:
            body.known[INSIDE] = Value(Code(f"({self._tokens(body, INSIDE)} < time)", truth=True), (TOKEN,))
        values = body.emit(list(found.values()), [f"d_{hint(given.sources[j])}" for j in found])
        for place, (j, value) in enumerate(zip(found, values, strict=True)):
            source = given.sources[j]
            self.store_block(body, f"pointers[{place}]", source, body.full(value, source.axes), True)
        computed = [given.leaves[k] for k in group if given.values[k] not in given.sources]
        from_them = f", given those of {called(computed)}" if computed else ""
        doc = f"The cotangents of {called(given.sources[j] for j in found)}{from_them}."
        arguments = "pointers, values, inputs, batch, first, tokens, time, row, tile"
        return function_text(function, arguments, doc, body.lines)

    def _read(self, body: Body, pointers: str, wanted: Collection[Leaf], used: Collection[Leaf]) -> None:
        """Load sources, of which some are `used`; what begins sequences anew may be missing."""
        for k, leaf in enumerate(self.given.sources):
            if leaf not in wanted:
                continue
            name, pointer = body.names.fresh(_called(leaf)), f"{pointers}[{k}]"
            address, mask = self._block_address(body, pointer, leaf, "")
            if leaf.dtype is DType.BOOL:
                place = address.removeprefix(f"{pointer} + ")[1:-1]
                body.lines.append(f"{name} = flags({pointer}, {place}, {mask})")
                body.bind(leaf, name)
                continue
            body.lines.append(f"{name} = tl.load({address}{mask and f', mask={mask}, other=0.0'})")
            if leaf in used:
                body.lines.append(f"{name} = {name}.to(tl.float32)")
            body.bind(leaf, name if leaf in used else f"{name}.to(tl.float32)")


def called(named: Iterable[Leaf]) -> str:
    """The names of leaves as docstrings have them."""
    return ", ".join(f"`{hint(leaf)}`" for leaf in named)


def _called(leaf: Leaf) -> str:
    return "begins" if leaf.dtype is DType.BOOL else hint(leaf)
