"""Inputs to look at a program with: a text for a model of bytes, else numbers of the range that a rule expects."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from seqc.conformance.roles import draw, roles_of
from seqc.errors import UserError
from seqc.ir.expr import Gather
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import walk


def sample(
    whole: Recurrence | Model, parameters: Mapping[str, Tensor], length: int, prompt: str | None, seed: int
) -> dict[str, Tensor]:
    """Inputs `[1, length, *axes]`, or as many tokens as the prompt has bytes."""
    if isinstance(whole, Recurrence):
        return draw(whole.inputs, whole.sizes, roles_of(whole, parameters), 1, length, seed)
    generator = torch.Generator().manual_seed(seed)
    if whole.kind == "tokens":
        return {whole.body.inputs[0].name: _tokens(_vocabulary(whole), length, prompt, generator)}
    shapes = {leaf.name: [whole.body.sizes[axis] for axis in leaf.axes] for leaf in whole.body.inputs}
    return {
        name: torch.randn(1, length, *shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def _tokens(vocabulary: int, length: int, prompt: str | None, generator: torch.Generator) -> Tensor:
    if prompt is None:
        return torch.randint(vocabulary, (1, length), generator=generator)
    return torch.tensor([_bytes(prompt, vocabulary)])


def _vocabulary(model: Model) -> int:
    """How many tokens there are: the rows of the tables that the tokens look up."""
    tokens, nodes = model.body.inputs[0], walk(model.body.outputs)
    tables = [node.axis for node in nodes if isinstance(node, Gather) and node.index is tokens]
    return min((model.body.sizes[axis] for axis in tables), default=256)


def _bytes(prompt: str, vocabulary: int) -> list[int]:
    found = list(os.fsencode(prompt))
    if not found or max(found) >= vocabulary:
        raise UserError(f"the bytes of the prompt must be below {vocabulary}, and there must be some")
    return found
