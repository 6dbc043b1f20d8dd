"""Printing expressions as PyTorch.

A value has *leading* dimensions (batch and time; batch and block; batch alone) that no expression mentions, then one
dimension for each of its named axes, in the order of the scope that it is printed in.  Printed code never counts
dimensions from the front, so the same text serves whatever leads.  A value without leading dimensions (made of
parameters and numbers only) broadcasts as it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from seqc.ir.expr import (
    Apply,
    Axes,
    Const,
    DType,
    Expr,
    Index,
    Put,
    Rank,
    Reduce,
    Rename,
    Scan,
    Size,
    Softmax,
    Solve,
    Take,
)
from seqc.ir.traverse import rewrite

from . import along
from .contract import contract_all
from .layout import split_statement
from .lookup import looked_up
from .names import Names, identifier
from .primitives import ATOM, SPELLINGS, Code, number
from .reading import count_uses, distribute, operands, sign
from .values import Value, hint_for, shape_comment

LINE = 110
INLINE = 60  # the longest text that is put into another expression instead of a variable


@dataclass(slots=True)
class Scope:
    """Where expressions are printed: known values, the order of axes, lengths, and the lines so far."""

    names: Names
    order: dict[str, int]
    sizes: Mapping[str, int]
    like: str
    known: dict[Expr, Value] = field(default_factory=dict[Expr, Value])
    lines: list[str] = field(default_factory=list[str])
    hints: dict[Expr, str] = field(default_factory=dict[Expr, str])
    special: Callable[[Scope, Expr], Value | None] | None = None
    autograd: bool = True
    mixed: bool = False  # whether values differ in precision
    width: int = LINE - 8
    uses: Counter[Expr] = field(default_factory=Counter[Expr])  # of each node, what is still to come
    counts: Mapping[Expr, int] = field(default_factory=dict[Expr, int])  # of each node in all
    reusable: set[str] = field(default_factory=set[str])

    # --- what callers use -----------------------------------------------------------------------------------------

    def bind(self, leaf: Expr, name: str, lead: bool = True, axes: Axes | None = None) -> None:
        """`leaf` is in the variable (or expression) `name`."""
        self.known[leaf] = Value(Code(name), leaf.axes if axes is None else axes, lead, leaf.dtype)

    def emit(self, roots: Sequence[Expr], hints: Sequence[str | None] = ()) -> list[Value]:
        """Lines that compute `roots`, and their values."""
        roots = self.prepared(roots)
        self.uses = count_uses(roots, self.known)
        self.counts = dict(self.uses)
        for root, hint in zip(roots, hints, strict=False):
            if hint is not None:
                self.hints.setdefault(root, hint)
        for node in self.needed(roots):
            if node not in self.known:
                value = self.compute(node)
                self.uses.subtract(operands(node, self.counts))
                self.known[node] = self._settle(node, value)
        return [self.known[root] for root in roots]

    def rename_into(self, hint: str) -> str:
        """A name like `hint`: that very name if what it holds is not needed any more."""
        name = identifier(hint)
        if name not in self.reusable:
            fresh = self.names.fresh(hint)
            self.reusable.add(fresh)
            return fresh
        word = re.compile(rf"\b{name}\b")
        for node, value in self.known.items():
            if self.uses[node] > 0 and word.search(value.code.text):
                fresh = self.names.fresh(hint)
                self.reusable.add(fresh)
                return fresh
        return name

    def prepared(self, roots: Sequence[Expr]) -> tuple[Expr, ...]:
        """Lengths as numbers, sums distributed over sums of products."""
        return rewrite(roots, self._prepare)

    def _prepare(self, node: Expr) -> Expr | None:
        if isinstance(node, Size) and self.sizes.get(node.axis, 0) > 0:
            return Const(float(self.sizes[node.axis]))
        if isinstance(node, Reduce) and node.op == "sum":
            return distribute(node)
        return None

    def needed(self, roots: Sequence[Expr]) -> list[Expr]:
        """The nodes to print, children first; known ones and factors folded into contractions left out."""
        order: list[Expr] = []
        seen: set[Expr] = set()
        for root in roots:
            stack: list[tuple[Expr, bool]] = [(root, False)]
            while stack:
                node, ready = stack.pop()
                if node in seen or node in self.known:
                    continue
                if ready:
                    seen.add(node)
                    order.append(node)
                    continue
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(operands(node, self.counts)))
        return order

    def assign(self, value: Value, hint: str, reuse: bool = False) -> Value:
        """The value in a variable; with `reuse`, in one of that name whose value is not needed any more."""
        if value.code.level == ATOM and value.code.text.isidentifier():
            return value
        name = self.rename_into(hint) if reuse else self.names.fresh(hint)
        self.line(f"{name} = {value.code.text}", value)
        return replace(value, code=Code(name))

    def line(self, text: str, value: Value | None = None) -> None:
        comment = f"  # {shape_comment(value)}" if value is not None and value.axes else ""
        if len(text) > self.width:
            self.lines.extend(split_statement(text, self.width))
        elif len(text) + len(comment) <= self.width:
            self.lines.append(text + comment)
        else:
            self.lines.append(text)

    # --- one node -------------------------------------------------------------------------------------------------

    def _settle(self, node: Expr, value: Value) -> Value:
        """A variable for what is used more than once, is long, or has a name of its own."""
        if value.code.number or (value.code.text.isidentifier() and node not in self.hints):
            return value
        if node in self.hints:
            return self.assign(value, self.hints[node], reuse=True)
        if len(value.code.text) > INLINE:
            return self.assign(value, hint_for(node))
        if self.counts.get(node, 0) > 1 and not (
            isinstance(node, Rename | Index) and value.code.level == ATOM
        ):
            return self.assign(value, hint_for(node))
        return value

    def value(self, node: Expr) -> Value:
        return self.known[node]

    def _shorten(self, parts: Sequence[Expr]) -> None:
        """Variables for the longest parts of what would be too long a line."""
        if not parts:
            return
        alike = len({frozenset(self.known[p].axes) for p in parts}) == 1
        room = self.width - len(parts) * (4 if alike else 12) - (4 if alike else 16)
        # What is a variable already cannot be made shorter.
        longest = sorted(
            (p for p in dict.fromkeys(parts) if not self.known[p].code.text.isidentifier()),
            key=lambda p: -len(self.known[p].code.text),
        )
        for part in longest:
            short = sum(len(self.known[p].code.text) for p in parts) <= room
            if short or len(self.known[part].code.text) < 16:
                return
            self.known[part] = self.assign(self.known[part], hint_for(part))

    def compute(self, node: Expr) -> Value:
        """The value of a node whose operands are known."""
        self._shorten(operands(node, self.counts))
        if self.special is not None and (found := self.special(self, node)) is not None:
            return found
        match node:
            case Const():
                return Value(number(node.value))
            case Apply():
                return self._apply(node)
            case Reduce():
                return self._reduce(node)
            case _:
                return self._arranging(node)

    def _reduce(self, node: Reduce) -> Value:
        if node.op == "sum":
            return contract_all(self, operands(node, self.counts), node.over, sign(node, self.counts))
        return self.reduced(self.value(node.arg), "amax", node.over)

    def _arranging(self, node: Expr) -> Value:
        match node:
            case Rename():
                return self._rename(node)
            case Index():
                return self._index(node)
            case Softmax():
                return along.softmax(self, node)
            case Scan():
                return along.scan(self, node)
            case Solve():
                return along.solve(self, node)
            case Take() | Put() | Rank():
                return looked_up(self, node)
            case _:
                return along.part(self, node)

    def _apply(self, node: Apply) -> Value:
        values = [self.value(arg) for arg in node.args]
        axes = self.sorted({a for v in values for a in v.axes})
        lead = any(v.lead for v in values)
        codes = [self.aligned(v, axes, lead) for v in values]
        if node.op == "where" and all(c.number for c in codes[1:]):
            text = f"choose({', '.join(c.text for c in codes)}, {self.like})"
            return Value(Code(text), axes, lead, node.dtype)
        spelled = SPELLINGS[node.op](codes)
        if codes and all(c.number for c in codes):
            spelled = _on_numbers(node.op, spelled, codes)
        return Value(spelled, axes, lead, node.dtype)

    def _rename(self, node: Rename) -> Value:
        value = self.value(node.arg)
        mapping = dict(node.pairs)
        return replace(value, axes=tuple(mapping.get(a, a) for a in value.axes))

    def _index(self, node: Index) -> Value:
        length = self.length(node.axis)
        return Value(Code(f"index({length}, {self.like})"), (node.axis,), False, DType.REAL)

    def length(self, axis: str) -> str:
        size = self.sizes.get(axis, 0)
        if size > 0:
            return str(size)
        return self.dynamic_length(axis)

    def dynamic_length(self, axis: str) -> str:
        """The length of an axis that is known only at run time, read off a value that has it."""
        for value in self.known.values():
            if axis in value.axes and value.code.text.isidentifier():
                return f"{value.code.text}.shape[{value.axes.index(axis) - len(value.axes)}]"
        return "1"

    # --- dimensions -----------------------------------------------------------------------------------------------

    def sorted(self, axes: Iterable[str]) -> Axes:
        return tuple(
            sorted(axes, key=lambda a: (self.order.get(a, self.order.get(a.split("~")[0], 10**6)), a))
        )

    def arranged(self, value: Value, axes: Axes) -> Value:
        """The value with its dimensions in the order of `axes` (the same set)."""
        if value.axes == axes:
            return value
        if len(value.code.text) > 40:
            value = self.assign(value, "value")
        old, n = list(value.axes), len(axes)
        moved = [i for i in range(n) if old[i] != axes[i]]
        if len(moved) == 2 and [old[i] for i in moved] == [axes[i] for i in reversed(moved)]:
            i, j = moved[0] - n, moved[1] - n
            text = f"{value.atom}.mT" if (i, j) == (-2, -1) else f"{value.atom}.transpose({i}, {j})"
            return replace(value, code=Code(text), axes=axes)
        sources = [old.index(a) - n for a in axes]
        keep = next(i for i in range(n) if old[i] != axes[i])
        text = f"{value.atom}.movedim({tuple(sources[keep:])}, {tuple(range(keep - n, 0))})"
        return replace(value, code=Code(text), axes=axes)

    def aligned(self, value: Value, axes: Axes, lead: bool, every: bool = False) -> Code:
        """Text that broadcasts against values with the axes `axes` (in scope order); `every`: all dimensions there."""
        if value.code.number:
            return value.code
        value = self.arranged(value, tuple(a for a in axes if a in value.axes))
        marks = [":" if a in value.axes else "None" for a in axes]
        if not value.lead and not every:
            while marks and marks[0] == "None":
                marks.pop(0)
        while marks and marks[0] == ":":
            marks.pop(0)
        if not marks:
            return value.code
        return Code(f"{value.atom}[..., {', '.join(marks)}]")

    def reduced(self, value: Value, method: str, over: Iterable[str]) -> Value:
        dims = [value.axes.index(a) - len(value.axes) for a in value.axes if a in over]
        text = str(dims[0]) if len(dims) == 1 else str(tuple(dims))
        axes = tuple(a for a in value.axes if a not in over)
        return replace(value, code=Code(f"{value.atom}.{method}({text})"), axes=axes)

    def full(self, value: Value, axes: Axes, lead: str = "*lead, ") -> Code:
        """`value` with exactly `axes`, in that order, and the leading dimensions `lead` (text)."""
        if value.lead and set(value.axes) == set(axes):
            return self.arranged(value, axes).code
        order = self.sorted(axes)
        text = self.expanded(value, order, self.like, lead)
        return self.arranged(Value(Code(text), order, True, value.dtype), axes).code

    def still(self, value: Value, axes: Axes, like: str) -> str:
        """Text of a value without leading dimensions with all of `axes`, in that order."""
        if value.code.number or set(value.axes) != set(axes):
            return self.expanded(value, axes, like, "")
        return self.arranged(value, axes).code.text

    def expanded(self, value: Value, axes: Axes, like: str, lead: str) -> str:
        """Text of `value` with all of `axes`, and the leading dimensions `lead` (text), where it lacks some."""
        if value.code.number:
            lengths = [*([lead.rstrip(", ")] if lead else []), *(self.length(a) for a in axes)]
            comma = "," if len(lengths) == 1 else ""
            return f"{like}.new_full(({', '.join(lengths)}{comma}), {value.code.text})"
        text = self.aligned(value, axes, True)
        if value.lead and set(value.axes) == set(axes):
            return text.text
        sizes = ", ".join(self.length(a) for a in axes)
        return f"{text.at(ATOM)}.expand({lead}{sizes})".replace(", )", ")")


def _on_numbers(op: str, spelled: Code, codes: Sequence[Code]) -> Code:
    """An operation on plain numbers, as a plain number where Python can say it."""
    if op in ("add", "sub", "mul", "div", "neg"):
        return replace(spelled, number=True)
    if op in ("exp", "log", "sqrt", "sin", "cos", "tanh"):
        return Code(f"math.{op}({codes[0].text})", ATOM, True)
    tensors = [Code(f"torch.tensor({c.text})") for c in codes]
    return SPELLINGS[op](tensors)
