"""The oracle on whole language models, against plain loops with the same random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from seqc.oracle import parameter_table
from tests.parity.naive import stacks as loops
from tests.parity.specs import apply_model, close, model, random

BATCH, TIME, VOCAB, WIDTH, HEADS = 2, 9, 7, 8, 2
TOLERANCE = 1e-10
SIZES = {"vocab": VOCAB, "d": WIDTH, "h": HEADS}

pytestmark = pytest.mark.against("the equations, in NumPy")


def same(file: str, loop: Callable[..., Any], sizes: Mapping[str, float], **fixed: Any) -> None:
    """A model of random weights, near 1 for norms, is a loop over every row."""
    ours = model(file, None, **{**SIZES, **sizes})
    weights = {
        name: ("norm" in name and name.endswith("weight")) + random(*parameter.shape, seed=seed) / 2
        for seed, (name, parameter) in enumerate(parameter_table(ours).items())
    }
    tokens = torch.randint(VOCAB, (BATCH, TIME), generator=torch.Generator().manual_seed(0))
    arrays = {name: weight.numpy() for name, weight in weights.items()}
    rows = [loop(row.numpy(), arrays, **fixed) for row in tokens]
    close(apply_model(ours, tokens, weights), torch.from_numpy(np.stack(rows)), TOLERANCE)


@pytest.mark.parametrize("layers", [1, 2])
def test_griffin(layers: int) -> None:
    """Its window of 128 tokens is longer than the sequence; that of local attention is compared by itself."""
    same("hybrid/griffin.seq", loops.griffin, {"layers": layers, "w": 6, "n": 4}, layers=layers, window=128)


def test_flowformer() -> None:
    same("linear/flowformer.seq", loops.flowformer, {"layers": 2}, layers=2)


def test_hgrn2() -> None:
    same("linear/hgrn2.seq", loops.hgrn2, {"layers": 3}, layers=3)


@pytest.mark.parametrize("steps", [1, 3])
def test_huginn(steps: int) -> None:
    parts = {"prelude": 1, "core": 2, "coda": 1, "steps": steps}
    same("hybrid/huginn.seq", loops.huginn, {**parts, "hidden": 5}, **parts)


@pytest.mark.parametrize(("first", "reuse"), [(4, [4, 2, 1]), (1, [1, 1, 1])])
def test_intra_layer_recurrence(first: int, reuse: list[int]) -> None:
    sizes = {"layers": len(reuse), "first": first, "hidden": 5}
    same("hybrid/reuse.seq", loops.intra_layer, sizes, reuse=reuse)
