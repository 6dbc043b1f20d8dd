"""Finding what the rest of a program needs of a group of states.

A *contracted* read is a sum over axes of a state (a query against a memory): it is affine in the state, and a chunked
form answers it without ever writing the state out.  Any other mention is a *whole* read: the state itself, at every
token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from seqc.ir import build
from seqc.ir.build import ONE
from seqc.ir.expr import Apply, Axes, DType, Expr, Leaf, LeafKind, Reduce
from seqc.ir.recurrence import State
from seqc.ir.traverse import children, depends_on, rewrite, walk, with_children
from seqc.passes.canonical import renamed
from seqc.passes.groups import reads_of
from seqc.passes.linear import NotAffine, Term, linear_form


@dataclass(frozen=True, slots=True)
class Query:
    """`Σ_over (product of factors) · state`, then its axes renamed by `names`; factors use the state's own names."""

    state: State
    after: bool
    factors: tuple[Expr, ...]
    over: Axes
    names: tuple[tuple[str, str], ...] = ()

    @property
    def whole(self) -> bool:
        return not self.over


@dataclass(frozen=True, slots=True)
class Read:
    """A sum of queries, known to the rest of the program as `leaf`."""

    leaf: Leaf
    queries: tuple[Query, ...]


@dataclass(slots=True)
class Reader:
    """Replaces mentions of a group's states by leaves, and remembers what the leaves stand for."""

    states: Sequence[State]
    prefix: str
    unsolved: Sequence[State] = ()  # a query that depends on these cannot be answered yet
    reads: list[Read] = field(default_factory=list[Read])
    blocked: bool = False
    _known: dict[Expr, Expr] = field(default_factory=dict[Expr, Expr])

    def replace(self, exprs: Sequence[Expr]) -> tuple[Expr, ...]:
        exprs = rewrite(exprs, _pull_real)
        targets = [leaf for state in self.states for leaf in (state.leaf, state.next)]
        dependent = depends_on(exprs, targets)
        return tuple(self._visit(expr, dependent) for expr in exprs)

    def _visit(self, root: Expr, dependent: set[Expr]) -> Expr:
        order: list[Expr] = []
        stack = [root]
        seen: set[Expr] = set()
        while stack:  # what has to be rebuilt, parents first; reads are not looked into
            node = stack.pop()
            if node in seen or node not in dependent:
                continue
            seen.add(node)
            if node not in self._known:
                found = self._read(node)
                if found is not None:
                    self._known[node] = found
                else:
                    order.append(node)
                    stack.extend(children(node))
        needed = set(order)
        for node in walk([root]):
            if node in needed:
                parts = tuple(self._known.get(child, child) for child in children(node))
                self._known[node] = with_children(node, parts)
        return self._known.get(root, root)

    def _read(self, node: Expr) -> Expr | None:
        by_leaf: dict[Expr, tuple[State, bool]] = {}
        for state in self.states:
            by_leaf[state.leaf] = (state, False)
            by_leaf[state.next] = (state, True)
        if node in by_leaf:
            state, after = by_leaf[node]
            return self._leaf([Query(state, after, (), ())], state.axes, state.dtype, whole=True)
        if not (isinstance(node, Reduce) and node.op == "sum"):
            return None
        try:
            terms = linear_form(node, [leaf for leaf in by_leaf if isinstance(leaf, Leaf)])
            queries = [self._query(term, *by_leaf[term.leaf]) for term in terms if term.leaf is not None]
        except NotAffine:
            return None
        sources = [term.coefficient for term in terms if term.leaf is None]
        if queries:
            return build.total([self._leaf(queries, node.axes, node.dtype), *sources])
        rest = build.total(sources)  # the states cancel
        return rest if rest.axes == node.axes else None

    def _leaf(self, queries: list[Query], axes: Axes, dtype: DType, whole: bool = False) -> Leaf:
        name = f"{queries[0].state.name}.{'after' if queries[0].after else 'before'}"
        if not whole:
            name = f"{self.prefix}.read{len(self.reads)}"
        leaf = Leaf(LeafKind.READ, name, axes, dtype)
        if all(read.leaf is not leaf for read in self.reads):
            self.reads.append(Read(leaf, tuple(queries)))
        return leaf

    def _query(self, term: Term, state: State, after: bool) -> Query:
        own = dict(zip(term.axes, state.axes, strict=True))
        over = tuple(own[name] for name in term.axes if name in term.bound)
        names = tuple((mine, name) for name, mine in own.items() if name not in term.bound and name != mine)
        clash = {mine for name, mine in own.items() if name != mine and mine in term.coefficient.axes}
        if not over or clash:
            raise NotAffine(term.coefficient, "uses an axis of the state twice in")
        if reads_of(term.coefficient, self.unsolved):
            self.blocked = True
            raise NotAffine(term.coefficient, "needs another state first, in")
        return Query(state, after, tuple(_linked(renamed(term.coefficient, own))), over, names)


def _linked(coefficient: Expr) -> list[Expr]:
    """The factors of a product, multiplied together where they share axes."""
    factors: list[Expr] = []
    stack = [coefficient]
    while stack:
        node = stack.pop()
        if isinstance(node, Apply) and node.op == "mul":
            stack.extend(node.args)
        elif node is not ONE:
            factors.append(node)
    groups: list[Expr] = []
    for factor in reversed(factors):
        mates = [g for g in groups if set(g.axes) & set(factor.axes)]
        groups = [g for g in groups if g not in mates] + [build.product([*mates, factor])]
    return groups


def _pull_real(node: Expr) -> Expr | None:
    """real(z) · x = real(z · x) for real x, and a sum of real parts is the real part of the sum."""
    match node:
        case Apply(op="mul", args=(Apply(op="real", args=(z,)), x)) if x.dtype is not DType.COMPLEX:
            return build.apply("real", build.mul(z, x))
        case Apply(op="mul", args=(x, Apply(op="real", args=(z,)))) if x.dtype is not DType.COMPLEX:
            return build.apply("real", build.mul(z, x))
        case Reduce(op="sum", arg=Apply(op="real", args=(z,))):
            return build.apply("real", build.sum_over(node.over, z))
        case _:
            return None
