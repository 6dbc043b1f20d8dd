"""How every entry of an update changes with the entry of a state that has the same place.

Where a state meets nothing but elementwise functions on its way into an update, that is the whole Jacobian, a
diagonal.  Elsewhere it is the diagonal of the Jacobian: a sum that runs over a state's axis gives its derivative at the
one index that the result stands at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, Axes, DType, Expr, Index, Leaf, Reduce, Rename
from seqc.ir.ops import OPS
from seqc.ir.traverse import children, depends_on, walk
from seqc.passes.canonical import arguments, fresh, renamed

Place = Axes  # for each axis of a state, the axis of a node that stands at the same index of the update
Picks = tuple[
    tuple[str, str], ...
]  # an axis that the state has here, and the axis at whose index it is wanted
Slope = dict[Picks, Expr]  # a derivative: a sum of terms, each 0 except where its picked axes agree


def is_entrywise(exprs: Sequence[Expr], sources: Sequence[Leaf]) -> bool:
    """Whether every entry of `exprs` depends on the entries of `sources` at its own place only."""
    dependent = depends_on(exprs, sources)
    return all(
        node.dtype is not DType.COMPLEX and (isinstance(node, Apply) or not children(node))
        for node in walk(exprs)
        if node in dependent
    )


def entrywise(update: Expr, source: Leaf) -> Expr:
    """The derivative of each entry of `update` by the entry of `source` at the same place.

    What passes through anything but elementwise functions, sums and renames is left out.
    """
    taken = {axis for node in walk([update]) for axis in node.axes}
    dependent = depends_on([update], [source])
    done: dict[tuple[Expr, Place], Slope] = {}
    stack = [(update, source.axes)]
    while stack:
        node, place = stack[-1]
        inner = _inside(node, place, taken)
        followed = node in dependent and node is not source and _is_followed(node)
        below = [(child, inner) for child in children(node)] if followed else []
        waiting = [key for key in below if key not in done]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if node is source:
            picks = tuple(pair for pair in zip(source.axes, place, strict=True) if pair[0] != pair[1])
            done[node, place] = {picks: ONE}
        else:
            outward = dict(zip(inner, place, strict=True))
            done[node, place] = _slope(node, [done[key] for key in below], outward)
    return build.total(build.mul(_agree(picks), x) for picks, x in done[update, source.axes].items())


def _inside(node: Expr, place: Place, taken: set[str]) -> Place:
    """The names below `node` of the axes that are called `place` above it; none is one that `node` binds."""
    match node:
        case Reduce():
            bound, back = set(node.over), dict[str, str]()
        case Rename():
            bound, back = {old for old, _ in node.pairs}, {new: old for old, new in node.pairs}
        case _:
            return place
    names: list[str] = []
    for axis in place:
        clear = axis in back or axis not in bound
        names.append(back.get(axis, axis) if clear else fresh(axis, {*taken, *names}))
    return tuple(names)


def _is_followed(node: Expr) -> bool:
    if node.dtype is DType.COMPLEX:
        return False
    match node:
        case Apply() | Rename():
            return True
        case Reduce():
            return node.op == "sum"
        case _:
            return False


def _slope(node: Expr, below: Sequence[Slope], outward: dict[str, str]) -> Slope:
    """The derivative of a node from those of its children; `outward` names places as they are called above it."""
    match node:
        case Apply() if below:
            return _collected(_shares(node, below))
        case Reduce() if below:
            shares = (_summed(node.over, picks, x) for picks, x in below[0].items())
            return _collected(_renamed(picks, x, outward) for picks, x in shares)
        case Rename() if below:
            mapping = {**outward, **dict(node.pairs)}
            return _collected(_renamed(picks, x, mapping) for picks, x in below[0].items())
        case _:
            return {}


def _shares(node: Apply, below: Sequence[Slope]) -> Iterator[tuple[Picks, Expr]]:
    """What each argument of an elementwise function adds; there a derivative goes forward as a cotangent goes back."""
    rule = OPS[node.op].gradient
    if rule is None:
        return
    for k, slope in enumerate(below):
        for picks, x in slope.items():
            share = rule(node.args, node, x)[k]
            if share is not None:
                yield picks, share


def _collected(terms: Iterable[tuple[Picks, Expr]]) -> Slope:
    found: Slope = {}
    for picks, x in terms:
        if x is not ZERO:
            found[picks] = build.add(found[picks], x) if picks in found else x
    return found


def _renamed(picks: Picks, x: Expr, names: dict[str, str]) -> tuple[Picks, Expr]:
    return tuple((names.get(own, own), names.get(at, at)) for own, at in picks), renamed(x, names)


def _summed(over: Axes, picks: Picks, x: Expr) -> tuple[Picks, Expr]:
    """A sum over axes of which some are picked: there the one entry is taken, in each factor for itself."""
    parts = arguments("mul", x)
    for own, at in picks:
        if own in over:
            parts = [_at(part, own, at) for part in parts]
    kept = tuple(pair for pair in picks if pair[0] not in over)
    picked = {own for own, _ in picks}
    return kept, build.sum_over([axis for axis in over if axis not in picked], build.product(parts))


def _at(part: Expr, own: str, at: str) -> Expr:
    """`part` at the index along the axis `own` that there is along `at`."""
    if own not in part.axes:
        return part
    if at not in part.axes:
        return renamed(part, {own: at})
    return build.sum_over([own], build.mul(part, _agree(((own, at),))))


def _agree(picks: Picks) -> Expr:
    """1 where the picked axes agree, else 0."""
    return build.product(build.where(build.apply("eq", Index(a), Index(b)), ONE, ZERO) for a, b in picks)
