"""The units of the specs that come with seqc, and how far they are from the token loop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqc
from seqc import bundled
from seqc.conformance import lengths
from seqc.conformance.case import Case, shake
from seqc.conformance.checks.gradients import loss
from seqc.conformance.compare import FLOOR, distance, scale
from seqc.conformance.examine import generic_weights
from seqc.ir.paths import instances
from seqc.ir.program import Function
from seqc.ir.recurrence import Recurrence
from tests.emit.cpu.parts import by_tokens, fused, has_blocks, in_blocks, plain, regions, text_of

FAMILIES = {name: list(paths) for name, paths in groupby(bundled.specs(), lambda path: path.parent.name)}
SHORT, LONG = 19, 35  # tokens: by themselves, and some more than two blocks
STEPS = 2


def rules_with_units() -> Iterator[tuple[str, Recurrence]]:
    for path in bundled.specs():
        spec = seqc.load(path)
        for name in spec.rules:
            recurrence = spec.rule(name, **lengths(spec, name)).recurrence
            if hasattr(fused(recurrence), "fused"):
                yield f"{path.stem}: {name}", recurrence


def units(family: str) -> Iterator[tuple[str, Recurrence, Any, int]]:
    """The units of a family that differ in more than names and lengths: name, rule, module, and tokens to try."""
    seen: set[str] = set()
    for path in FAMILIES[family]:
        for name, recurrence, module, time in _units_of(path):
            text = re.sub(r"//.*|\d+", "", text_of(module))
            if text not in seen:
                seen.add(text)
                yield f"{path.stem}: {name}", recurrence, module, time


def _units_of(path: Path) -> Iterator[tuple[str, Recurrence, Any, int]]:
    """Of the rules of a spec, also in blocks of tokens; of those that its models call; of parts of their blocks."""
    spec = seqc.load(path)
    for name in spec.rules:
        rule = spec.rule(name, **lengths(spec, name)).recurrence
        module = fused(rule)
        if hasattr(module, "fused"):
            yield name, rule, module, SHORT
            if has_blocks(rule):
                yield f"{name} in blocks", rule, in_blocks(rule), LONG
    for name in spec.models:
        owners = dict.fromkeys(instance.owner for instance in instances(spec.model(name).whole))
        for owner in owners:
            if isinstance(owner, Function):
                for region in regions(owner):
                    yield f"{owner.name}: {region.rule.name}", region.rule, by_tokens(region.rule), SHORT
            elif owner.inputs and hasattr(module := fused(owner), "fused"):
                yield f"{owner.name} in {name}", owner, module, SHORT


def drawn(recurrence: Recurrence, time: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs as conformance draws them, but vectors of about length 1, as the norms of a model leave them; weights.

    Where keys are long and wide, what a solver in a rule has after its last step is decided by rounding.
    """
    weights = generic_weights(recurrence)
    case = Case(recurrence.name, recurrence, weights)
    inputs = case.draw(time)
    for name, x in inputs.items():
        if case.roles[name].kind == "normal" and x.ndim > 2:
            inputs[name] = x / x.shape[-1] ** 0.5
    return inputs, weights


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


def stepped(module: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Outputs of the first tokens, one by one and if need be again, and the states after them."""
    found, state = list[Tensor](), None
    with torch.no_grad():
        for t in range(STEPS):
            token = {name: x[:, t % x.shape[1]] for name, x in inputs.items()}
            out, state = module.step(**token, state=state)
            found += out if isinstance(out, tuple) else (out,)
    return [*found, *((state or {})[name] for name in sorted(state or {}))]


def apart(loop: Any, recurrence: Recurrence, time: int) -> float:
    """The largest error of a unit in double precision: of steps, of values and gradients, with and without resets."""
    inputs, weights = drawn(recurrence, time)
    tokens = plain(recurrence).double()
    for module in (loop, tokens):
        module.load_state_dict(weights)
    resets = (
        torch.rand(len(next(iter(inputs.values()), ())), time, generator=torch.Generator().manual_seed(5))
        < 0.1
    )
    pairs = [(stepped(loop, inputs), stepped(tokens, inputs))]
    for reset in (None, resets):
        pairs += zip(everything(loop, inputs, reset), everything(tokens, inputs, reset), strict=True)
    return max(largest(found, wanted) for found, wanted in pairs)


def moved(recurrence: Recurrence, time: int) -> float:
    """How far the token loop's own values and gradients go when inputs and weights change by units of rounding."""
    inputs, weights = drawn(recurrence, time)
    tokens = plain(recurrence).double()
    tokens.load_state_dict(weights)
    wanted = everything(tokens, inputs)
    tokens.load_state_dict(shake(weights, torch.float64))
    return max(map(largest, everything(tokens, shake(inputs, torch.float64)), wanted))


def largest(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest error of some tensors; what is no number in both, as logarithms of what was drawn may be, is none."""
    neither = [x.isnan() & y.isnan() for x, y in zip(found, wanted, strict=True)]
    found, wanted = (
        [x.masked_fill(mask, 0) for x, mask in zip(tensors, neither, strict=True)]
        for tensors in (found, wanted)
    )
    floor = FLOOR * scale(wanted)
    return max((distance(x, y, floor) for x, y in zip(found, wanted, strict=True)), default=0.0)
