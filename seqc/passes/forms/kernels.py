"""The chunked matrix form of affine recurrences.

Within a block, a state is never written out token by token.  With `S_c` the states before the block,

    S_s[i] = Σ_c F_sc[i] · S_c  +  Σ_j Σ_w G_sw[i, j] · key_w[j] ⊗ value_w[j]

where `w` runs over the sources and over the rank-one terms; the *decay factors* `F` and *kernels* `G` are products of
gates between two tokens.  They are built without division: as exponentials of masked sums where a gate is written as
an exponential or a sigmoid, else as a scan over the gates themselves (exact at 0, and for gates of either sign).  The
values of the rank-one terms (what the old memory returns for a key) solve a strictly lower triangular system: the WY
form, for any number of terms and of states whose diagonal coupling has no cycle (momentum: the velocity feeds the
memory, the memory's error feeds the velocity).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Index, Scan, Shift, Size, Solve
from seqc.ir.plan import BETWEEN, OTHER, TOKEN
from seqc.passes.canonical import canonical, poly, rebuild
from seqc.passes.linear import Affine, NotAffine, scaled

MINUS_INFINITY = Const(float("-inf"))

Lift = Callable[[Expr, float], Expr]


def log_of(expr: Expr) -> Expr | None:
    """The logarithm of a positive expression where it can be written without taking one, else None."""
    if expr.dtype is DType.COMPLEX:  # which has no logarithm of 0 to mark a reset with
        return None
    terms = poly(expr)
    if len(terms) == 1:
        ((monomial, factor),) = terms.items()
        logs = [_log_atom(atom) for atom, _ in monomial]
        if factor <= 0 or any(log is None for log in logs):
            return None
        total = build.apply("log", Const(factor))
        for log, (_, power) in zip(logs, monomial, strict=True):
            assert log is not None
            total = build.add(total, build.mul(Const(power), log))
        return total
    flipped = {m: -c for m, c in terms.items() if m}
    if terms.get(()) == 1.0 and len(terms) == 2 and 1.0 in flipped.values():
        gate = rebuild(flipped)
        if isinstance(gate, Apply) and gate.op == "sigmoid":
            return build.apply("log_sigmoid", build.neg(gate.args[0]))
    return None


def _log_atom(atom: Expr) -> Expr | None:
    match atom:
        case Apply(op="exp", args=(x,)):
            return x
        case Apply(op="sigmoid", args=(x,)):
            return build.apply("log_sigmoid", x)
        case Apply(op="where", args=(c, x, y)):
            branches = [MINUS_INFINITY if b is ZERO else log_of(b) for b in (x, y)]
            return None if None in branches else build.where(c, *(b for b in branches if b is not None))
        case Apply(op="pow", args=(x, power)):
            log = log_of(x)
            return None if log is None else build.mul(power, log)
        case _:
            return None


def contract(factors: Iterable[Expr], bound: Iterable[str], sizes: Mapping[str, int]) -> Expr:
    """Σ_bound of a product, two factors at a time, in the order that multiplies least."""
    parts = [f for f in factors if f is not ONE]
    if any(f is ZERO for f in parts):
        return ZERO
    bound = list(dict.fromkeys(bound))
    scale = build.product(Size(axis) for axis in bound if not any(axis in f.axes for f in parts))
    return build.mul(scale, _contract(parts, set(bound), sizes, 6)[1]) if parts else scale


def _contract(parts: list[Expr], bound: set[str], sizes: Mapping[str, int], breadth: int) -> tuple[int, Expr]:
    """The cost and the expression of the best order; beyond `breadth` factors only the cheapest pair is tried."""
    parts = [_sum_alone(f, parts, bound) for f in parts]
    if len(parts) == 1:
        return 0, parts[0]
    pairs = [(i, j) for i in range(len(parts)) for j in range(i + 1, len(parts))]
    if len(parts) > breadth:
        pairs = [min(pairs, key=lambda p: volume({*parts[p[0]].axes, *parts[p[1]].axes}, sizes))]
    best: tuple[int, Expr] | None = None
    for i, j in pairs:
        rest = [f for k, f in enumerate(parts) if k not in (i, j)]
        axes = {*parts[i].axes, *parts[j].axes}
        cost = volume(axes, sizes)
        if best is not None and cost >= best[0]:
            continue
        done = [a for a in dict.fromkeys((*parts[i].axes, *parts[j].axes)) if a in bound]
        done = [a for a in done if not any(a in f.axes for f in rest)]
        more, expr = _contract(
            [*rest, build.sum_over(done, build.mul(parts[i], parts[j]))], bound, sizes, breadth
        )
        if best is None or cost + more < best[0]:
            best = cost + more, expr
    assert best is not None
    return best


def _sum_alone(part: Expr, parts: list[Expr], bound: set[str]) -> Expr:
    """A factor summed over the axes that no other factor has."""
    alone = [a for a in part.axes if a in bound and not any(a in f.axes for f in parts if f is not part)]
    return build.sum_over(alone, part) if alone and parts.count(part) == 1 else part


def volume(axes: Iterable[str], sizes: Mapping[str, int]) -> int:
    """The number of entries of a tensor with these axes."""
    result = 1
    for axis in axes:
        result *= size_of(axis, sizes)
    return result


def size_of(axis: str, sizes: Mapping[str, int]) -> int:
    """The length of an axis or of a renamed copy of it."""
    return sizes.get(axis) or sizes.get(axis.split("~")[0], 16)


def _other(expr: Expr) -> Expr:
    return build.rename(expr, {TOKEN: OTHER})


def _compare(op: str) -> Expr:
    return build.apply(op, Index(TOKEN), Index(OTHER))


def first() -> Expr:
    """Whether a token is the first of its block."""
    return build.apply("eq", Index(TOKEN), ZERO)


def scanned(decay: Expr, source: Expr) -> Expr:
    """h with `h[i] = decay[i] · h[i - 1] + source[i]` over a block, from zero."""
    return source if decay is ZERO or source is ZERO else Scan(decay, source, TOKEN)


def earlier(x: Expr, initial: Expr) -> Expr:
    """The value at the token before, and `initial` at the block's first token."""
    if x is initial:
        return x
    shifted = Shift(TOKEN, 1, x) if TOKEN in x.axes else x
    return build.where(first(), initial, shifted)


