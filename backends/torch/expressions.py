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

from seqc.ir import build
from seqc.ir.expr import (
    Apply,
    At,
    Axes,
    Concat,
    Const,
    DType,
    Expr,
    Index,
    Item,
    Leaf,
    Reduce,
    Rename,
    Scan,
    Shift,
    Size,
    Slice,
    Softmax,
    Solve,
    children,
    rewrite,
    walk,
)

from .contract import contract_all
from .names import Names, identifier
from .primitives import ADD, ATOM, MUL, SPELLINGS, UNARY, Code, number

LINE = 110
INLINE = 60  # the longest text that is put into another expression instead of a variable


@dataclass(frozen=True, slots=True)
class Value:
    """Printed text with the named axes of its last dimensions, and whether leading dimensions stand before them."""

    code: Code
    axes: Axes = ()
    lead: bool = False
    dtype: DType = DType.REAL

    @property
    def atom(self) -> str:
        return self.code.at(ATOM)


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
    width: int = LINE - 8
    uses: Counter[Expr] = field(default_factory=Counter[Expr])  # of each node, what is still to come
    counts: Mapping[Expr, int] = field(default_factory=dict[Expr, int])  # of each node in all
    reusable: set[str] = field(default_factory=set[str])
    lead_text: str = ""

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
            self.lines.extend(wrapped(text, self.width))
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
        while sum(len(self.known[p].code.text) for p in parts) > room:
            longest = max(parts, key=lambda p: len(self.known[p].code.text))
            if len(self.known[longest].code.text) < 16:
                return
            self.known[longest] = self.assign(self.known[longest], hint_for(longest))

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
                return self._softmax(node)
            case Scan():
                return self._scan(node)
            case Solve():
                return self._solve(node)
            case _:
                return self._reshaped(node)

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

    def _softmax(self, node: Softmax) -> Value:
        value = self.value(node.arg)
        dims = [value.axes.index(a) - len(value.axes) for a in node.over]
        if len(dims) == 1:
            function = "safe_softmax" if self._may_be_empty(node) else "torch.softmax"
            return replace(value, code=Code(f"{function}({value.code.text}, {dims[0]})"))
        value = self.arranged(value, (*(a for a in value.axes if a not in node.over), *node.over))
        count = len(dims)
        text = f"torch.softmax({value.atom}.flatten(-{count}), -1).view_as({value.code.text})"
        return replace(value, code=Code(text))

    def _may_be_empty(self, node: Softmax) -> bool:
        """Whether a row can be nothing but -inf; the present token, where it counts, is always visible."""
        below = list(walk([node.arg]))
        if any(isinstance(n, Leaf) and n.name == "%visible" for n in below):
            return False
        return any(isinstance(n, Const) and n.value == float("-inf") for n in below)

    def _scan(self, node: Scan) -> Value:
        decay, source = self.value(node.decay), self.value(node.source)
        lead = decay.lead or source.lead
        if node.columns is not None:
            return self._scan_matrix(node, decay, source, lead)
        axes = self.sorted({*decay.axes, *source.axes, node.axis})
        dim = axes.index(node.axis) - len(axes)
        more = ", reverse=True" if node.reverse else ""
        length = "" if node.axis in source.axes else f", length={self.length(node.axis)}"
        a, b = self.aligned(decay, axes, lead, True), self.aligned(source, axes, lead, True)
        if isinstance(node.decay, Const) and node.decay.value == 1.0:
            return Value(Code(f"running_sum({b.text}, {dim}{more}{length})"), axes, lead, node.dtype)
        return Value(Code(f"scan({a.text}, {b.text}, {dim}{more})"), axes, lead, node.dtype)

    def _scan_matrix(self, node: Scan, decay: Value, source: Value, lead: bool) -> Value:
        assert node.columns is not None
        s, r = node.columns
        rest = self.sorted({*decay.axes, *source.axes} - {s, r, node.axis})
        a = self.aligned(
            self.arranged(decay, self.has(decay, (*rest, node.axis, s, r))), (*rest, node.axis, s, r), lead
        )
        b = self.aligned(
            self.arranged(source, self.has(source, (*rest, node.axis, s))), (*rest, node.axis, s), lead
        )
        more = ", reverse=True" if node.reverse else ""
        return Value(Code(f"scan_matrix({a.text}, {b.text}{more})"), (*rest, node.axis, s), lead, node.dtype)

    def has(self, value: Value, axes: Axes) -> Axes:
        return tuple(a for a in axes if a in value.axes)

    def _solve(self, node: Solve) -> Value:
        matrix, side = self.value(node.matrix), self.value(node.rhs)
        rows, columns = node.rows, node.columns
        free = tuple(a for a in side.axes if a != rows and a not in matrix.axes)
        rest = self.sorted({*matrix.axes, *side.axes} - {rows, columns, *free})
        free = self.sorted(free)
        m = self.aligned(
            self.arranged(matrix, self.has(matrix, (*rest, rows, columns))), (*rest, rows, columns), True
        )
        full = (*rest, rows, *free)
        b = self.aligned(self.arranged(side, self.has(side, full)), full, True)
        if len(m.text) + len(b.text) > 70:
            longer = b if len(b.text) >= len(m.text) else m
            name = self.assign(Value(longer), "side" if longer is b else "matrix").code
            m, b = (m, name) if longer is b else (name, b)
        upper = ", upper=True" if node.upper else ""
        text = f"solve_unit({m.text}, {b.text}, {len(free)}{upper})"
        solved = Value(Code(text), full, matrix.lead or side.lead, node.dtype)
        if full == self.sorted(full):
            return solved
        return self.arranged(self.assign(solved, "solved"), self.sorted(full))

    def _reshaped(self, node: Expr) -> Value:
        match node:
            case Slice():
                value = self.value(node.arg)
                index = self._index_of(value, node.axis, f"{node.start}:{node.start + self.sizes[node.new]}")
                return replace(
                    value, code=index, axes=tuple(node.new if a == node.axis else a for a in value.axes)
                )
            case At():
                value = self.value(node.arg)
                code = self._index_of(value, node.axis, str(node.index))
                return replace(value, code=code, axes=tuple(a for a in value.axes if a != node.axis))
            case Shift():
                value = self.value(node.arg)
                dim = value.axes.index(node.axis) - len(value.axes)
                return replace(value, code=Code(f"shift({value.code.text}, {node.by}, {dim})"))
            case Concat():
                return self._concat(node)
            case Size():
                return Value(Code(self.length(node.axis)))
            case _:
                raise NotImplementedError(f"{type(node).__name__} has no place in a token-level expression")

    def _index_of(self, value: Value, axis: str, index: str) -> Code:
        after = len(value.axes) - 1 - value.axes.index(axis)
        return Code(f"{value.atom}[..., {index}{', :' * after}]")

    def _concat(self, node: Concat) -> Value:
        values = [
            replace(v, axes=tuple(node.axis if a == part else a for a in v.axes))
            for v, part in zip((self.value(a) for a in node.args), node.parts, strict=True)
        ]
        axes = self.sorted({a for v in values for a in v.axes})
        lead = any(v.lead for v in values)
        dim = axes.index(node.axis) - len(axes)
        texts = [self.aligned(v, axes, lead, True).text for v in values]
        if any(v.lead != lead or len(v.axes) != len(axes) for v in values):
            return Value(Code(f"concatenate([{', '.join(texts)}], {dim})"), axes, lead, node.dtype)
        return Value(Code(f"torch.cat([{', '.join(texts)}], {dim})"), axes, lead, node.dtype)

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


