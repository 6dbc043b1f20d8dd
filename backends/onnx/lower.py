"""Expressions as nodes: one case a kind of expression, and only what is asked for is emitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from seqc.ir import build
from seqc.ir.expr import (
    Apply,
    At,
    Concat,
    Const,
    Dropout,
    DType,
    Expr,
    Gather,
    Index,
    Leaf,
    LeafKind,
    Put,
    Rank,
    Reduce,
    Rename,
    Scan,
    Shift,
    Size,
    Slice,
    Softmax,
    Solve,
    Take,
)
from seqc.ir.plan import OTHER, TOKEN
from seqc.ir.traverse import children, depends_on, leaves

from . import lookup
from .control import Unsupported
from .gates import product_between
from .norms import Norm, find_norm, normalize
from .pairs import COMPLEX_PRIMITIVES, Number, Pair, both
from .primitives import LOGICAL, PRIMITIVES
from .scans import (
    contract,
    last_of_scan,
    linear_scan,
    product_kernel,
    product_to_last,
    running_product,
    running_sum,
    scan_by_kernel,
    spread,
)
from .solve import solve_lower
from .tensors import Space, Tensor

MUCH = 16  # how many times as large as its gates the source of a scan is that is worth a matrix product
LOWEST = -3.0e38  # stands for minus infinity in a softmax, where some entry of every row is finite


@dataclass(frozen=True, slots=True)
class Growing:
    """The axis of a store: which entries each token sees, with and without its own; true or false by `[…, axis]`."""

    now: Tensor
    before: Tensor


class Lowering:
    """Emits expressions into a space; `env` holds what is already known, `definitions` what stands behind a leaf."""

    def __init__(
        self,
        space: Space,
        env: Mapping[Expr, Number],
        definitions: Mapping[Expr, Expr] | None = None,
        growing: Mapping[str, Growing] | None = None,
    ) -> None:
        self.space = space
        self.env: dict[Expr, Number] = dict(env)
        self.definitions = dict(definitions or {})
        self.growing = dict(growing or {})
        self._factors: dict[Expr, tuple[Expr, ...]] = {}
        self._moved: dict[Expr, tuple[str, int]] = {}
        self._norms: dict[Expr, Norm] = {}
        self._last: dict[Expr, Scan] = {}
        self._left: dict[Expr, Expr] = {}

    def value(self, root: Expr) -> Number:
        """The number that an expression denotes."""
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in self.env:
                continue
            if ready:
                self.env[node] = self._emit(node)
                continue
            stack.append((node, True))
            stack.extend((need, False) for need in reversed(self.needs(node)))
        return self.env[root]

    def values(self, roots: Iterable[Expr]) -> list[Number]:
        return [self.value(root) for root in roots]

    def real(self, root: Expr) -> Tensor:
        """The value of an expression that is not complex."""
        value = self.value(root)
        assert isinstance(value, Tensor)
        return value

    def needs(self, node: Expr) -> tuple[Expr, ...]:
        """What has to be known before a node can be emitted."""
        if node in self.definitions:
            return (self.definitions[node],)
        if (norm := find_norm(self.space, node)) is not None:
            self._norms[node] = norm
            return norm.needs
        if (
            isinstance(node, Apply)
            and (scaled := self._scaled_sum(node)) is not None
            and scaled.arg is not node
        ):
            self.definitions[node] = scaled
            return (scaled,)
        if isinstance(node, Apply) and (smaller := self._smaller_first(node)) is not None:
            self.definitions[node] = smaller
            return (smaller,)
        if isinstance(node, At) and (scan := self._scan_to_last(node)) is not None:
            self._last[node] = scan
            return (scan.decay, scan.source)
        if isinstance(node, At) and (gate := self._product_to_last(node)) is not None:
            self._left[node] = gate
            return (gate,)
        if isinstance(node, Reduce) and node.op == "sum":
            if node not in self._factors:
                self._factors[node] = self._unshifted(node, self.factors_of(node.arg))
            return self._factors[node]
        return children(node)

    def factors_of(self, root: Expr) -> tuple[Expr, ...]:
        """The factors of a product of products, looked for through signs and renames."""
        found: list[Expr] = []
        stack = [root]
        while stack:
            node = stack.pop()
            if node in self.env or find_norm(self.space, node) is not None:
                found.append(node)
            elif isinstance(node, Apply) and node.op == "mul":
                stack.extend(reversed(node.args))
            elif isinstance(node, Apply) and node.op == "neg":
                stack.extend((node.args[0], build.const(-1)))
            elif isinstance(node, Rename) and isinstance(node.arg, Apply) and node.arg.op == "mul":
                stack.extend(build.rename(arg, dict(node.pairs)) for arg in reversed(node.arg.args))
            else:
                found.append(node)
        return tuple(found)

    def _unshifted(self, node: Reduce, factors: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """`Σ a · shift(B)` is `shift(Σ shift⁻¹(a) · B)`: where B is by far the largest, the others move."""
        large = max(factors, key=lambda f: self.space.guess(f.axes))
        if not isinstance(large, Shift) or large.dtype is not DType.REAL or large.axis in node.over:
            return factors
        others = [f for f in factors if f is not large]
        if any(4 * self.space.guess(f.axes) > self.space.guess(large.axes) for f in (*others, node)):
            return factors
        self._moved[node] = (large.axis, large.by)
        return (*others, large.arg)

    # --- one case a kind of node ----------------------------------------------------------------------------

    def _emit(self, node: Expr) -> Number:
        if node in self.definitions:
            return self.env[self.definitions[node]]
        if node in self._norms:
            norm = self._norms[node]
            weight, bias = (None if x is None else self.real(x) for x in (norm.weight, norm.bias))
            return normalize(self.space, norm, self.real(norm.x), weight, bias)
        if node in self._last:
            scan = self._last[node]
            return last_of_scan(self.space, self.real(scan.decay), self.real(scan.source), scan.axis)
        if node in self._left:
            left = product_to_last(self.space, self.real(self._left[node]), TOKEN)
            return self.space.rename(left, {TOKEN: OTHER})
        match node:
            case Const():
                return self.space.number(node.value)
            case Size() | Index():
                return self._axis(node)
            case Apply():
                return self._apply(node)
            case Reduce() | Softmax() | Scan() | Solve():
                return self._along(node)
            case Leaf():
                raise KeyError(f"no value for the leaf {node.kind.value} {node.name}")
            case _:
                return self._move(node)

    def _axis(self, node: Size | Index) -> Tensor:
        if isinstance(node, Index):
            return self.space.cast(self.space.positions(node.axis), DType.REAL)
        if node.axis in self.growing:
            seen = self.space.cast(self.growing[node.axis].now, DType.REAL)
            return self.space.reduce("sum", seen, [node.axis])
        size = self.space.fixed(node.axis)
        assert size is not None
        return self.space.number(size)

    def _scaled_sum(self, node: Apply) -> Reduce | None:
        """A number times a sum of products as the sum with one more factor: scores are scaled by their query."""
        if node.op != "mul" or node.dtype is DType.COMPLEX:
            return None
        for scale, total in (node.args, node.args[::-1]):
            if isinstance(scale, Const) and isinstance(total, Reduce) and total.op == "sum":
                return cast(Reduce, build.reduce("sum", total.over, build.mul(scale, total.arg)))
        return None

    def _smaller_first(self, node: Apply) -> Expr | None:
        """`(x · y) · z` as `x · (y · z)` where that is smaller in between: a rate times a vector before the matrix."""
        if node.op != "mul" or node.dtype is not DType.REAL:
            return None
        for whole, z in (node.args, node.args[::-1]):
            if not isinstance(whole, Apply) or whole.op != "mul" or whole in self.env:
                continue
            for x, y in (whole.args, whole.args[::-1]):
                if set(z.axes) <= set(y.axes) < set(whole.axes) and not isinstance(x, Const):
                    return build.mul(x, build.mul(y, z))
        return None

    def _apply(self, node: Apply) -> Number:
        args = [self.env[arg] for arg in node.args]
        if node.dtype is DType.COMPLEX or any(isinstance(arg, Pair) for arg in args):
            if node.op not in COMPLEX_PRIMITIVES:
                raise Unsupported(f"apply `{node.op}` to complex numbers")
            return COMPLEX_PRIMITIVES[node.op](self.space, *args)
        if node.op in ("real", "imag", "conj"):
            return COMPLEX_PRIMITIVES[node.op](self.space, *args)
        if node.op == "exp" and any(axis in self.growing for axis in node.axes):
            args = [self._overflowing(node, cast(Tensor, args[0]))]
        kind = DType.BOOL if node.op in LOGICAL else DType.REAL
        kinds = [DType.BOOL, kind, kind] if node.op == "where" else [kind] * len(args)
        plain = [self.space.cast(cast(Tensor, arg), k) for arg, k in zip(args, kinds, strict=True)]
        return PRIMITIVES[node.op](self.space, *plain)

    def _overflowing(self, node: Apply, value: Tensor) -> Tensor:
        """Entries that no token sees are hidden before they overflow: infinity times 0 would be no number."""
        for axis in node.axes:
            if axis in self.growing:
                value = self._hidden(value, self._mask(node, axis), float("-inf"))
        return value

    def _along(self, node: Reduce | Softmax | Scan | Solve) -> Number:
        match node:
            case Reduce():
                return self._reduce(node)
            case Softmax():
                return self._softmax(node)
            case Scan():
                return self._scan(node)
            case Solve():
                matrix, rhs = self.env[node.matrix], self.env[node.rhs]
                return solve_lower(self.space, matrix, rhs, node.rows, node.columns, node.upper)

    def _scan_to_last(self, node: At) -> Scan | None:
        """The scan of which a node takes the last entry alone, if it is one over gates."""
        scan = node.arg
        if not isinstance(scan, Scan) or scan in self.env or scan.reverse or scan.columns is not None:
            return None
        real = scan.decay.dtype is DType.REAL and scan.source.dtype is DType.REAL
        last = node.axis == scan.axis and self.space.fixed(scan.axis) == node.index + 1
        kernel = _identity_over(scan) is not None or scan.source is _first_of(scan)
        return scan if real and last and scan.axis in scan.decay.axes and not kernel else None

    def _product_to_last(self, node: At) -> Expr | None:
        """The gate of which a node is the product over all tokens after another one, if it is that of one."""
        real = node.dtype is DType.REAL
        last = node.axis == TOKEN and self.space.fixed(TOKEN) == node.index + 1
        return product_between(node.arg) if real and last and node.arg not in self.env else None

    def _scan(self, node: Scan) -> Number:
        space, axis, source = self.space, node.axis, self.env[node.source]
        if node.columns is None and node.decay is build.ONE:
            return running_sum(space, spread(space, source, axis), axis, node.reverse)
        decay = self.env[node.decay]
        if node.columns is None and not node.reverse and isinstance(decay, Tensor) and axis in decay.axes:
            if (other := _identity_over(node)) is not None:
                return product_kernel(space, decay, axis, other)
            if node.source is _first_of(node):
                return running_product(space, decay, axis)
            source = spread(space, source, axis)
            small = MUCH * space.guess(decay.axes) <= space.guess({*decay.axes, *source.axes})
            if isinstance(source, Tensor) and small and (space.fixed(axis) or 0) >= MUCH:
                return scan_by_kernel(space, decay, source, axis)
        return linear_scan(space, decay, source, axis, node.reverse, node.columns)

    def _mask(self, node: Expr, axis: str) -> Tensor:
        """Which entries of a growing axis count for a reduction of `node`."""
        past = any(leaf.kind is LeafKind.STORE and axis in leaf.axes for leaf in leaves([node]))
        return self.growing[axis].before if past else self.growing[axis].now

    def _reduce(self, node: Reduce) -> Number:
        if node.op == "sum":
            factors = [
                both(self.env[f], lambda t: self.space.cast(t, DType.REAL)) for f in self._factors[node]
            ]
            for axis in node.over:
                if axis in self.growing and not any(_vanishes(f, axis) for f in self._factors[node]):
                    factors.append(self.space.cast(self._mask(node.arg, axis), DType.REAL))
            if node in self._moved:
                return self._sum_moved(node, factors)
            first = factors[0]
            squared = len(factors) == 2 and first is factors[1]
            if squared and isinstance(first, Tensor) and set(node.over) <= set(first.axes):
                return self.space.reduce("sumsq", first, node.over)
            return contract(self.space, self._complete(node, factors), node.over)
        value = self.env[node.arg]
        assert isinstance(value, Tensor)
        for axis in node.over:
            if axis in self.growing:
                value = self._hidden(value, self._mask(node.arg, axis), float("-inf"))
        return self.space.reduce("max", value, node.over)

    def _sum_moved(self, node: Reduce, factors: list[Number]) -> Number:
        axis, by = self._moved[node]
        space = self.space
        large = spread(space, factors[-1], axis)
        others = [both(f, lambda t: space.shift(t, axis, -by) if axis in t.axes else t) for f in factors[:-1]]
        total = contract(space, self._complete(node, [*others, large]), node.over)
        return both(total, lambda t: space.shift(t, axis, by))

    def _complete(self, node: Reduce, factors: list[Number]) -> list[Number]:
        """Add a factor of ones for a summed axis that no factor varies along (a number may lack axes of its node)."""
        present = {axis for f in factors for axis in f.axes}
        lacking = tuple(axis for axis in node.over if axis not in present)
        return [*factors, self.space.filled(1.0, lacking)] if lacking else factors

    def _hidden(self, value: Tensor, mask: Tensor, fill: float) -> Tensor:
        return self.space.elementwise("Where", mask, value, self.space.number(fill), kind=DType.REAL)

    def _softmax(self, node: Softmax) -> Tensor:
        value = self.env[node.arg]
        assert isinstance(value, Tensor)
        masks = [self._mask(node.arg, axis) for axis in node.over if axis in self.growing]
        for mask in masks:
            value = self._hidden(value, mask, LOWEST)
        for axis in node.over:
            value = value if axis in value.axes else self.space.expand(value, (*value.axes, axis))
        rest = tuple(a for a in value.axes if a not in node.over)
        value = self.space.transpose(value, (*rest, *node.over))
        if len(node.over) > 1:
            groups = [*((a,) for a in rest), node.over]
            merged = self.space.regroup(value, groups, (*rest, "%all"))
            done = self.space.builder.op("Softmax", merged.value, axis=len(rest))
            result = self.space.ungroup(Tensor(done, (*rest, "")), groups)
        else:
            result = Tensor(self.space.builder.op("Softmax", value.value, axis=len(rest)), value.axes)
        past = any(leaf.kind is LeafKind.STORE for leaf in leaves([node.arg]))
        for mask in masks if past else []:  # where nothing is visible, the result is 0
            result = self._hidden(result, mask, 0.0)
        return result

    def _move(self, node: Expr) -> Number:
        space = self.space
        match node:
            case Rename():
                mapping = dict(node.pairs)
                return both(self.env[node.arg], lambda t: space.rename(t, mapping))
            case Slice():
                return both(self.env[node.arg], lambda t: self._cut(node, t))
            case Concat():
                return self._concat(node)
            case At():
                return both(
                    self.env[node.arg],
                    lambda t: space.entry(t, node.axis, node.index) if node.axis in t.axes else t,
                )
            case Shift():
                moved = spread(space, self.env[node.arg], node.axis)
                return both(moved, lambda t: space.shift(t, node.axis, node.by))
            case Take() | Put() | Rank():
                return self._look_up(node)
            case Gather():
                return self._gather(node)
            case Dropout():
                return self.env[node.arg]
            case _:
                raise Unsupported(f"emit {type(node).__name__} here")

    def _cut(self, node: Slice, tensor: Tensor) -> Tensor:
        if node.axis not in tensor.axes:
            return tensor
        size = self.space.fixed(node.new)
        assert size is not None
        return self.space.cut(tensor, node.axis, node.start, node.start + size, node.new)

    def _concat(self, node: Concat) -> Number:
        space, end = self.space, 0
        pieces: list[list[Tensor]] = []
        for part, start, arg in zip(node.parts, node.starts, node.args, strict=True):
            if start != end:
                raise Unsupported("concatenate with gaps")
            size = space.fixed(part)
            assert size is not None
            end += size
            value = spread(space, self.env[arg], part)
            whole = value if isinstance(value, Pair) else Pair(value, value)
            pieces.append([space.rename(t, {part: node.axis}) for t in (whole.re, whole.im)])
        re = space.concat([p[0] for p in pieces], node.axis)
        if node.dtype is not DType.COMPLEX:
            return re
        return Pair(re, space.concat([p[1] for p in pieces], node.axis))

    def _look_up(self, node: Take | Put | Rank) -> Number:
        space, x = self.space, self.env[node.arg]
        if isinstance(node, Rank):
            assert isinstance(x, Tensor)
            if node.axis in self.growing:
                x = self._hidden(x, self._mask(node.arg, node.axis), float("-inf"))
            return lookup.rank(space, node, x)
        index = self.env[node.index]
        assert isinstance(index, Tensor)
        if isinstance(node, Take):
            return both(x, lambda t: lookup.take(space, node, t, index))
        return both(x, lambda t: lookup.put(space, node, t, index))

    def _gather(self, node: Gather) -> Tensor:
        table, index = self.env[node.table], self.env[node.index]
        assert isinstance(table, Tensor)
        assert isinstance(index, Tensor)
        place = table.axes.index(node.axis)
        value = self.space.builder.op(
            "Gather", table.value, self.space.cast(index, DType.INT).value, axis=place
        )
        return Tensor(value, (*table.axes[:place], *index.axes, *table.axes[place + 1 :]))


def _first_of(scan: Scan) -> Expr:
    """The source of a scan that is a running product: the first gate, and nothing after it."""
    return build.where(build.apply("eq", Index(scan.axis), build.ZERO), scan.decay, build.ZERO)


def _identity_over(node: Scan) -> str | None:
    """The other axis, if the source of a scan is 1 where both are equal and 0 elsewhere."""
    for other in node.source.axes:
        same = build.apply("eq", Index(node.axis), Index(other))
        if other not in node.decay.axes and node.source is build.where(same, build.ONE, build.ZERO):
            return other
    return None


def _vanishes(factor: Expr, axis: str) -> bool:
    """Whether a factor is known to be 0 at invisible entries of an axis."""
    return isinstance(factor, Softmax) and axis in factor.over


__all__ = ["Growing", "Lowering", "Unsupported", "depends_on"]
