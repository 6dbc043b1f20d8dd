"""Sums of products as matrix products: which two factors first, and in which spelling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from seqc.ir.expr import Axes, Const, Expr

from .primitives import ATOM, MUL, UNARY, Code, number
from .values import Value

if TYPE_CHECKING:
    from .expressions import Scope

DYNAMIC = 1024  # what a length that is known only at run time counts for


def contract_all(scope: Scope, factors: Sequence[Expr], over: Axes, negative: bool) -> Value:
    """Σ_over of the product of `factors`."""
    numbers = [f.value for f in factors if isinstance(f, Const)]
    parts = [scope.value(f) for f in factors if not isinstance(f, Const)]
    scale = -1.0 if negative else 1.0
    for value in numbers:
        scale *= value
    left = set(over)
    if len(parts) == 1:
        return scaled(_summed(scope, parts[0], left), scale)
    if abs(scale) != 1.0:  # cheapest on the smallest factor
        k = min(range(len(parts)), key=lambda k: (parts[k].lead, size(scope, parts[k].axes)))
        parts[k], scale = scaled(parts[k], scale), 1.0
    while len(parts) > 1:
        i, j = _cheapest(scope, parts, left)
        a, b = parts[i], parts[j]
        rest = [p for k, p in enumerate(parts) if k not in (i, j)]
        outside = {axis for p in rest for axis in p.axes}
        done = {x for x in left if x in (*a.axes, *b.axes) and x not in outside}
        a = _summed(scope, a, {x for x in done if x not in b.axes})
        b = _summed(scope, b, {x for x in done if x not in a.axes and x in b.axes and x not in parts[i].axes})
        done = {x for x in done if x in a.axes and x in b.axes}
        result = contract_pair(scope, a, b, done)
        left -= {x for x in left if x not in result.axes and x not in outside}
        if rest and len(result.code.text) > 40:
            result = scope.assign(result, "product")
        parts = [*rest[:i], result, *rest[i:]]
    return scaled(_summed(scope, parts[0], left & set(parts[0].axes)), scale)


def scaled(value: Value, scale: float) -> Value:
    if scale == 1.0:
        return value
    if scale == -1.0:
        return replace(value, code=Code(f"-{value.code.at(UNARY)}", UNARY))
    return replace(value, code=Code(f"{number(scale).text} * {value.code.at(MUL + 1)}", MUL))


def _summed(scope: Scope, value: Value, over: Iterable[str]) -> Value:
    over = {a for a in over if a in value.axes}
    return scope.reduced(value, "sum", over) if over else value


def size(scope: Scope, axes: Iterable[str]) -> int:
    total = 1
    for axis in axes:
        total *= scope.sizes.get(axis, 0) or scope.sizes.get(axis.split("~")[0], 0) or DYNAMIC
    return total


def _cheapest(scope: Scope, parts: Sequence[Value], left: set[str]) -> tuple[int, int]:
    """The pair whose product costs least, products that sum something away before others of the same cost."""
    best: tuple[tuple[int, ...], tuple[int, int]] | None = None
    for i in range(len(parts)):
        for j in range(i + 1, len(parts)):
            union = {*parts[i].axes, *parts[j].axes}
            elsewhere = {a for k, p in enumerate(parts) if k not in (i, j) for a in p.axes}
            kept = [a for a in union if a not in left or a in elsewhere]
            lead = DYNAMIC if parts[i].lead or parts[j].lead else 1
            smaller = min(parts[i].axes, parts[j].axes, key=len)
            # Among equals: no outer products, and what runs along the later axes first, so that a matrix is left.
            grows = len(union) > max(len(parts[i].axes), len(parts[j].axes))
            early = -max((scope.order.get(a, 0) for a in smaller[:1]), default=0)
            cost = (size(scope, union) * lead, size(scope, kept) * lead, int(grows), early, i, j)
            if best is None or cost < best[0]:
                best = (cost, (i, j))
    assert best is not None
    return best[1]


def contract_pair(scope: Scope, a: Value, b: Value, over: set[str]) -> Value:
    """Σ_over a · b, as a product, a matrix product, or an einsum."""
    axes = scope.sorted({*a.axes, *b.axes})
    out = tuple(x for x in axes if x not in over)
    lead = a.lead or b.lead
    dtype = max(a.dtype, b.dtype, key=lambda d: d.value == "complex")
    if not over or (set(a.axes) == set(b.axes)):
        text = f"{scope.aligned(a, axes, lead).at(MUL)} * {scope.aligned(b, axes, lead).at(MUL + 1)}"
        product = Value(Code(text, MUL), axes, lead, dtype)
        return _summed(scope, product, over)
    shared = set(a.axes) & set(b.axes)
    stack = tuple(x for x in out if x in shared)
    left = tuple(x for x in out if x not in b.axes)
    right = tuple(x for x in out if x not in a.axes)
    mixed = a.dtype is not b.dtype
    plain = (
        len(over) == 1
        and len(left) <= 1
        and len(right) <= 1
        and out == (*stack, *(x for x in out if x not in shared))
        and not (stack and _applies_weights(a, b, left, right))
    )
    if plain and not mixed:
        return _matmul(scope, a, b, next(iter(over)), stack, left, right, out, lead)
    return _einsum(scope, a, b, over, out, lead, mixed)


def _applies_weights(a: Value, b: Value, left: Axes, right: Axes) -> bool:
    """Whether a stack of weights is applied to vectors: a matrix product would copy the weights for every token."""
    matrix, vector = (a, b) if left else (b, a)
    return not (left and right) and vector.lead and not matrix.lead


def _matmul(
    scope: Scope, a: Value, b: Value, key: str, stack: Axes, left: Axes, right: Axes, out: Axes, lead: bool
) -> Value:
    if not left or (right and out.index(right[0]) < out.index(left[0])):
        a, b, left, right = b, a, right, left
    dtype = a.dtype
    matrix = scope.arranged(a, (*stack, *left, key))
    if right:
        other = scope.arranged(b, (*stack, key, *right))
        return Value(_at(scope, matrix, other), out, lead, dtype)
    if not stack and not matrix.lead:  # a weight, applied to vectors
        vectors = scope.arranged(b, (key,))
        if a.axes == (*left, key):
            return Value(Code(f"linear({vectors.code.text}, {a.code.text})"), out, lead, dtype)
        weight = scope.arranged(a, (key, *left))
        return Value(_at(scope, vectors, weight), out, lead, dtype)
    vector = scope.arranged(b, (*stack, key))
    if len(matrix.code.text) + len(vector.code.text) > 70:
        matrix = scope.assign(matrix, "matrix")
    columns = replace(vector, code=Code(f"{vector.atom}[..., None]"))
    return Value(Code(f"{_at(scope, matrix, columns).at(ATOM)}[..., 0]"), out, lead, dtype)


def _at(scope: Scope, a: Value, b: Value) -> Code:
    if scope.mixed:
        return Code(f"mixed_matmul({a.code.text}, {b.code.text})")
    return Code(f"{a.code.at(MUL)} @ {b.code.at(MUL + 1)}", MUL)


def _einsum(scope: Scope, a: Value, b: Value, over: set[str], out: Axes, lead: bool, mixed: bool) -> Value:
    letters = _letters([*a.axes, *b.axes])

    def spell(axes: Axes, dots: bool) -> str:
        return ("..." if dots else "") + "".join(letters[x] for x in axes)

    formula = f"{spell(a.axes, a.lead)},{spell(b.axes, b.lead)}->{spell(out, lead)}"
    dtype = max(a.dtype, b.dtype, key=lambda d: d.value == "complex")
    function = "mixed_einsum" if mixed or scope.mixed else "torch.einsum"
    text = f'{function}("{formula}", {a.code.text}, {b.code.text})'
    return Value(Code(text, ATOM), out, lead, dtype)


def _letters(axes: Iterable[str]) -> dict[str, str]:
    letters: dict[str, str] = {}
    for axis in axes:
        if axis not in letters:
            wanted = [c for c in axis if c.isascii() and c.isalpha()]
            pool = [*wanted, *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
            letters[axis] = next(c for c in pool if c not in letters.values())
    return letters
