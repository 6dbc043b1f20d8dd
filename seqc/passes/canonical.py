"""Canonical polynomials: what makes two spellings of one expression the same.

An expression is read as a polynomial whose atoms are everything that is not a sum, a product or a quotient by one
product.  Sums over axes are distributed, stripped of the factors that do not have the axis, and merged when nested.
Expanding, factoring, inlining a `let` and reordering therefore never change what the passes after this one see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from functools import reduce as fold_left

from seqc.ir import build
from seqc.ir.expr import Apply, Const, Expr, Index, Reduce, Rename, Size, Softmax, own_fields
from seqc.ir.traverse import children, walk, with_children
from seqc.ir.work import spend

Monomial = tuple[tuple[Expr, int], ...]
Poly = dict[Monomial, float]

MAX_MONOMIALS = 256
MAX_REMEMBERED = 100_000

_digests: dict[Expr, str] = {}


def digest(root: Expr) -> str:
    """A short text that depends on the structure of an expression alone, to put things in a fixed order."""
    found = _digests.get(root)
    if found is None:
        if len(_digests) > MAX_REMEMBERED:
            _digests.clear()
        for node in walk([root], _digests):
            if node not in _digests:
                facts = [type(node).__name__]
                for name in own_fields(type(node)):
                    value = getattr(node, name)
                    facts.append(_digests[value] if isinstance(value, Expr) else _describe(value))
                _digests[node] = hashlib.blake2s("|".join(facts).encode(), digest_size=12).hexdigest()
        found = _digests[root]
    return found


def _describe(value: object) -> str:
    if isinstance(value, tuple):
        items: tuple[object, ...] = value  # pyright: ignore[reportUnknownVariableType]  # fields are typed tuples
        return "(" + ",".join(_digests[v] if isinstance(v, Expr) else _describe(v) for v in items) + ")"
    return repr(value)


def renamed(expr: Expr, mapping: Mapping[str, str]) -> Expr:
    """`expr` with axes renamed all the way down to its leaves, where that is possible."""
    return _renamed(expr, mapping, {})


_Done = dict[tuple[Expr, tuple[tuple[str, str], ...]], Expr]


def _renamed(expr: Expr, mapping: Mapping[str, str], done: _Done) -> Expr:
    """What is shared is renamed once: solvers written out are graphs that as trees would have no end."""
    mapping = {old: new for old, new in mapping.items() if old != new and old in expr.axes}
    if not mapping:
        return expr
    key = (expr, tuple(mapping.items()))
    if key not in done:
        done[key] = _rename_node(expr, mapping, done)
    return done[key]


def _rename_node(expr: Expr, mapping: Mapping[str, str], done: _Done) -> Expr:
    match expr:
        case Index():
            return Index(mapping[expr.axis])
        case Apply():
            return build.apply(expr.op, *(_renamed(arg, mapping, done) for arg in expr.args))
        case Reduce():
            taken = set(mapping.values())
            arg, over = expr.arg, list(expr.over)
            for i, axis in enumerate(over):
                if axis in taken:
                    over[i] = fresh(axis, {*arg.axes, *taken})
                    arg = _renamed(arg, {axis: over[i]}, done)
            return build.reduce(expr.op, over, _renamed(arg, mapping, done))
        case Softmax():
            over = [mapping.get(axis, axis) for axis in expr.over]
            return Softmax(tuple(over), _renamed(expr.arg, mapping, done))
        case _:
            return build.rename(expr, mapping)


def fresh(axis: str, taken: Iterable[str]) -> str:
    """A name like `axis` that is not taken."""
    base, taken = axis.split("~")[0], set(taken)
    count = 1
    while f"{base}~{count}" in taken:
        count += 1
    return f"{base}~{count}"


_polys: dict[Expr, Poly] = {}


def poly(root: Expr) -> Poly:
    """The polynomial of an expression; what was read lately is remembered."""
    if root not in _polys:
        if len(_polys) > MAX_REMEMBERED:
            _polys.clear()
            canonical.cache_clear()
        for node in walk([root], _polys):
            _polys[node] = _poly(node, _polys)
    return _polys[root]


@cache
def canonical(expr: Expr) -> Expr:
    """The expression in canonical form."""
    return rebuild(poly(expr))


def rebuild(terms: Poly) -> Expr:
    """The expression that a polynomial stands for, in a fixed order."""
    return build.total(
        _rebuild_monomial(m, c) for m, c in sorted(terms.items(), key=lambda item: _order(item[0]))
    )


def _rebuild_monomial(monomial: Monomial, coefficient: float) -> Expr:
    above = [_power(atom, power) for atom, power in monomial if power > 0]
    below = [_power(atom, -power) for atom, power in monomial if power < 0]
    sign = coefficient < 0
    result = build.mul(Const(abs(coefficient)), build.product(above))
    if below:
        result = build.div(result, build.product(below))
    return build.neg(result) if sign else result


def _power(atom: Expr, power: int) -> Expr:
    return fold_left(build.mul, [atom] * power) if power <= 3 else build.apply("pow", atom, Const(power))


def _order(monomial: Monomial) -> tuple[tuple[str, int], ...]:
    return tuple((digest(atom), power) for atom, power in monomial)


def _atom(expr: Expr, power: int = 1) -> Poly:
    return {((expr, power),): 1.0}


def _poly(node: Expr, done: dict[Expr, Poly]) -> Poly:
    match node:
        case Const():
            return {(): node.value} if node.value else {}
        case Apply(op="add"):
            return add(done[node.args[0]], done[node.args[1]])
        case Apply(op="sub"):
            return add(done[node.args[0]], scale(done[node.args[1]], -1.0))
        case Apply(op="neg"):
            return scale(done[node.args[0]], -1.0)
        case Apply(op="mul"):
            return multiply(done[node.args[0]], done[node.args[1]])
        case Apply(op="div"):
            return multiply(done[node.args[0]], _inverse(done[node.args[1]]))
        case Apply(op="pow", args=(_, Const(value=value))) if value in (2.0, 3.0):
            base = done[node.args[0]]
            return fold_left(multiply, [base] * int(value))
        case Reduce(op="sum"):
            return _sum(done[node.arg], node.over)
        case Rename():
            return _rename(node, done[node.arg])
        case _:
            return _atom(with_children(node, tuple(rebuild(done[child]) for child in children(node))))


def add(x: Poly, y: Poly) -> Poly:
    result = dict(x)
    for monomial, c in y.items():
        _accumulate(result, monomial, c)
    return result


def _accumulate(result: Poly, monomial: Monomial, c: float) -> None:
    value = result.get(monomial, 0.0) + c
    if value:
        result[monomial] = value
    else:
        result.pop(monomial, None)


def scale(x: Poly, factor: float) -> Poly:
    return {monomial: c * factor for monomial, c in x.items()}


def multiply(x: Poly, y: Poly) -> Poly:
    if len(x) * len(y) > MAX_MONOMIALS:
        x, y = (_atom(rebuild(p)) if len(p) > 1 else p for p in (x, y))
    result: Poly = {}
    for a, ca in x.items():
        for b, cb in y.items():
            spend(len(a) + len(b))
            _accumulate(result, join(a, b), ca * cb)
    return result


def join(a: Monomial, b: Monomial) -> Monomial:
    """The product of two monomials."""
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(((m, p) for m, p in powers.items() if p), key=lambda item: digest(item[0])))


def _inverse(x: Poly) -> Poly:
    if len(x) == 1:
        ((monomial, c),) = x.items()
        return {tuple((atom, -power) for atom, power in monomial): 1.0 / c}
    return _atom(rebuild(x), -1)


def _rename(node: Rename, inner: Poly) -> Poly:
    mapping = dict(node.pairs)
    result: Poly = {}
    for monomial, c in inner.items():
        term: Poly = {(): c}
        for atom, power in monomial:
            new = renamed(atom, mapping)
            term = multiply(term, {((new, power),): 1.0})
        result = add(result, term)
    return result


def _sum(inner: Poly, over: tuple[str, ...]) -> Poly:
    result: Poly = {}
    for monomial, c in inner.items():
        result = add(result, scale(_sum_monomial(monomial, over), c))
    return result


def _sum_monomial(monomial: Monomial, over: tuple[str, ...]) -> Poly:
    """Σ over one product: nested sums are merged, and factors that share no summed axis are summed apart."""
    bound = list(over)
    factors: list[tuple[Expr, int]] = []
    for atom, power in monomial:
        if power == 1 and isinstance(atom, Reduce) and atom.op == "sum" and set(atom.axes) & set(over):
            taken = {*bound, *(a for other, _ in monomial for a in other.axes), *atom.arg.axes}
            mapping = {a: fresh(a, taken) if a in bound or _used(a, monomial) else a for a in atom.over}
            bound.extend(mapping.values())
            ((inner, _),) = poly(renamed(atom.arg, mapping)).items()
            factors.extend(inner)
        else:
            factors.append((atom, power))
    outside = [f for f in factors if not set(f[0].axes) & set(bound)]
    result: Poly = {(): 1.0}
    for atom, power in outside:
        result = multiply(result, {((atom, power),): 1.0})
    inside = [f for f in factors if set(f[0].axes) & set(bound)]
    for axis in bound:
        if not any(axis in atom.axes for atom, _ in inside):
            result = multiply(result, _atom(Size(axis)))
    for group, axes in _components(inside, bound):
        body = rebuild({join(tuple(group), ()): 1.0})
        result = multiply(result, _atom(_close(body, axes)))
    return result


def _used(axis: str, monomial: Monomial) -> bool:
    return any(axis in atom.axes for atom, _ in monomial)


def _close(body: Expr, axes: list[str]) -> Expr:
    """Σ with the bound axes named as plainly as possible."""
    for axis in list(axes):
        base = axis.split("~")[0]
        if base != axis and base not in body.axes:
            body = renamed(body, {axis: base})
            axes = [base if a == axis else a for a in axes]
    return Reduce("sum", tuple(sorted(axes)), body)


def _components(
    factors: list[tuple[Expr, int]], bound: list[str]
) -> list[tuple[list[tuple[Expr, int]], list[str]]]:
    """Factors that are linked by summed axes, with those axes."""
    groups: list[tuple[list[tuple[Expr, int]], set[str]]] = []
    for factor in factors:
        axes = set(factor[0].axes) & set(bound)
        linked = [g for g in groups if g[1] & axes]
        merged = ([f for g in linked for f in g[0]] + [factor], axes.union(*(g[1] for g in linked)))
        groups = [g for g in groups if g not in linked] + [merged]
    return [(group, [a for a in bound if a in axes]) for group, axes in groups]


def arguments(op: str, expr: Expr) -> list[Expr]:
    """The arguments of nested applications of one operation, as they are written."""
    found: list[Expr] = []
    stack = [expr]
    while stack:
        node = stack.pop()
        if isinstance(node, Apply) and node.op == op:
            stack += reversed(node.args)
        else:
            found.append(node)
    return found


def terms(expr: Expr) -> list[Expr]:
    """The terms of a sum as it is written, signs included; nothing is multiplied out."""
    found: list[Expr] = []
    stack = [(expr, False)]
    while stack:
        node, negative = stack.pop()
        match node:
            case Apply(op="add", args=(x, y)):
                stack += [(y, negative), (x, negative)]
            case Apply(op="sub", args=(x, y)):
                stack += [(y, not negative), (x, negative)]
            case Apply(op="neg", args=(x,)):
                stack.append((x, not negative))
            case _:
                found.append(build.neg(node) if negative else node)
    return found


def factors(expr: Expr) -> list[Expr]:
    """The factors of a product as it is written; a sum is one factor, so that `1 - f` stays exact near 0."""
    found: list[Expr] = []
    stack = [expr]
    while stack:
        node = stack.pop()
        match node:
            case Apply(op="mul", args=(x, y)):
                stack += [y, x]
            case Apply(op="div", args=(x, y)) if not isinstance(x, Const):
                stack += [build.div(build.ONE, y), x]
            case Apply(op="neg", args=(x,)):
                stack += [x, Const(-1)]
            case _:
                found.append(node)
    return found


def products(expr: Expr) -> list[list[Expr]]:
    """The same as a sum of products of atoms, everything multiplied out."""
    return [
        [Const(c), *(_power(a, p) if p > 0 else build.div(build.ONE, _power(a, -p)) for a, p in monomial)]
        for monomial, c in poly(expr).items()
    ]


def same(x: Expr, y: Expr) -> bool:
    """Whether two expressions have the same canonical form."""
    return canonical(x) is canonical(y)