# --- reading expressions ------------------------------------------------------------------------------------------


def distribute(node: Reduce) -> Expr | None:
    """Σ(x ± y) as Σx ± Σy where a summand is a product that a contraction does better than a broadcast."""
    arg = node.arg
    if isinstance(arg, Apply) and arg.op == "neg":
        return build.neg(_resum(node.over, arg.args[0]))
    if (
        isinstance(arg, Apply)
        and arg.op in ("add", "sub")
        and any(_contractible(x, node.over) for x in arg.args)
    ):
        return build.apply(arg.op, *(_resum(node.over, x) for x in arg.args))
    return None


def _resum(over: Axes, arg: Expr) -> Expr:
    inner = build.sum_over(over, arg)
    return (distribute(inner) or inner) if isinstance(inner, Reduce) else inner


def _contractible(x: Expr, over: Axes) -> bool:
    if not isinstance(x, Apply):
        return False
    if x.op in ("add", "sub", "neg"):
        return any(_contractible(arg, over) for arg in x.args)
    return x.op == "mul" and any(set(arg.axes) != set(x.axes) for arg in x.args)


def operands(node: Expr, uses: Mapping[Expr, int]) -> tuple[Expr, ...]:
    """The sub-expressions that a node is printed from: the factors of a contraction, or its children."""
    if isinstance(node, Reduce) and node.op == "sum":
        return tuple(f for f in _factors(node.arg, uses, top=True) if not isinstance(f, bool))
    return children(node)


