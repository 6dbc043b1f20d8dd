"""Printing expressions as Triton: blocks with one dimension for each axis that a program holds, in one order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from seqc.ir.expr import Apply, Axes, Const, Expr, Index, Leaf, Reduce, Rename, Size
from seqc.ir.traverse import children

from ..cpu.diagnose import Unsupported
from ..torch.names import Names
from ..torch.values import hint_for
from .layout import LIMIT, Layout
from .primitives import ATOM, SPELLINGS, Code, chosen, number

INLINE = 60  # the longest text that is put into another expression instead of a variable
LINE = 110


SIGN, GIVEN, SINGLE = range(3)


@dataclass(frozen=True, slots=True)
class Value:
    """Printed text, and the axes of its dimensions.

    `bits` says what it takes to hold the numbers: those of 0, 1 and -1, of the rule's inputs, or single precision.
    A value that is `blank` is 0 beyond the axes.  `leaf` is the input whose numbers they are, up to signs and zeros.
    """

    code: Code
    axes: Axes = ()
    bits: int = SINGLE
    blank: bool = False
    leaf: Leaf | None = None


class Body:
    """The lines of a function; `bind` says where its leaves are."""

    def __init__(self, layout: Layout, names: Names) -> None:
        self.layout, self.names = layout, names
        self.lines: list[str] = []
        self.known: dict[Expr, Value] = {}
        self.hints: dict[Expr, str] = {}  # what to call values
        self.places: dict[str, str] = {}
        self.counts: Counter[Expr] = Counter()
        self.inverses: dict[tuple[Expr, bool], Value] = {}  # of triangular matrices

    def bind(self, leaf: Leaf, name: str, bits: int = SINGLE, blank: bool = False) -> None:
        own = leaf if bits == GIVEN else None
        self.known[leaf] = Value(Code(name), self.layout.inner(leaf.axes), bits, blank, own)

    def place(self, axis: str) -> str:
        """The positions along an axis, in a variable."""
        if axis not in self.places:
            name = self.names.fresh(f"at_{axis.strip('%')}")
            start = "tile * TILE + " if axis == self.layout.vector else ""
            self.lines.append(f"{name} = {start}tl.arange(0, {self.layout.length(axis)})")
            self.places[axis] = name
        return self.places[axis]

    def emit(self, roots: Sequence[Expr], hints: Sequence[str]) -> list[Value]:
        """Lines that compute `roots`, and their values."""
        nodes = self.needed(roots)
        self.counts = Counter(operand for node in nodes for operand in self.operands(node))
        self.counts.update(roots)
        named = {**dict(zip(roots, hints, strict=True)), **self.hints}
        for node in nodes:
            if node not in self.known:
                value = self.compute(node)
                self.known[node] = self._settled(node, value, named.get(node, hint_for(node)))
        return [self.known[root] for root in roots]

    def needed(self, roots: Sequence[Expr]) -> list[Expr]:
        """What has to be computed for `roots`, operands first."""
        order: dict[Expr, None] = {}
        stack = [(root, False) for root in reversed(roots)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order[node] = None
            elif node not in order:
                stack.append((node, True))
                if node not in self.known:
                    stack.extend((operand, False) for operand in reversed(self.operands(node)))
        return list(order)

    def operands(self, node: Expr) -> Sequence[Expr]:
        """The values that a node is computed from."""
        return children(node)

    def _settled(self, node: Expr, value: Value, hint: str) -> Value:
        """A variable for what is used more than once, or is long."""
        dear = isinstance(node, Reduce) or (self.counts[node] > 1 and isinstance(node, Apply | Rename))
        dear = dear or self.frees(node)
        if (
            value.code.literal
            or value.code.text.isidentifier()
            or not (dear or len(value.code.text) > INLINE)
        ):
            return value
        return self.assigned(value, hint)

    def frees(self, node: Expr) -> bool:
        """Whether computing a value at once lets go of registers."""
        return False

    def assigned(self, value: Value, hint: str) -> Value:
        name = self.names.fresh(hint)
        self.lines.append(f"{name} = {value.code.text}")
        return replace(value, code=Code(name, truth=value.code.truth))

    def compute(self, node: Expr) -> Value:
        """The value of a node whose operands are known."""
        match node:
            case Const():
                return Value(number(node.value))
            case Size():
                return Value(number(float(self.layout.size(node.axis))))
            case Index():
                return Value(Code(f"{self.place(node.axis)}.to(tl.float32)"), (node.axis,))
            case Apply():
                return self._applied(node)
            case Reduce():
                return self._reduced(node)
            case Rename():
                return self._renamed(node)
            case _:
                raise Unsupported(f"`{type(node).__name__.lower()}` inside a rule")

    def _applied(self, node: Apply) -> Value:
        values = [self.known[arg] for arg in node.args]
        axes = self.layout.inner({axis for value in values for axis in value.axes})
        self.check(axes)
        codes = [self.aligned(value, axes) for value in values]
        alone = [k for k, value in enumerate(values) if not value.axes]
        if node.op in ("and", "or") and axes and alone:
            return Value(chosen(node.op, codes[alone[0]], codes[1 - alone[0]]), axes)
        return Value(SPELLINGS[node.op](codes), axes)

    def check(self, axes: Axes) -> None:
        """Raises `Unsupported` where a block would be too large."""
        volume = self.layout.volume(axes)
        if volume > LIMIT:
            raise Unsupported(f"a value of {volume:,} numbers, where a program holds at most {LIMIT:,}")

    def aligned(self, value: Value, axes: Axes) -> Code:
        """Text that broadcasts against values with the axes `axes`."""
        if not value.axes or value.axes == axes:
            return value.code
        marks = ", ".join(":" if axis in value.axes else "None" for axis in axes)
        return Code(f"{value.code.at(ATOM)}[{marks}]", truth=value.code.truth)

    def _reduced(self, node: Reduce) -> Value:
        """Rows are apart: a sum over them, which only what they share has, is left to whoever adds up programs."""
        return self.total(self.known[node.arg], node.over, node.op)

    def total(self, value: Value, bound: Iterable[str], op: str = "sum") -> Value:
        """The sum or the maximum of a block over axes, entries beyond them left out."""
        over = [axis for axis in value.axes if axis in bound]
        axes = tuple(axis for axis in value.axes if axis not in over)
        code = value.code.number
        if masks := [axis for axis in over if self.layout.ragged(axis)]:
            inside = self.inside(masks, value.axes)
            code = Code(f"tl.where({inside}, {code.text}, {'0.0' if op == 'sum' else NOTHING})")
        for axis in reversed(over):
            code = Code(f"tl.{op}({code.text}, {value.axes.index(axis)})")
        return Value(code, axes)

    def inside(self, ragged: Iterable[str], axes: Axes) -> str:
        """Which entries of a block with the axes `axes` are no padding."""
        tests = [
            f"({self.aligned(Value(Code(self.place(axis)), (axis,)), axes).text} < {self.layout.size(axis)})"
            for axis in ragged
        ]
        return tests[0][1:-1] if len(tests) == 1 else " & ".join(tests)

    def _renamed(self, node: Rename) -> Value:
        value, mapping = self.known[node.arg], dict(node.pairs)
        return self.arranged(replace(value, axes=tuple(mapping.get(axis, axis) for axis in value.axes)))

    def arranged(self, value: Value) -> Value:
        """The value with its dimensions in order."""
        wanted = self.layout.inner(value.axes)
        if wanted == value.axes:
            return value
        order = ", ".join(str(value.axes.index(axis)) for axis in wanted)
        return replace(value, code=Code(f"tl.permute({value.code.number.text}, ({order}))"), axes=wanted)

    def full(self, value: Value, axes: Iterable[str]) -> str:
        """A block with all of `axes`."""
        wanted, code = self.layout.inner(axes), value.code.number
        if code.literal:
            return f"tl.full({self.layout.shape(wanted)}, {code.text}, tl.float32)"
        if value.axes == wanted:
            return code.text
        aligned = self.aligned(Value(code, value.axes), wanted)
        return f"{aligned.text} + tl.full({self.layout.shape(wanted)}, 0.0, tl.float32)"


NOTHING = 'float("-inf")'
