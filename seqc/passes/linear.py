"""Reading updates as affine maps of the states.

`linear_form` writes an expression as a sum of terms `Σ_bound coefficient · state`, or says which node is not affine.
`read_affine` does so for a group of states that depend on one another and sorts the terms by what their axes say:

- *diagonal*: the state appears with its own axes, times a coefficient (a gate, a decay);
- *rank one*: some axes of the state are summed away and the result is spread again: `write · Σ_keys (read · state)`;
- *source*: no state at all.

Nothing here knows which axis is a "key": the axes that a rank-one term sums over are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, Axes, Const, Expr, Leaf, Reduce, Rename, Size
from seqc.ir.recurrence import State
from seqc.ir.traverse import children, depends_on, walk
from seqc.passes.canonical import canonical, digest, factors, fresh, products, renamed, terms


class NotAffine(Exception):
    """Why an update is not affine with the structure asked for; `node` is the expression to blame."""

    def __init__(self, node: Expr, why: str) -> None:
        super().__init__(why)
        self.node, self.why = node, why


@dataclass(frozen=True, slots=True)
class Term:
    """`Σ_bound coefficient · leaf`, where the leaf's axes are called `axes` (in the leaf's own order).

    A term without a leaf is a source.
    """

    coefficient: Expr
    leaf: Leaf | None
    axes: Axes = ()
    bound: Axes = ()


def linear_form(root: Expr, targets: Iterable[Leaf]) -> list[Term]:
    """The terms of `root`, read as an affine function of the leaves `targets`; raises `NotAffine`."""
    targets = set(targets)
    dependent = depends_on([root], targets)
    done: dict[Expr, list[Term]] = {}
    for node in walk([root]):
        if node in dependent:
            done[node] = _terms(node, dependent, done, targets)
    return done[root] if root in dependent else [Term(root, None)]


def _terms(  # noqa: C901  # one case a node kind
    node: Expr, dependent: set[Expr], done: dict[Expr, list[Term]], targets: set[Leaf]
) -> list[Term]:
    if isinstance(node, Leaf) and node in targets:
        return [Term(ONE, node, node.axes)]
    forms = [done[child] if child in dependent else [Term(child, None)] for child in children(node)]
    match node:
        case Apply(op="add"):
            return _merge(forms[0] + forms[1])
        case Apply(op="sub"):
            return _merge(forms[0] + _times(forms[1], Const(-1)))
        case Apply(op="neg"):
            return _times(forms[0], Const(-1))
        case Apply(op="mul") if node.args[1] not in dependent:
            return _times(forms[0], node.args[1])
        case Apply(op="mul") if node.args[0] not in dependent:
            return _times(forms[1], node.args[0])
        case Apply(op="div") if node.args[1] not in dependent:
            return [_replace(t, build.div(t.coefficient, node.args[1])) for t in forms[0]]
        case Apply(op="where") if node.args[0] not in dependent:
            kept = _times(forms[1], build.where(node.args[0], ONE, ZERO))
            return _merge(kept + _times(forms[2], build.where(node.args[0], ZERO, ONE)))
        case Reduce(op="sum"):
            return _merge([_sum(term, node.over) for term in forms[0]])
        case Rename():
            return [_rename(term, dict(node.pairs)) for term in forms[0]]
        case _:
            raise NotAffine(node, "is not affine in")


def _replace(term: Term, coefficient: Expr) -> Term:
    return Term(coefficient, term.leaf, term.axes, term.bound)


def _times(terms: list[Term], factor: Expr) -> list[Term]:
    return [_replace(term, build.mul(term.coefficient, factor)) for term in terms]


def _rename(term: Term, mapping: dict[str, str]) -> Term:
    return Term(
        renamed(term.coefficient, mapping), term.leaf, tuple(mapping.get(a, a) for a in term.axes), term.bound
    )


def _sum(term: Term, over: Axes) -> Term:
    coefficient, axes, bound = term.coefficient, term.axes, list(term.bound)
    if term.leaf is None:
        return Term(build.sum_over(over, coefficient), None)
    for axis in over:
        if axis not in coefficient.axes and axis not in axes:
            coefficient = build.mul(coefficient, Size(axis))
            continue
        name = fresh(axis, {*coefficient.axes, *axes, *bound})
        coefficient = renamed(coefficient, {axis: name})
        axes = tuple(name if a == axis else a for a in axes)
        if name in axes:
            bound.append(name)
        else:
            coefficient = build.sum_over([name], coefficient)
    return Term(coefficient, term.leaf, axes, tuple(bound))


def _merge(terms: list[Term]) -> list[Term]:
    """Terms that read the same state in the same way become one, the sources too."""
    merged: dict[tuple[Leaf | None, Axes, Axes], Expr] = {}
    for term in terms:
        key = (term.leaf, term.axes, term.bound)
        merged[key] = build.add(merged[key], term.coefficient) if key in merged else term.coefficient
    return [Term(c, *key) for key, c in merged.items() if c is not ZERO]


@dataclass(frozen=True, slots=True)
class RankOne:
    """`write · Σ_keys (read · source)`, a term of the update of `target`.

    `keys` and the axes of `read` are named as the state's own; `write` has no knowledge of the summed axes.
    """

    target: State
    source: State
    keys: Axes
    write: Expr
    read: Expr


@dataclass(slots=True)
class Affine:
    """The update of a group of states as an affine map; `diagonal[target, source]` by names."""

    states: tuple[State, ...]
    diagonal: dict[tuple[str, str], Expr] = field(default_factory=dict[tuple[str, str], Expr])
    rank_ones: list[RankOne] = field(default_factory=list[RankOne])
    sources: dict[str, Expr] = field(default_factory=dict[str, Expr])

    def decay(self, state: State) -> Expr:
        """What a state's own entries are multiplied by."""
        return self.diagonal.get((state.name, state.name), ZERO)