@dataclass(frozen=True, slots=True)
class Write:
    """`core ⊗ value`, added to `target` by the token itself; both at block level, with `TOKEN`."""

    target: str
    core: Expr
    value: Expr


@dataclass(frozen=True, slots=True)
class Unknown:
    """`core ⊗ x` with `x = value + scale · (read · source)`, added to every target; at block level, with `TOKEN`."""

    source: str
    keys: Axes
    read: Expr
    scale: Expr
    core: Expr
    value: Expr
    targets: tuple[str, ...] = ()


class Sequences:
    """What the states of an affine group are at the tokens of a block, as expressions of the states before it.

    `lift(expr, padding)` turns a token-level coefficient into a block-level one; `start` gives the states before the
    block where they are not simply the carried ones.
    """

    def __init__(
        self,
        affine: Affine,
        lift: Lift,
        block: int,
        sizes: dict[str, int],
        start: Mapping[str, Expr] | None = None,
    ) -> None:
        self.affine, self.lift, self.block, self.sizes = affine, lift, block, sizes
        self.start = dict(start or {})
        self.states = {state.name: state for state in affine.states}
        self.order = triangular_order(affine)
        self._factors: dict[tuple[str, str], Expr] = {}
        self._kernels: dict[tuple[str, str], Expr] = {}
        self.decays = {name: self._decay(self.affine.decay(state)) for name, state in self.states.items()}
        self.writes: list[Write] = []
        self._cores: dict[Expr, Expr] = {}  # by their canonical form, as they were written first

    def write(self, target: str, key: Expr, value: Expr, keys: Axes) -> None:
        """Add a source: a product of a key part and a value part, at token level."""
        scale, core = self._side(key, keys)
        self.writes.append(Write(target, core, build.mul(scale, self.lift(value, 0.0))))

    def _side(self, key: Expr, keys: Axes) -> tuple[Expr, Expr]:
        """A key side at block level, as a scale and a core.

        Sides with equal cores share their scores: for the delta rule, what is written and what is erased.
        """
        scale, core = scaled(key, keys)
        core = self._cores.setdefault(canonical(core), core)
        return self._lifted(scale), self._lifted(core)

    def _lifted(self, value: Expr) -> Expr:
        return value if isinstance(value, Const) else self.lift(value, 0.0)

    def carry(self, name: str) -> Expr:
        return self.start.get(name, self.states[name].leaf)

    def _decay(self, decay: Expr) -> tuple[Expr, Expr | None]:
        """A state's own decay at block level, and its logarithm if it is known without taking one."""
        if decay is ONE or (decay is ZERO and not self.block):
            return decay, None
        log = log_of(decay)
        if log is None:
            return self.lift(decay, 1.0), None
        lifted = self.lift(log, 0.0)
        return build.apply("exp", lifted), lifted

    def coupling(self, target: str, source: str) -> Expr:
        coefficient = self.affine.diagonal.get((target, source), ZERO)
        return ZERO if coefficient is ZERO else self.lift(coefficient, 0.0)

    def feeders(self, target: str) -> list[str]:
        return [s for s in self.order if s != target and (target, s) in self.affine.diagonal]

    def factor(self, state: str, carried: str) -> Expr:
        """F: the share of a state before the block in a state after token `TOKEN`."""
        key = (state, carried)
        if key not in self._factors:
            self._factors[key] = self._own_factor(state) if state == carried else self._fed_factor(*key)
        return self._factors[key]

    def _own_factor(self, state: str) -> Expr:
        decay, log = self.decays[state]
        if log is not None:
            return build.apply("exp", Scan(ONE, log, TOKEN))
        if decay is ZERO or decay is ONE:
            return decay
        return Scan(decay, build.where(first(), decay, ZERO), TOKEN)

    def _fed_factor(self, state: str, carried: str) -> Expr:
        source = build.total(
            build.mul(self.coupling(state, s), self.factor_before(s, carried)) for s in self.feeders(state)
        )
        return scanned(self.decays[state][0], source)

    def factor_before(self, state: str, carried: str) -> Expr:
        """F of the token before."""
        return earlier(self.factor(state, carried), ONE if state == carried else ZERO)

    def kernel(self, state: str, target: str) -> Expr:
        """G: the share of what token `OTHER` adds to `target` in `state` after token `TOKEN`."""
        key = (state, target)
        if key not in self._kernels:
            self._kernels[key] = self._own_kernel(state) if state == target else self._fed_kernel(*key)
        return self._kernels[key]

    def _own_kernel(self, state: str) -> Expr:
        decay, log = self.decays[state]
        if log is not None:
            total = Scan(ONE, build.where(_compare("gt"), log, ZERO), TOKEN)
            return build.where(_compare("ge"), build.apply("exp", total), ZERO)
        if decay is ONE:
            return build.where(_compare("ge"), ONE, ZERO)
        return scanned(decay, build.where(_compare("eq"), ONE, ZERO))

    def _fed_kernel(self, state: str, target: str) -> Expr:
        source = build.total(
            build.mul(self.coupling(state, s), self.kernel_before(s, target)) for s in self.feeders(state)
        )
        return scanned(self.decays[state][0], source)

    def kernel_before(self, state: str, target: str) -> Expr:
        """G of the token before: strictly earlier tokens only."""
        kernel = self.kernel(state, target)
        return ZERO if kernel is ZERO else Shift(TOKEN, 1, kernel)

    # --- the values of the rank-one terms -------------------------------------------------------------------------

    @cached_property
    def answers(self) -> list[Write]:
        """What is written along the core of each rank-one term, at block level.

        That is what the term writes of the old memory, with the sources that have its target and its core: a system
        in their sum needs no product of its own for what such sources contribute to later tokens.
        """
        terms, others = self._unknowns()
        if not terms:
            return []
        matrix = [[build.mul(t.scale, self._link(t, u)) for u in terms] for t in terms]
        known = [build.add(t.value, build.mul(t.scale, self._known(t, others))) for t in terms]
        values = self._solve(matrix, known)
        for name in self.order:
            starts = [
                build.mul(t.scale, build.mul(t.read, self.factor_before(t.source, name))) for t in terms
            ]
            if all(start is ZERO for start in starts):
                continue
            for k, (term, weight) in enumerate(zip(terms, self._solve(matrix, starts), strict=True)):
                values[k] = build.add(values[k], contract([weight, self.carry(name)], term.keys, self.sizes))
        written = [
            Write(target, term.core, value)
            for term, value in zip(terms, values, strict=True)
            for target in term.targets
        ]
        return [*(Write(*other) for other in others), *written]

    def _unknowns(self) -> tuple[list[Unknown], list[tuple[str, Expr, Expr]]]:
        """What is written along the rank-one terms, once where states get the same, and the sources besides."""
        sources = {(target, core): value for target, core, value in _shared(self.writes)}
        found: dict[Unknown, list[str]] = {}
        for term in self.affine.rank_ones:
            scale, core = self._side(term.write, term.keys)
            value = sources.pop((term.target.name, core), ZERO)
            read = self.lift(term.read, 0.0)
            one = Unknown(term.source.name, term.keys, read, scale, core, value)
            found.setdefault(one, []).append(term.target.name)
        unknowns = [replace(one, targets=tuple(targets)) for one, targets in found.items()]
        return unknowns, [(target, core, value) for (target, core), value in sources.items()]

    def _link(self, term: Unknown, other: Unknown) -> Expr:
        """What is written along `other` at an earlier token adds to what `term` reads."""
        kernels = [self.kernel_before(term.source, target) for target in other.targets]
        core = _other(other.core)
        return build.total(contract([term.read, kernel, core], term.keys, self.sizes) for kernel in kernels)

    def _known(self, term: Unknown, sources: Sequence[tuple[str, Expr, Expr]]) -> Expr:
        """What sources of earlier tokens add to what a term reads."""
        parts: list[Expr] = []
        for target, core, value in sources:
            kernel = self.kernel_before(term.source, target)
            factors = [term.read, kernel, _other(core), _other(value)]
            parts.append(contract(factors, (*term.keys, OTHER), self.sizes))
        return build.total(parts)

    def _solve(self, matrix: list[list[Expr]], sides: list[Expr]) -> list[Expr]:
        """Block elimination: every block is strictly lower triangular, and so is every Schur complement."""
        rows, sides, count = [list(row) for row in matrix], list(sides), len(sides)
        for k in range(count):
            sides[k] = _solve(rows[k][k], sides[k])
            for q in range(k + 1, count):
                rows[k][q] = _solve(rows[k][k], rows[k][q])
            for p in range(k + 1, count):
                sides[p] = build.add(sides[p], self._times(rows[p][k], sides[k]))
                for q in range(k + 1, count):
                    rows[p][q] = build.add(rows[p][q], self._times(rows[p][k], rows[k][q]))
        for k in reversed(range(count)):
            for q in range(k + 1, count):
                sides[k] = build.add(sides[k], self._times(rows[k][q], sides[q]))
        return sides

    def _times(self, matrix: Expr, x: Expr) -> Expr:
        """`Σ_k matrix[TOKEN, k] x[k]` of a matrix over tokens and a value at tokens."""
        left, right = build.rename(matrix, {OTHER: BETWEEN}), build.rename(x, {TOKEN: BETWEEN})
        return contract([left, right], [BETWEEN], self.sizes)

    # --- reads --------------------------------------------------------------------------------------------------

    def read(self, state: str, after: bool, query: Sequence[Expr], over: Axes) -> Expr:
        """`Σ_over query · state` at every token of the block; `query` are block-level factors."""
        factor = self.factor if after else self.factor_before
        kernel = self.kernel if after else self.kernel_before
        parts = [contract([*query, factor(state, c), self.carry(c)], over, self.sizes) for c in self.order
                 if factor(state, c) is not ZERO]  # fmt: skip
        for target, key, value in self._added:
            if kernel(state, target) is not ZERO:
                factors = [*query, kernel(state, target), _other(key), _other(value)]
                parts.append(contract(factors, (*over, OTHER), self.sizes))
        return build.total(parts)

    @cached_property
    def _added(self) -> list[tuple[str, Expr, Expr]]:
        return _shared(self.answers if self.affine.rank_ones else self.writes)

    def kept(self, state: str, carried: str) -> Expr:
        """What the block keeps of a state before it.

        A product of gates close to 1 is no number of its own in single precision: rounded alike in every block, it
        drifts.  There the state is kept whole and what is lost, `1 - Π gates`, is taken from it, which is a sum of
        positive numbers and exact to the last place.
        """
        factor = build.at(self.factor(state, carried), TOKEN, self.block - 1)
        start = self.carry(carried)
        decay, log = self.decays[state]
        if state != carried or decay is ZERO or decay is ONE or decay.dtype is DType.COMPLEX:
            return build.mul(factor, start)
        if log is not None:
            lost = build.neg(build.apply("expm1", build.at(Scan(ONE, log, TOKEN), TOKEN, self.block - 1)))
        else:
            lost = build.at(Scan(decay, build.sub(ONE, decay), TOKEN), TOKEN, self.block - 1)
        whole = build.apply("gt", factor, Const(0.5))
        share = build.where(whole, build.neg(lost), factor)
        return build.add(build.mul(build.where(whole, ONE, ZERO), start), build.mul(share, start))

    def last(self, state: str) -> Expr:
        """The state after the block."""
        end = self.block - 1
        parts = [self.kept(state, c) for c in self.order]
        for target, key, value in self._added:
            kernel = build.at(self.kernel(state, target), TOKEN, end)
            if kernel is not ZERO:
                parts.append(contract([kernel, _other(key), _other(value)], [OTHER], self.sizes))
        return build.total(parts)


def _shared(writes: Sequence[Write]) -> list[tuple[str, Expr, Expr]]:
    """Writes with one target and one core are one write."""
    values: dict[tuple[str, Expr], Expr] = {}
    for write in writes:
        key = (write.target, write.core)
        values[key] = build.add(values.get(key, ZERO), write.value)
    return [(target, core, value) for (target, core), value in values.items()]


def _solve(matrix: Expr, side: Expr) -> Expr:
    if side is ZERO or matrix is ZERO:
        return side
    aside = build.rename(side, {OTHER: BETWEEN})
    return build.rename(Solve(matrix, aside, TOKEN, OTHER), {BETWEEN: OTHER})


def triangular_order(affine: Affine) -> list[str]:
    """States such that each is fed, elementwise, by earlier ones only; raises `NotAffine`."""
    order: list[str] = []
    left = [state.name for state in affine.states]
    while left:
        ready = [n for n in left if all((n, m) not in affine.diagonal or m == n for m in left)]
        if not ready:
            raise NotAffine(ONE, "couples states both ways in")
        order.extend(ready)
        left = [n for n in left if n not in ready]
    return order
