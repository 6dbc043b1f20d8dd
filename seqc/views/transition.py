"""What one token does to a state: the transition, and its eigenvalues, along a run.

Where the update is affine in its own state, the transition is read off: a gate for every entry, or a small matrix over
the axes that rank-one terms contract, one for every place along the other axes. Otherwise it is the Jacobian of the
oracle's step. States that no input reaches (counters) remember no token and are left out, and so is the first token,
which follows no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
from torch import Tensor

from seqc.ir import build
from seqc.ir.expr import Axes, Const, DType, Expr, LeafKind
from seqc.ir.recurrence import State
from seqc.ir.text import format_expr
from seqc.ir.traverse import leaves
from seqc.oracle.evaluate import Frame, spread
from seqc.oracle.recurrence import States, Token, initial_states, parameter_leaves, prepare, run, step
from seqc.passes.canonical import canonical
from seqc.passes.groups import components, inlined
from seqc.passes.linear import Affine, NotAffine, read_affine
from seqc.views.uses import Use

# Rows of a transition beyond which it is not made, and the change of a state whose growth is measured instead.
LARGEST, CHANGE = 256, 1e-7

How = Literal["affine", "jacobian", "measured"]
Look = Callable[[Mapping[Expr, Tensor]], None]


@dataclass(frozen=True, eq=False, slots=True)
class Transition:
    """Of a group of states that depend on one another.

    `eigenvalues` are `[token - 1, *axes, number]`, None where they were not computed. `rates` are `[*axes, number]`:
    how much of a difference in the state is left a token later, in the mean over the run, direction by direction (the
    exponentials of the Lyapunov exponents). `formulas` are the eigenvalues in the words of the rule, where it has
    them.
    """

    states: tuple[str, ...]
    how: How
    axes: Axes
    eigenvalues: Tensor | None
    rates: Tensor
    formulas: tuple[str, ...] = ()


def transitions(use: Use) -> list[Transition]:
    """Those of all groups of states that an input reaches, in the order in which they are solved."""
    updates = use.rule.updates_by_name
    groups = components(use.rule.states, updates)
    with torch.no_grad():
        return [_transition(use, group, updates) for group in groups if _is_reached(group, updates)]


def _is_reached(group: Sequence[State], updates: Mapping[str, Expr]) -> bool:
    """Whether what the group holds depends on any input or store."""
    known, open_ = set[str](), [state.name for state in group]
    sources = (LeafKind.INPUT, LeafKind.STORE, LeafKind.STORED)
    while open_:
        name = open_.pop()
        known.add(name)
        for leaf in leaves([updates[name]]):
            if leaf.kind in sources:
                return True
            if leaf.kind in (LeafKind.STATE, LeafKind.NEXT) and leaf.name not in known:
                open_.append(leaf.name)
    return False


def _transition(use: Use, group: list[State], updates: Mapping[str, Expr]) -> Transition:
    names = tuple(state.name for state in group)
    try:
        read = _Affine.read(group, updates)
    except NotAffine:
        read = None
    if read is not None and read.rows(use.rule.sizes) <= LARGEST:
        matrices = read.matrices(use)[1:]
        return Transition(
            names, "affine", read.others, eigenvalues(matrices), rates(matrices), read.formulas()
        )
    size = sum(prod(use.rule.sizes[axis] for axis in state.axes) for state in group)
    if size <= LARGEST and not use.rule.stores:
        matrices = jacobians(use, group)[1:]
        return Transition(names, "jacobian", (), eigenvalues(matrices), rates(matrices))
    return Transition(names, "measured", (), None, _growth(use, names))


# --- Read off the affine form --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class _Affine:
    """An affine update whose rank-one terms all contract the axes `keys`; `others` are where transitions differ."""

    form: Affine
    keys: Axes
    others: Axes

    @staticmethod
    def read(group: list[State], updates: Mapping[str, Expr]) -> _Affine:
        form = read_affine(group, inlined(group, updates))
        first, *rest = form.states
        several = {term.keys for term in form.rank_ones}
        if len(several) > 1 or any(set(state.axes) != set(first.axes) for state in rest):
            raise NotAffine(updates[first.name], "contracts several sets of axes of")
        keys: Axes = next(iter(several), ())
        used = {axis for expr in _coefficients(form) for axis in expr.axes}
        return _Affine(form, keys, tuple(axis for axis in first.axes if axis in used and axis not in keys))

    def rows(self, sizes: Mapping[str, int]) -> int:
        return len(self.form.states) * prod(sizes[axis] for axis in self.keys)

    def matrices(self, use: Use) -> Tensor:
        """`[token, *others, rows, rows]`, where a row is a state and a place along the keys."""
        sizes, values = use.rule.sizes, _values(use, _coefficients(self.form))
        frame = Frame((use.time,), sizes, {})
        axes = (*self.others, *self.keys)

        number = {state.name: i for i, state in enumerate(self.form.states)}
        lead = (use.time, *(sizes[axis] for axis in self.others))
        count, width = len(number), prod(sizes[axis] for axis in self.keys)

        def full(expr: Expr) -> Tensor:
            return spread(values[expr], expr.axes, axes, frame, (use.time,)).reshape(*lead, width)

        is_complex = any(expr.dtype is DType.COMPLEX for expr in values)
        dtype = torch.complex128 if is_complex else torch.float64
        result = torch.zeros(*lead, count, width, count, width, dtype=dtype)
        for (target, source), gate in self.form.diagonal.items():
            result[..., number[target], :, number[source], :] += torch.diag_embed(full(gate))
        for term in self.form.rank_ones:
            outer = full(term.write).unsqueeze(-1) * full(term.read).unsqueeze(-2)
            result[..., number[term.target.name], :, number[term.source.name], :] += outer
        return result.reshape(*lead, count * width, count * width)

    def formulas(self) -> tuple[str, ...]:
        """The gate of a single state, and what becomes of it along what a single rank-one term contracts."""
        form = self.form
        state, *more = form.states
        if more or len(form.rank_ones) > 1:
            return ()
        gate = form.decay(state)
        if not form.rank_ones:
            return () if isinstance(gate, Const) else (format_expr(gate),)
        if set(gate.axes) & set(self.keys):
            return ()
        term = form.rank_ones[0]
        along = build.add(gate, build.sum_over(self.keys, build.mul(term.write, term.read)))
        return format_expr(gate), format_expr(canonical(along))


def _coefficients(form: Affine) -> list[Expr]:
    pairs = [expr for term in form.rank_ones for expr in (term.write, term.read)]
    return [*form.diagonal.values(), *pairs]


def _values(use: Use, exprs: Iterable[Expr]) -> dict[Expr, Tensor]:
    """Token-level expressions over a run: `[token, *axes]`."""
    exprs = list(exprs)
    named = tuple((f"%{number}", expr) for number, expr in enumerate(exprs))
    rule = replace(use.rule, names=(*use.rule.names, *named))
    tokens: list[dict[Expr, Tensor]] = []
    _run(prepare(rule, lets=True), use, lambda values: tokens.append({expr: values[expr] for expr in exprs}))
    return {expr: torch.cat([values[expr] for values in tokens]) for expr in exprs}


# --- By the oracle's step ------------------------------------------------------------------------------------------


def jacobians(use: Use, group: Sequence[State]) -> Tensor:
    """The derivative of the group's states after each token by those before it: `[token, size, size]`.

    A complex number counts as two. Every row of a batch has the same state, and row i gives the i-th row.
    """
    token = prepare(use.rule)
    known = [*use.rule.inputs, *(parameter.leaf for parameter in use.rule.parameters)]
    found: list[Tensor] = []

    def one(values: Mapping[Expr, Tensor]) -> None:
        before = {state.name: values[state.leaf] for state in use.rule.states}
        size = sum(_flat(before[state.name]).shape[1] for state in group)
        rows = {name: x.expand(size, *x.shape[1:]).clone() for name, x in before.items()}
        held = [rows[state.name] for state in group]
        with torch.enable_grad():
            for x in held:
                x.requires_grad_()
            _, after = step(token, {leaf: values[leaf] for leaf in known}, rows, size)
            trace = torch.cat([_flat(after[state.name]) for state in group], 1).diagonal().sum()
            gradients = torch.autograd.grad(trace, held, allow_unused=True, materialize_grads=True)
        found.append(torch.cat([_flat(x) for x in gradients], 1))

    _run(token, use, one)
    return torch.stack(found)


def _flat(x: Tensor) -> Tensor:
    return (torch.view_as_real(x) if x.is_complex() else x).reshape(x.shape[0], -1)


def _growth(use: Use, names: Sequence[str]) -> Tensor:
    """What is left a token later of a small change of the initial state, in the mean: `[1]`."""
    token = prepare(use.rule)
    start = initial_states(token, parameter_leaves(use.rule, use.parameters), 1)
    generator = torch.Generator().manual_seed(0)
    changed = dict(start)
    for name in names:
        noise = torch.randn(start[name].shape, generator=generator, dtype=torch.float64)
        changed[name] = start[name] + CHANGE * noise
    ends = [run(token, use.inputs, use.parameters, each, None, (1, use.time))[1] for each in (start, changed)]
    left = _distance(ends[0], ends[1], names) / _distance(start, changed, names)
    return (left.log() / use.time).exp().reshape(1)


def _distance(one: States, other: States, names: Sequence[str]) -> Tensor:
    difference = torch.cat([_flat(one[name] - other[name]).flatten() for name in names])
    size: Tensor = torch.linalg.vector_norm(difference)
    return size


def _run(token: Token, use: Use, look: Look) -> None:
    run(
        token,
        use.inputs,
        use.parameters,
        {},
        None,
        (1, use.time),
        lambda _, __, values: look(values),
    )


# --- Eigenvalues and rates -----------------------------------------------------------------------------------------


def eigenvalues(matrices: Tensor) -> Tensor:
    """`[…, number]`"""
    values: Tensor = matrices[..., 0] if matrices.shape[-1] == 1 else torch.linalg.eigvals(matrices)
    return values


def rates(matrices: Tensor) -> Tensor:
    """How much is left a token later, in the mean over the tokens (the first axis), direction by direction.

    Products of the matrices are factored token by token (Benettin et al. 1980), so that nothing under- or overflows.
    """
    size = matrices.shape[-1]
    if size == 1:
        return matrices[..., 0].abs().log().mean(0).exp()
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frame = torch.linalg.qr(noise.to(matrices.dtype))[0].expand(matrices.shape[1:])
    total = torch.zeros(matrices.shape[1:-1], dtype=torch.float64)
    for matrix in matrices:
        frame, triangle = torch.linalg.qr(matrix @ frame)
        total = total + triangle.diagonal(dim1=-2, dim2=-1).abs().log()
    return (total / len(matrices)).exp()