def read_affine(states: Sequence[State], updates: Sequence[Expr]) -> Affine:
    """The affine form of updates that refer to the states before the token only; raises `NotAffine`."""
    result = Affine(tuple(states))
    by_leaf = {state.leaf: state for state in states}
    dense: dict[tuple[str, str, Axes], list[tuple[Expr, Expr]]] = {}
    for target, update in zip(states, updates, strict=True):
        for term in linear_form(update, by_leaf):
            if term.leaf is None:
                result.sources[target.name] = term.coefficient
                continue
            source = by_leaf[term.leaf]
            if not term.bound:
                _add_diagonal(result, target, source, term, update)
                continue
            keys = _keys(term, source, update)
            pairs = dense.setdefault((target.name, source.name, keys), [])
            pairs.extend(_separate(term, source, keys, update))
    named = {state.name: state for state in states}
    for (target_name, source_name, keys), pairs in dense.items():
        for write, read in _group(pairs):
            result.rank_ones.append(RankOne(named[target_name], named[source_name], keys, write, read))
    return result


def _add_diagonal(result: Affine, target: State, source: State, term: Term, update: Expr) -> None:
    if term.axes != source.axes:
        raise NotAffine(update, "reads a state along other axes than its own, in")
    if set(source.axes) != set(target.axes):
        raise NotAffine(update, "mixes states of different axes, in")
    key = (target.name, source.name)
    total = build.add(result.diagonal.get(key, ZERO), term.coefficient)
    plain = canonical(total)
    if plain is ZERO:
        result.diagonal.pop(key, None)
    else:
        result.diagonal[key] = plain if isinstance(plain, Const) else total


def _keys(term: Term, source: State, update: Expr) -> Axes:
    keys: list[str] = []
    for name, own in zip(term.axes, source.axes, strict=True):
        if name in term.bound:
            keys.append(own)
        elif name != own:
            raise NotAffine(update, "reads a state along other axes than its own, in")
    return tuple(keys)


def _separate(term: Term, source: State, keys: Axes, update: Expr) -> list[tuple[Expr, Expr]]:
    """The coefficient as a sum of products `write · read`, where only `read` has the summed axes."""
    back = {name: own for name, own in zip(term.axes, source.axes, strict=True) if name in term.bound}
    pairs: list[tuple[Expr, Expr]] = []
    for product in _split(term.coefficient, lambda f: not (_has(f, term.bound) and _has(f, keys))):
        if any(_has(f, term.bound) and _has(f, keys) for f in product):
            raise NotAffine(update, "multiplies the state by a whole matrix, in")
        read = build.product(f for f in product if _has(f, term.bound))
        pairs.append((build.product(f for f in product if not _has(f, term.bound)), renamed(read, back)))
    return pairs


def _has(expr: Expr, axes: Iterable[str]) -> bool:
    return bool(set(expr.axes) & set(axes))


def _split(expr: Expr, pure: Callable[[Expr], bool]) -> list[list[Expr]]:
    """A sum of products of `pure` factors: as it is written where that is one, else multiplied out."""
    found: list[list[Expr]] = []
    for term in terms(expr):
        written = factors(term)
        found.extend([written] if all(pure(f) for f in written) else products(term))
    return found


def _gather(pairs: Iterable[tuple[Expr, Expr]]) -> list[tuple[Expr, Expr]]:
    """Pairs (x, y) with equal y as one, the x added up."""
    pairs = list(pairs)
    if len(pairs) == 1:
        return pairs
    found: dict[Expr, tuple[Expr, Expr]] = {}
    for x, y in pairs:
        key = canonical(y)
        before = found.get(key)
        found[key] = (x, y) if before is None else (build.add(before[0], x), before[1])
    return [(x, y) for x, y in found.values() if canonical(x) is not ZERO]


def _group(pairs: list[tuple[Expr, Expr]]) -> list[tuple[Expr, Expr]]:
    """As few products as gathering equal reads, then equal writes, gives."""
    by_read = _gather(pairs)
    by_write = _gather((read, write) for write, read in by_read)
    ordered = [(write, read) for read, write in by_write]
    return sorted(ordered, key=lambda pair: (digest(canonical(pair[1])), digest(canonical(pair[0]))))


def separate_source(source: Expr, keys: Axes, columns: Axes) -> list[tuple[Expr, Expr]] | None:
    """A source as a sum of products (factor with no `columns`, factor with no `keys`); None if it is not one."""
    pairs: list[tuple[Expr, Expr]] = []
    for product in _split(source, lambda f: not (_has(f, keys) and _has(f, columns))):
        if any(_has(f, keys) and _has(f, columns) for f in product):
            return None
        left = build.product(f for f in product if not _has(f, columns))
        pairs.append((left, build.product(f for f in product if _has(f, columns))))
    by_value = _gather(pairs)
    return [(key, value) for value, key in _gather((value, key) for key, value in by_value)]


def scaled(key: Expr, keys: Axes) -> tuple[Expr, Expr]:
    """A key side as `scale · core` with no key axis in the scale, where it is such a product (else scale 1)."""
    pairs = _gather(
        (
            build.product(f for f in product if not _has(f, keys)),
            build.product(f for f in product if _has(f, keys)),
        )
        for product in map(factors, terms(key))
    )
    if len(pairs) != 1:
        return ONE, key
    return pairs[0]
