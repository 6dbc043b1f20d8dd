"""Gradients by inputs and parameters are those of the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import EllipsisType

import torch
from torch import Tensor

from seqc.conformance.case import Case, as_held, cast, shake
from seqc.conformance.compare import FLOOR, GRADIENTS, distance, is_moderate, judged, rounded, scale
from seqc.conformance.matching import short
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence

ORDER = 20

# Some rows of a batch, or a tensor as it is, which may be a single number.
Rows = slice | EllipsisType


def applies(case: Case, subject: Subject) -> str:
    return "" if subject.differentiable else "this form is not for training"


def check(case: Case, subject: Subject) -> Iterator[Finding]:
    inputs = case.draw(case.usual)
    for dtype in subject.dtypes:
        if not _passes_roundings(case, subject, dtype):
            yield from compare_gradients(case, subject, "", inputs, dtype, short(dtype))
        elif not case.fast:
            yield compare_together(case, subject, inputs, dtype)
    if isinstance(case.whole, Recurrence):
        dtype = subject.dtypes[0]
        yield from compare_gradients(case, subject, "rising", rising(case, inputs), dtype, "rising inputs")


def rising(case: Case, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs that grow over time: what looks for the largest so far finds it late too, again and again."""
    found = dict(inputs)
    for name, role in case.roles.items():
        x = inputs[name]
        if role.kind == "normal" and x.is_floating_point():
            slope = torch.linspace(-2, 2, x.shape[1], dtype=x.dtype)
            found[name] = x + slope.reshape(1, -1, *(1,) * (x.ndim - 2))
    return found


def _passes_roundings(case: Case, subject: Subject, dtype: torch.dtype) -> bool:
    """Whether sums are rounded on their way: then a gradient that is a small difference is mostly rounding.

    In a model values are; in the reference, PyTorch adds a parameter's gradient up in its width, token by token.
    """
    return dtype is torch.bfloat16 and (isinstance(case.whole, Model) or subject.mode == "reference")


def compare_together(
    case: Case, subject: Subject, inputs: Mapping[str, Tensor], dtype: torch.dtype
) -> Finding:
    """All gradients as one vector."""

    def expected(shaken: bool) -> dict[str, Tensor]:
        return expected_gradients(case, "", inputs, dtype, shaken=shaken)

    wanted, got = expected(False), gradients(case, subject, inputs, dtype)

    def joined(found: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([found[name].double().flatten() for name in wanted])

    error = distance(joined(got), joined(wanted), 0.0)
    what = f"{short(dtype)}, by all parameters together"
    return judged(
        what, error, GRADIENTS, dtype, lambda: distance(joined(expected(True)), joined(wanted), 0.0)
    )


def compare_gradients(
    case: Case,
    subject: Subject,
    key: object,
    inputs: Mapping[str, Tensor],
    dtype: torch.dtype,
    what: str,
    reset: Tensor | None = None,
    rows: Mapping[str, slice] | None = None,
) -> Iterator[Finding]:
    """One finding an input and a parameter; `key` names the inputs and the resets.

    Where rows of the batch have names of their own, an input has one finding for each.
    """
    wanted = expected_gradients(case, key, inputs, dtype, reset)
    if not is_moderate(wanted.values()):
        return
    got = gradients(case, subject, inputs, dtype, reset)
    groups: Mapping[str, Rows] = {what: ...}
    if rows is not None:
        groups = rows
    for name, want in wanted.items():
        for words, part in groups.items() if name in inputs else ((what, ...),):
            floor = FLOOR * scale(x[part] if each in inputs else x for each, x in wanted.items())
            error = distance(got[name][part], want[part], floor)
            moves = partial(_moves, case, key, inputs, dtype, name, floor, reset, part)
            yield judged(f"{words}, by `{name}`", error, GRADIENTS, dtype, moves)


def _moves(
    case: Case,
    key: object,
    inputs: Mapping[str, Tensor],
    dtype: torch.dtype,
    name: str,
    floor: float,
    reset: Tensor | None,
    part: Rows,
) -> float:
    want = expected_gradients(case, key, inputs, dtype, reset)[name]
    shaken = expected_gradients(case, key, inputs, dtype, reset, shaken=True)[name]
    return distance(shaken[part], want[part], floor)


def loss(outputs: Sequence[Tensor], states: Mapping[str, Tensor]) -> Tensor:
    """A sum with fixed weights of all that comes out, the final states included."""
    total: Tensor | None = None
    for i, x in enumerate([*outputs, *(states[name] for name in sorted(states))]):
        if not x.requires_grad:
            continue
        x = torch.view_as_real(x) if x.is_complex() else x
        generator = torch.Generator().manual_seed(i)
        weight = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        term = (x.double() * weight.bfloat16()).sum()
        total = term if total is None else total + term
    return torch.zeros((), requires_grad=True) if total is None else total


def compared_states(case: Case, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from seqc.ir.recurrence import State

    return {
        name: states[name]
        for name, known in case.states.items()
        if case.steps and isinstance(known.source, State)
    }


def expected_gradients(
    case: Case,
    key: object,
    inputs: Mapping[str, Tensor],
    dtype: torch.dtype,
    reset: Tensor | None = None,
    *,
    shaken: bool = False,
) -> dict[str, Tensor]:
    """By inputs and parameters as `dtype` holds them, or some units of rounding beside; worked out once."""
    dtype = dtype if shaken else as_held(dtype)
    if (key, dtype, shaken) not in case.gradients:
        held, weights = _held(inputs, dtype, shaken), _held(case.weights, dtype, shaken)
        wrt = {name: x.requires_grad_() for name, x in {**weights, **held}.items() if x.is_floating_point()}
        outputs, states = case.oracle(held, reset=reset, weights=weights)
        if not shaken:
            case.learn(key, inputs, dtype, reset, outputs, states)
        total = loss(outputs, compared_states(case, states))
        found = torch.autograd.grad(total, list(wrt.values()), allow_unused=True, materialize_grads=True)
        case.gradients[key, dtype, shaken] = dict(zip(wrt, found, strict=True))
    return case.gradients[key, dtype, shaken]


def _held(tensors: Mapping[str, Tensor], dtype: torch.dtype, shaken: bool) -> dict[str, Tensor]:
    return shake(tensors, dtype) if shaken else {name: rounded(x, dtype) for name, x in tensors.items()}


def gradients(
    case: Case,
    subject: Subject,
    inputs: Mapping[str, Tensor],
    dtype: torch.dtype,
    reset: Tensor | None = None,
) -> dict[str, Tensor]:
    given = cast(inputs, dtype)
    wrt = {name: x.requires_grad_() for name, x in given.items() if x.is_floating_point()}
    wrt = {**subject.parameters(dtype), **wrt}
    outputs, after = subject.run(given, dtype, None, reset)
    total = loss(outputs, compared_states(case, subject.states(after)) if case.steps else {})
    found = torch.autograd.grad(total, list(wrt.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(wrt, found, strict=True))
