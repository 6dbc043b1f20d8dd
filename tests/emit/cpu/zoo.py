"""The rules of the specs that come with seqc, and how far a unit is from the token loop over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

import seqc
from seqc import bundled
from seqc.conformance import lengths
from seqc.conformance.case import Case
from seqc.conformance.checks.gradients import loss
from seqc.conformance.compare import FLOOR, distance, scale
from seqc.conformance.examine import generic_weights
from seqc.ir.recurrence import Recurrence
from seqc.passes.schedule import schedule
from tests.emit.cpu.parts import fused, plain


def rules_with_units() -> Iterator[tuple[str, Recurrence]]:
    for path in bundled.specs():
        spec = seqc.load(path)
        for name in spec.rules:
            recurrence = spec.rule(name, **lengths(spec, name)).recurrence
            if hasattr(fused(recurrence), "fused"):
                yield f"{path.stem}: {name}", recurrence


def one_a_class() -> Iterator[tuple[str, Recurrence]]:
    """The first rule of each class, and of each kind of number."""
    seen: set[tuple[str, bool]] = set()
    for name, recurrence in rules_with_units():
        is_complex = any(state.leaf.dtype.name == "COMPLEX" for state in recurrence.states)
        own = {(found.code, is_complex) for found in schedule(recurrence).classes}
        if not own <= seen:
            seen |= own
            yield name, recurrence


def drawn(recurrence: Recurrence, time: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs as conformance draws them, and weights."""
    weights = generic_weights(recurrence)
    return Case(recurrence.name, recurrence, weights).draw(time), weights


def everything(
    module: Any, inputs: Mapping[str, Tensor], reset: Tensor | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and final states, and the gradients by inputs and parameters of a sum of both."""
    given = {name: x.detach().clone() for name, x in inputs.items()}
    wrt = [x.requires_grad_() for x in given.values() if x.is_floating_point() or x.is_complex()]
    out, states = module(**given, reset=reset)
    outputs: tuple[Tensor, ...] = out if isinstance(out, tuple) else (out,)
    total = loss(outputs, states)
    gradients = torch.autograd.grad(
        total, [*wrt, *module.parameters()], allow_unused=True, materialize_grads=True
    )
    return [*outputs, *(states[name] for name in sorted(states))], list(gradients)


def apart(loop: Any, recurrence: Recurrence, time: int) -> float:
    """The largest error of a value or a gradient of a unit in double precision, with and without resets."""
    inputs, weights = drawn(recurrence, time)
    tokens = plain(recurrence).double()
    for module in (loop, tokens):
        module.load_state_dict(weights)
    resets = (
        torch.rand(len(next(iter(inputs.values()), ())), time, generator=torch.Generator().manual_seed(5))
        < 0.1
    )
    errors: list[float] = []
    for reset in (None, resets):
        pairs = zip(everything(loop, inputs, reset), everything(tokens, inputs, reset), strict=True)
        for found, wanted in pairs:
            floor = FLOOR * scale(wanted)
            errors += [distance(x, y, floor) for x, y in zip(found, wanted, strict=True)]
    return max(errors)
