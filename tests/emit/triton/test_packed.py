"""Packed sequences with states of their own, where PyTorch runs; kernels do in `test_rules.py`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.emit.torch import rules
from tests.emit.torch.rules import inputs_of
from tests.emit.triton.parts import BACKEND, SPECS, scheduled

if TYPE_CHECKING:
    from backends.triton import runtime  # noqa: TID251  # what `seqc.backends` is in a checkout
else:
    from seqc.backends.triton import runtime

packed: Any = runtime.packed  # inputs have any names
ENDS = [0, 13, 13, 14, 21]


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def alone(module: Any, **inputs: Tensor) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Each sequence by itself: the outputs one after another, and the final states."""
    outs, ends = list[Tensor](), list[dict[str, Tensor]]()
    for start, end in pairwise(ENDS):
        state = module.init_state(1)
        if start < end:
            out, state = module(**{name: x[:, start:end] for name, x in inputs.items()})
            outs.append(out)
        ends.append(state)
    return torch.cat(outs, 1), ends


def test_a_model_of_packed_sequences() -> None:
    """Its windows, counts and convolutions are states as well."""
    handle = seqc.load(SPECS / "hybrid" / "griffin.seq")
    model = handle.model(d=8, w=8, h=2, n=4, layers=3).triton().double()
    tokens = torch.randint(256, (1, ENDS[-1]), generator=torch.Generator().manual_seed(0))
    out, state = packed(model, ENDS, tokens=tokens)
    wanted, ends = alone(model, tokens=tokens)
    close(out, wanted)
    for name, x in state.items():
        close(x, torch.cat([end[name] for end in ends]))


def test_rules_over_further_axes_begin_from_their_initial_states() -> None:
    rec = rules.gated_delta()
    module: Any = BACKEND.module(scheduled(rec)).double()
    inputs = {
        name: x.detach()[:, :, None].repeat_interleave(3, 2) for name, x in inputs_of(rec, 1, 21).items()
    }
    out, state = packed(module, torch.tensor(ENDS), **inputs)
    single = {name: x[:, :, 0] for name, x in inputs.items()}
    wanted, ends = alone(module, **single)
    assert state["S"].shape[:2] == (4, 3)
    close(out, wanted[:, :, None].expand_as(out))
    close(state["S"][:, 1], torch.cat([end["S"] for end in ends]))


@pytest.mark.parametrize("ends", [[], [0], [0, 0], [1, 6], [0, 4, 3, 6], [0, 5], [0, 7]])
def test_lengths_that_do_not_fit_are_said(ends: list[int]) -> None:
    rec = rules.average()
    inputs = {name: x.detach() for name, x in inputs_of(rec, 1, 6).items()}
    with pytest.raises(ValueError, match="cu_seqlens"):
        packed(BACKEND.module(scheduled(rec)), ends, **inputs)


def test_inputs_of_several_rows_or_missing_are_said() -> None:
    rec = rules.average()
    module = BACKEND.module(scheduled(rec))
    inputs = {name: x.detach() for name, x in inputs_of(rec, 2, 3).items()}
    with pytest.raises(ValueError, match="one row"):
        packed(module, [0, 3], **inputs)
    with pytest.raises(ValueError, match="give each by its name"):
        packed(module, [0, 3])
    name, x = next(iter(inputs.items()))
    with pytest.raises(ValueError, match="is missing"):
        packed(module, [0, 3], **{name: x[:1]})


def test_states_that_grow_are_said() -> None:
    module = seqc.load(SPECS / "attention" / "fox.seq").rule(n=5, m=3).triton()
    x = {"q": torch.rand(1, 6, 5), "k": torch.rand(1, 6, 5), "v": torch.rand(1, 6, 3)}
    with pytest.raises(ValueError, match="boundaries"):
        packed(module, [0, 2, 6], **x, log_f=-torch.rand(1, 6))
