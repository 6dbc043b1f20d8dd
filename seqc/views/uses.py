"""The recurrences of a program with what each of them is given when the program runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqc.ir.expr import Expr
from seqc.ir.paths import Instance
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.oracle import initial_parameters, run_whole
from seqc.oracle.evaluate import Order
from seqc.views.samples import sample


@dataclass(frozen=True, eq=False, slots=True)
class Use:
    """A recurrence at one place of a program: inputs `[1, time, *axes]`, parameters `[*axes]` or `[1, *axes]`."""

    path: str
    rule: Recurrence
    time: int
    inputs: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]


def uses(
    whole: Recurrence | Model,
    length: int,
    *,
    prompt: str | None = None,
    seed: int = 0,
    weights: Mapping[str, Tensor] | None = None,
) -> list[Use]:
    """Every use of a recurrence that has inputs, in the order in which they run.

    Parameters are as initialised unless given.
    """
    parameters = initial_parameters(whole, seed) if weights is None else weights
    inputs = sample(whole, parameters, length, prompt, seed)
    if isinstance(whole, Recurrence):
        return [Use("", whole, length, inputs, parameters)]
    seen = _Seen()
    with torch.no_grad():
        run_whole(whole.body, inputs, parameters, watch=seen.watch)
    time = next(iter(inputs.values())).shape[1]
    return [_use(path, rule, time, tokens) for path, (rule, tokens) in seen.tokens.items()]


@dataclass(slots=True)
class _Seen:
    """The values of every recurrence's leaves at every token, by path."""

    tokens: dict[str, tuple[Recurrence, list[dict[Expr, Tensor]]]] = field(
        default_factory=dict[str, tuple[Recurrence, list[dict[Expr, Tensor]]]]
    )

    def watch(self, instance: Instance, token: int | None, _: Order, values: Mapping[Expr, Tensor]) -> None:
        rule = instance.owner
        if token is None or not isinstance(rule, Recurrence) or not rule.inputs:
            return
        wanted = [*rule.inputs, *(parameter.leaf for parameter in rule.parameters)]
        known = self.tokens.setdefault(instance.path, (rule, []))[1]
        known.append({leaf: values[leaf] for leaf in wanted})


def _use(path: str, rule: Recurrence, time: int, tokens: list[dict[Expr, Tensor]]) -> Use:
    inputs = {leaf.name: torch.stack([values[leaf] for values in tokens], 1) for leaf in rule.inputs}
    parameters = {parameter.name: tokens[0][parameter.leaf] for parameter in rule.parameters}
    return Use(path, rule, time, inputs, parameters)