def sign(node: Expr, uses: Mapping[Expr, int]) -> bool:
    """Whether the product below a sum carries a minus."""
    assert isinstance(node, Reduce)
    return sum(1 for f in _factors(node.arg, uses, top=True) if isinstance(f, bool)) % 2 == 1


def _factors(node: Expr, uses: Mapping[Expr, int], top: bool) -> list[Expr | bool]:
    """The factors of a product, True for each minus; products used elsewhere too stay whole."""
    result: list[Expr | bool] = []
    stack: list[tuple[Expr, bool]] = [(node, top)]
    while stack:
        item, first = stack.pop()
        if isinstance(item, Apply) and item.op in ("mul", "neg") and (uses.get(item, 0) <= 1 or first):
            if item.op == "neg":
                result.append(True)
            stack.extend((arg, False) for arg in reversed(item.args))
        else:
            result.append(item)
    return result


def count_uses(roots: Iterable[Expr], known: Mapping[Expr, Value]) -> Counter[Expr]:
    """How often each node is an argument of another or a root; what is known is not looked into."""
    uses: Counter[Expr] = Counter()
    seen: set[Expr] = set()
    stack = list(roots)
    uses.update(stack)
    while stack:
        node = stack.pop()
        if node in seen or node in known:
            continue
        seen.add(node)
        below = children(node)
        uses.update(below)
        stack.extend(below)
    return uses


def merged_order(sequences: Iterable[Axes]) -> dict[str, int]:
    """One order of axes that follows as many of the given ones as it can, earlier ones first."""
    order: list[str] = []
    for axes in sequences:
        place = 0
        for axis in axes:
            if axis in order:
                place = max(place, order.index(axis) + 1)
            else:
                order.insert(place, axis)
                place += 1
    return {axis: i for i, axis in enumerate(order)}


def all_axes(roots: Iterable[Expr]) -> Iterable[Axes]:
    """The axes of the leaves below `roots`, then those of all nodes."""
    nodes = list(walk(roots))
    yield from (node.axes for node in nodes if isinstance(node, Leaf))
    yield from (node.axes for node in nodes)


_HINTS = {
    "exp": "decay", "sigmoid": "gate", "where": "masked", "sub": "difference", "add": "total", "mul": "product",
    "div": "ratio", "neg": "negative", "tanh": "squashed", "log_sigmoid": "log_gate", "softplus": "rate",
    "silu": "activated", "gelu": "activated", "relu": "activated",
}  # fmt: skip


_KINDS: dict[type[Expr], str] = {
    At: "last", Slice: "part", Concat: "joined", Scan: "scanned", Solve: "solved", Softmax: "weights",
}  # fmt: skip


def hint_for(node: Expr) -> str:
    """What to call an intermediate value."""
    while isinstance(node, Rename):
        node = node.arg
    match node:
        case Apply():
            return _HINTS.get(node.op, node.op)
        case Leaf():
            return node.name.split(".")[-1]
        case Item():
            return node.call.name.split(".")[-1]
        case Shift():
            return "earlier" if node.by > 0 else "later"
        case Reduce():
            return "total" if node.op == "sum" else "top"
        case _:
            return _KINDS.get(type(node), type(node).__name__.lower())


def shape_comment(value: Value) -> str:
    inner = ", ".join(axis_letter(a) for a in value.axes)
    return f"[…, {inner}]" if value.lead else f"[{inner}]"


def axis_letter(axis: str) -> str:
    return {"%i": "i", "%j": "j", "%k": "k"}.get(axis, axis.replace("~", "_"))


def _on_numbers(op: str, spelled: Code, codes: Sequence[Code]) -> Code:
    """An operation on plain numbers, as a plain number where Python can say it."""
    if op in ("add", "sub", "mul", "div", "neg"):
        return replace(spelled, number=True)
    if op in ("exp", "log", "sqrt", "sin", "cos", "tanh"):
        return Code(f"math.{op}({codes[0].text})", ATOM, True)
    tensors = [Code(f"torch.tensor({c.text})") for c in codes]
    return SPELLINGS[op](tensors)


def wrapped(text: str, width: int) -> list[str]:
    """A long assignment or return broken the way that `ruff format` breaks it."""
    from .layout import split_statement

    return split_statement(text, width)


__all__ = ["ADD", "MUL", "UNARY", "Scope", "Value", "distribute", "merged_order", "operands"]
