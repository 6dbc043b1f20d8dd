"""The meaning of a spec: recurrences and models evaluated one token at a time, in double precision.

Everything here follows the definitions of the nodes and nothing else: no scheduling, no chunks, no code of a
backend. Tensors are `torch.float64` and `torch.complex128`, so that automatic differentiation gives the
reference gradients.

    outputs, state = run_recurrence(rule, {"q": q, "k": k, "v": v}, {})        # inputs [batch, time, *axes]
    outputs, state = run_recurrence(rule, more, {}, state)                     # carries on
    logits, state = run_model(model, tokens, initial_parameters(model))        # tokens [batch, time]

Parameters are `[*axes]` and states `[batch, …]`, both by the full names of `seqc.ir.paths`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seqc.ir.paths import Instance, parameter_table, state_table
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence
from seqc.ir.timing import varying_outputs
from seqc.oracle.initial import initial_parameters
from seqc.oracle.model import Run, Watch, run_instance
from seqc.oracle.recurrence import States

Outputs = tuple[Tensor, ...]


def run_recurrence(
    recurrence: Recurrence,
    inputs: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    state: Mapping[str, Tensor] | None = None,
    reset: Tensor | None = None,
    *,
    shape: tuple[int, int] | None = None,
) -> tuple[Outputs, States]:
    """The outputs `[batch, time, *axes]` and the final state; `shape` (batch, time) is for a rule without
    inputs.

    `reset` is a boolean `[batch, time]`: where it holds, every state returns to its initial value before that
    token.
    """
    return run_whole(recurrence, inputs, parameters, state, reset, shape=shape)


def run_model(
    model: Model | Function,
    inputs: Tensor | Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    state: Mapping[str, Tensor] | None = None,
    reset: Tensor | None = None,
) -> tuple[Outputs, States]:
    """The outputs and the final state of a model or a block, for tokens `[batch, time]` or a series with
    axes.

    An output has a value a token, `[batch, time, *axes]`, or, below a `Pool`, one a sequence: `[batch,
    *axes]`.
    """
    function = model.body if isinstance(model, Model) else model
    named = {function.inputs[0].name: inputs} if isinstance(inputs, Tensor) else inputs
    outputs, after = run_whole(function, named, parameters, state, reset)
    varying = varying_outputs(function)
    return tuple(x if each else x[:, -1] for x, each in zip(outputs, varying, strict=True)), after


def run_whole(
    owner: Recurrence | Function,
    inputs: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    state: Mapping[str, Tensor] | None = None,
    reset: Tensor | None = None,
    *,
    shape: tuple[int, int] | None = None,
    watch: Watch | None = None,
) -> tuple[Outputs, States]:
    """What `run_recurrence` and `run_model` have in common; `watch` sees every value (see
    `seqc.oracle.trace`).
    """
    if shape is None:
        first = next(iter(inputs.values()))
        shape = (first.shape[0], first.shape[1])
    program = Run(parameters, state or {}, reset, shape, watch)
    outputs = run_instance(program, Instance(owner, "", ""), inputs, {})
    return outputs, program.after


def initial_state(
    whole: Recurrence | Function | Model, parameters: Mapping[str, Tensor], batch: int = 1
) -> States:
    """Every state before the first token: what no tokens at all leave behind."""
    owner = whole.body if isinstance(whole, Model) else whole
    nothing = {leaf.name: torch.zeros(batch, 0, *(1,) * len(leaf.axes)) for leaf in owner.inputs}
    return run_whole(owner, nothing, parameters, shape=(batch, 0))[1]


__all__ = [
    "Outputs",
    "States",
    "initial_parameters",
    "initial_state",
    "parameter_table",
    "run_model",
    "run_recurrence",
    "state_table",
]
