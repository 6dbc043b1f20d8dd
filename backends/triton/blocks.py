"""Printing the expressions of a stage: products that are summed as matrix products, scans and triangular systems."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from seqc.ir import build
from seqc.ir.build import ONE, ZERO, apply, where
from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Index, Leaf, Reduce, Scan, Shift, Solve
from seqc.ir.plan import OTHER
from seqc.ir.traverse import rewrite

from ..cpu.diagnose import Unsupported
from ..cpu.rewrite import factors_of
from ..torch.names import Names
from ..torch.reading import distribute
from .ends import ended, place_of_one
from .layout import Layout
from .moves import compared
from .primitives import ATOM, MUL, Code
from .printing import GIVEN, SIGN, SINGLE, Body, Value
from .scans import joined, outside_scans
from .shifts import inward, place_after_one
from .sides import Sides, apart, unscaled


def for_blocks(
    roots: Sequence[Expr], sizes: Mapping[str, int], rows: Axes, alone: bool = False
) -> tuple[Expr, ...]:
    """The same values, over what `BlockBody` prints.

    States that are `alone`, each without the others, have no products of matrices: shifts of theirs stay shifts.
    """
    return _without_moves(rewrite(roots, lambda node: _as_product(node, rows)), sizes, alone)


def _as_product(node: Expr, rows: Axes) -> Expr | None:
    """A scan of a matrix by one gate a token, as a product with the products of gates between two tokens."""
    if not isinstance(node, Scan) or node.columns is not None or node.decay is ONE:
        return None
    if node.dtype is DType.COMPLEX:  # whose gates would be two matrices
        return None
    axis, decay, back = node.axis, node.decay, node.reverse
    if back:
        if not (isinstance(decay, Shift) and (decay.axis, decay.by) == (axis, -1)):
            return None
        decay = decay.arg
    inner = [a for a in node.source.axes if a not in rows and a != axis]
    if not inner or {*decay.axes} - {*rows, axis} or place_of_one(node.source, axis):
        return None
    there = f"{axis}~from"
    between = Scan(decay, where(apply("eq", Index(axis), Index(OTHER)), ONE, ZERO), axis)
    kernel = build.rename(between, {axis: there, OTHER: axis} if back else {OTHER: there})
    source = build.rename(node.source, {axis: there})
    return Reduce("sum", (there,), build.mul(kernel, source)) if there in source.axes else None


def _without_moves(roots: Sequence[Expr], sizes: Mapping[str, int], alone: bool) -> tuple[Expr, ...]:
    """Moves written as sums: a shift of a matrix is a product with ones beside the diagonal."""

    def shifted(node: Expr) -> Expr | None:
        if isinstance(node, Reduce) and node.op == "sum":
            return distribute(node)
        if not (isinstance(node, Shift) and len(node.axes) > 1):
            return compared(node, sizes)
        if alone:
            return None
        source = f"{node.axis}~source"
        there = apply("eq", Index(source), build.sub(Index(node.axis), build.const(node.by)))
        arg = build.rename(node.arg, {node.axis: source})
        return Reduce("sum", (source,), build.mul(where(there, ONE, ZERO), arg))

    roots = ended(roots, sizes)
    return rewrite(outside_scans(roots) if alone else inward(roots, sizes), shifted)


class BlockBody(Body):
    """The lines of a function over blocks of tokens; `products` counts the operations of its matrix products, `rounded`
    those whose factors are cast.

    What needs most registers comes first (Sethi and Ullman 1970), and values that meet are put together at once. With
    `loaded_left`, what is loaded stands on the left of products: in scans what is computed takes fewer registers on
    the right. In reads, whose queries stay in registers, it takes more there.

    Where scans are joined, the products of gates up to each token come from a scan with these gates.

    With `narrow`, factors of matrix products that fit are cast to `GIVEN`, the type of the rule's inputs; `factors` are
    those inputs. With `rounds`, others are cast to `ROUNDED`, but where a product with 0, 1 and -1 only moves numbers.
    """

    products = rounded = 0
    joins = False

    def __init__(
        self,
        layout: Layout,
        names: Names,
        *,
        loaded_left: bool,
        narrow: bool = False,
        rounds: bool = False,
    ) -> None:
        super().__init__(layout, names)
        self.loaded_left, self.narrow, self.rounds = loaded_left, narrow, rounds
        self.held: dict[Expr, int] = {}  # numbers that a value keeps in registers, besides what is loaded
        self.needs: dict[Expr, int] = {}  # and those that it takes to compute it
        self.factors = set[Leaf]()
        self.nearest = False  # whether factors of TF32 are rounded
        # What is done with the text of a value once it is known.
        self.stores: dict[Expr, Callable[[str], None]] = {}
        self.joined: dict[Expr, Expr] = {}  # products of gates, and the scans that they come from
        self.tuples: dict[Expr, Value] = {}  # scans that have several results

    def emit(self, roots: Sequence[Expr], hints: Sequence[str]) -> list[Value]:
        if self.joins:
            self.joined = joined([node for node in self.needed(roots) if isinstance(node, Scan)])
        for node in self.needed(roots):
            self._weigh(node)
        return super().emit(roots, hints)

    def _settled(self, node: Expr, value: Value, hint: str) -> Value:
        found = super()._settled(node, value, hint)
        if node in self.stores:
            if not found.code.text.isidentifier():
                found = self.assigned(found, hint)
            self.stores[node](self.full(found, node.axes))
        return found

    def _weigh(self, node: Expr) -> None:
        own, most, before = self.operands(node), 0, 0
        fixed = not own or all(self.held[x] == 0 and x not in self.known for x in own)
        self.held[node] = 0 if node in self.known or fixed else self.layout.volume(node.axes)
        for operand in own:
            most, before = max(most, before + self.needs[operand]), before + self.held[operand]
        self.needs[node] = max(most, before + self.held[node])

    def frees(self, node: Expr) -> bool:
        if isinstance(node, Solve):
            return True
        return isinstance(node, Apply) and sum(self.held[x] for x in {*node.args}) > self.held[node] > 0

    def operands(self, node: Expr) -> Sequence[Expr]:
        return sorted(self._operands(node), key=lambda x: self.held.get(x, 0) - self.needs.get(x, 0))

    def _operands(self, node: Expr) -> Sequence[Expr]:
        if isinstance(node, Reduce) and node.op == "sum":
            return self._factors(node)
        if node in self.joined:
            return (self.joined[node],)
        if isinstance(node, Scan) and node.dtype is DType.COMPLEX:
            return (*_parts_of(node.decay), *_parts_of(node.source))
        if isinstance(node, Scan) and _start(node)[0]:
            return (node.decay,)
        return super().operands(node)

    def compute(self, node: Expr) -> Value:
        match node:
            case Reduce(op="sum"):
                return self._summed([self.known[factor] for factor in self._factors(node)], node.over)
            case Scan() if node in self.joined:
                whole = self.tuples[self.joined[node]]
                return whole if node.dtype is DType.COMPLEX else _element(whole, 0)
            case Scan():
                return self._scanned(node)
            case Apply(op="real" | "imag", args=(Scan() as scan,)):
                first = 0 if scan in self.joined else 2
                return _element(self.known[scan], first + (node.op == "imag"))
            case Shift():
                return self._moved(node)
            case Solve():
                return self._solved(node)
            case Apply(op="where", args=(_, yes, no)) if {yes, no} == {ONE, ZERO}:
                return replace(super().compute(node), bits=SIGN)
            case Const() if abs(node.value) == 1:
                return replace(super().compute(node), bits=SIGN)
            case _:
                return super().compute(node)

    # --- sums of products -----------------------------------------------------------------------------------------

    def _factors(self, node: Reduce) -> list[Expr]:
        return [*apart(node.arg, self._given)] if self.rounds else factors_of(node.arg)

    def _given(self, node: Expr) -> bool:
        return isinstance(node, Leaf) and node in self.known and self.known[node].bits == GIVEN

    def _summed(self, factors: Sequence[Value], over: Sequence[str]) -> Value:
        bound = {axis for axis in over if axis not in self.layout.rows}
        found = self._sides(factors, bound)
        if found is None:
            return self.total(self._product(factors), bound)
        sides = Sides(*found, [])
        if self.rounds:
            sides = unscaled(sides, bound, self.layout.volume)
        left, right = self._product(sides.left), self._product(sides.right)
        inner = self.layout.inner(bound)
        rows = tuple(axis for axis in left.axes if axis not in bound)
        columns = tuple(axis for axis in right.axes if axis not in bound)
        kind = self._type_of(left, right)
        if kind == "GIVEN":
            self.factors |= {side.leaf for side in (left, right) if side.leaf is not None}
        first, second = (_as_type(value, kind) if kind else self._nearest(value) for value in (left, right))
        a, b = self._matrix(first, rows, inner, bound), self._matrix(second, inner, columns, bound)
        text = f"tl.dot({a}, {b}, input_precision=PRECISION)"
        count = 2 * self.layout.volume((*rows, *columns)) * self.layout.volume(inner)
        self.products += count
        self.rounded += count if kind else 0
        if len(rows) > 1 or len(columns) > 1:
            text = f"tl.reshape({text}, {self._lengths((*rows, *columns))})"
        whole = self.arranged(Value(Code(text), (*rows, *columns)))
        return self._product([self.assigned(whole, "total"), *sides.outside]) if sides.outside else whole

    def _sides(self, factors: Sequence[Value], bound: set[str]) -> tuple[list[Value], list[Value]] | None:
        """The factors as those of two matrices, if there are such: with no axis in common but those of the sum."""
        loaded = {value.code.text for node, value in self.known.items() if isinstance(node, Leaf)}
        free = sorted({axis for value in factors for axis in value.axes} - bound)
        found: list[tuple[tuple[int, bool], tuple[list[Value], list[Value]]]] = []
        for some in _parts(free):
            left = [value for value in factors if set(value.axes) <= {*some, *bound}]
            right = [value for value in factors if value not in left]
            if any(set(value.axes) & set(some) for value in right):
                continue
            axes = [{axis for value in side for axis in value.axes} for side in (left, right)]
            if not (bound and all(bound <= side and side - bound for side in axes)):
                continue
            computed = self.loaded_left and all(value.code.text not in loaded for value in left)
            found.append(((sum(self.layout.volume(side) for side in axes), computed), (left, right)))
        return min(found, key=lambda pair: pair[0], default=(0, None))[1]

    def _product(self, factors: Sequence[Value]) -> Value:
        axes = self.layout.inner({axis for value in factors for axis in value.axes})
        self.check(axes)
        codes = [self.aligned(value, axes).number for value in factors]
        if len(codes) == 1:
            return replace(factors[0], code=codes[0], axes=axes)
        code = Code(" * ".join(code.at(MUL + 1) for code in codes), MUL)
        match [value for value in factors if value.bits > SIGN]:
            case []:
                return Value(code, axes, SIGN)
            case [one]:
                return Value(code, axes, one.bits, leaf=one.leaf)
            case _:
                return Value(code, axes)

    def _type_of(self, left: Value, right: Value) -> str:
        """What the factors of a matrix product are cast to; nothing where they stay what they are."""
        few, many = sorted([left.bits, right.bits])
        if many < SINGLE:
            return "GIVEN" if self.narrow else ""
        return "ROUNDED" if self.rounds and few > SIGN else ""

    def _nearest(self, value: Value) -> Value:
        """Factors of TF32 that errors grow from are rounded; others are cut off by the product."""
        if not self.nearest or value.bits < SINGLE:
            return value
        return replace(value, code=Code(f"nearest({value.code.text}, PRECISION)"))

    def _matrix(self, value: Value, rows: Axes, columns: Axes, bound: Container[str] = ()) -> str:
        """A block as a matrix, entries beyond the axes of the sum 0."""
        masks = [
            axis for axis in value.axes if axis in bound and self.layout.ragged(axis) and not value.blank
        ]
        text = value.code.text
        if masks:
            text = f"tl.where({self.inside(masks, value.axes)}, {text}, 0.0)"
        wanted = (*rows, *columns)
        if wanted != value.axes:
            text = f"tl.permute({text}, ({', '.join(str(value.axes.index(axis)) for axis in wanted)}))"
        if len(rows) > 1 or len(columns) > 1:
            text = f"tl.reshape({text}, ({self._length(rows)}, {self._length(columns)}))"
        return text

    def _length(self, axes: Axes) -> str:
        return " * ".join(self.layout.length(axis) for axis in axes)

    def _lengths(self, axes: Axes) -> str:
        return f"({', '.join(self.layout.length(axis) for axis in axes)})"

    # --- along the tokens of a block ------------------------------------------------------------------------------

    def _scanned(self, node: Scan) -> Value:
        if node.columns is not None:
            raise Unsupported("a scan over small matrices")
        axes = self.layout.inner(node.axes)
        self.check(axes)
        dimension = axes.index(node.axis)
        if node.dtype is DType.COMPLEX:
            if place_of_one(node.source, node.axis):
                raise Unsupported("products of complex gates between two tokens")
            operands = (*_parts_of(node.decay), *_parts_of(node.source))
            return self._several(node, "turning", operands, axes)
        other, by = _start(node)
        if other:
            return self._between(node, other, by, axes, dimension)
        source = self.full(self.known[node.source], axes)
        if node.decay is ONE:
            reverse = ", reverse=True" if node.reverse else ""
            return Value(Code(f"tl.cumsum({source}, {dimension}{reverse})"), axes)
        if node in self.joined.values():
            return _element(self._several(node, "following", (node.decay, node.source), axes), 1)
        decay = self.full(self.known[node.decay], axes)
        return Value(Code(f"running({decay}, {source}, {dimension}, {node.reverse})"), axes)

    def _several(self, node: Scan, function: str, operands: Sequence[Expr], axes: Axes) -> Value:
        """A scan with its products of gates, in a variable that is a tuple."""
        given = ", ".join(self.full(self.known[x], axes) for x in operands)
        text = f"{function}({given}, {axes.index(node.axis)}, {node.reverse})"
        self.tuples[node] = self.assigned(Value(Code(text), axes), "scanned")
        return self.tuples[node]

    def _moved(self, node: Shift) -> Value:
        axes = self.layout.inner(node.axes)
        place = self.aligned(Value(Code(self.place(node.axis)), (node.axis,)), axes).text
        given = f"{self.full(self.known[node.arg], axes)}, {place}, {node.by}, {self.layout.size(node.axis)}"
        return Value(Code(f"moved({given}, {axes.index(node.axis)})"), axes)

    def _between(self, node: Scan, other: str, by: int, axes: Axes, dimension: int) -> Value:
        """The products of what comes after one place up to another, moved by some places."""
        place, start = (self.aligned(Value(Code(self.place(a)), (a,)), axes).text for a in (node.axis, other))
        start = f"{start} + {by}" if by else start
        gates = self.aligned(self.known[node.decay], axes).number.text
        text = f"tl.cumprod(tl.where({place} > {start}, {gates}, 1.0), {dimension})"
        return Value(Code(f"tl.where({place} >= {start}, {text}, 0.0)"), axes)

    def _solved(self, node: Solve) -> Value:
        """By the inverse of the triangular matrix, which right sides share."""
        rows, columns, matrix = node.rows, node.columns, self.known[node.matrix]
        if set(matrix.axes) != {rows, columns}:
            raise Unsupported("a triangular system with further axes")
        key = (node.matrix, node.upper)
        if key not in self.inverses:
            function = "inverse_upper" if node.upper else "inverse_lower"
            text = f"{function}({self._matrix(matrix, (rows,), (columns,))}, {self.layout.length(rows)})"
            self.inverses[key] = self.assigned(Value(Code(text), (rows, columns)), "inverse")
        side = self.known[node.rhs]
        if rows not in side.axes:
            side = Value(Code(self.full(side, (rows, *side.axes))), self.layout.inner((rows, *side.axes)))
        renamed = Value(side.code, tuple(columns if axis == rows else axis for axis in side.axes))
        return self._summed([self.arranged(self.inverses[key]), self.arranged(renamed)], (columns,))


def _as_type(value: Value, kind: str) -> Value:
    return replace(value, code=Code(f"{value.code.at(ATOM)}.to({kind})")) if kind else value


def _element(value: Value, number: int) -> Value:
    return replace(value, code=Code(f"{value.code.text}[{number}]"))


def _parts_of(x: Expr) -> tuple[Expr, Expr]:
    """The real part and the imaginary part of an operand of a scan with complex gates."""
    return build.apply("real", x), build.apply("imag", x)


def _start(node: Scan) -> tuple[str, int]:
    """The axis of the place where a scan starts from 1, so many places later, if it is a product of gates; else ""."""
    other, by = place_after_one(node.source, node.axis)
    plain = other not in node.decay.axes and not node.reverse and node.columns is None
    return (other, by) if plain else ("", 0)


def _parts(axes: Sequence[str]) -> Iterator[Iterable[str]]:
    """Every way to take some of the axes and leave some."""
    for count in range(1, len(axes)):
        yield from combinations(axes, count)
