"""Reading updates as affine maps of the states.

`linear_form` writes an expression as a sum of terms `Σ_bound coefficient · state`, or says which node is not affine.
`read_affine` does so for a group of states that depend on one another and sorts the terms by what their axes say:

- *diagonal*: the state appears with its own axes, times a coefficient (a gate, a decay);
- *rank one*: some axes of the state are summed away and the result is spread again: `write · Σ_keys (read · state)`;
- *source*: no state at all.

Nothing here knows which axis is a "key": the axes that a rank-one term sums over are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, Axes, Const, Expr, Leaf, Reduce, Rename, Size, children, depends_on, walk
from seqc.ir.recurrence import State
from seqc.passes.canonical import canonical, digest, fresh, poly, rebuild, renamed


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


def _terms(node: Expr, dependent: set[Expr], done: dict[Expr, list[Term]], targets: set[Leaf]) -> list[Term]:
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
                result.sources[target.name] = canonical(term.coefficient)
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
    total = canonical(build.add(result.diagonal.get(key, ZERO), term.coefficient))
    result.diagonal[key] = total


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
    for monomial, factor in poly(term.coefficient).items():
        inner = [(a, p) for a, p in monomial if set(a.axes) & set(term.bound)]
        outer = [(a, p) for a, p in monomial if not set(a.axes) & set(term.bound)]
        for atom, _ in inner:
            if set(atom.axes) & set(keys):
                raise NotAffine(update, "multiplies the state by a whole matrix, in")
        read = renamed(rebuild({tuple(inner): 1.0}), back)
        pairs.append((rebuild({tuple(outer): factor}), canonical(read)))
    return pairs


def _group(pairs: list[tuple[Expr, Expr]]) -> list[tuple[Expr, Expr]]:
    """As few products as gathering equal reads, then equal writes, gives."""
    by_read: dict[Expr, Expr] = {}
    for write, read in pairs:
        by_read[read] = build.add(by_read[read], write) if read in by_read else write
    by_write: dict[Expr, Expr] = {}
    for read, write in by_read.items():
        write = canonical(write)
        if write is not ZERO:
            by_write[write] = build.add(by_write[write], read) if write in by_write else read
    ordered = sorted(by_write.items(), key=lambda item: (digest(item[1]), digest(item[0])))
    return [(write, canonical(read)) for write, read in ordered]


def separate_source(source: Expr, keys: Axes, columns: Axes) -> list[tuple[Expr, Expr]] | None:
    """A source as a sum of products (factor with no `columns`, factor with no `keys`); None if it is not one."""
    by_column: dict[Expr, Expr] = {}
    for monomial, factor in poly(source).items():
        if any(set(a.axes) & set(keys) and set(a.axes) & set(columns) for a, _ in monomial):
            return None
        left = [(a, p) for a, p in monomial if not set(a.axes) & set(columns)]
        right = [(a, p) for a, p in monomial if set(a.axes) & set(columns)]
        value = rebuild({tuple(right): 1.0})
        key = rebuild({tuple(left): factor})
        by_column[value] = build.add(by_column[value], key) if value in by_column else key
    by_key: dict[Expr, Expr] = {}
    for value, key in by_column.items():
        key = canonical(key)
        by_key[key] = build.add(by_key[key], value) if key in by_key else value
    return list(by_key.items())
