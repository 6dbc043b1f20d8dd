"""Sequences that are packed one after another, each with states of its own.

A sequence is cut into pieces whose lengths are different powers of two, the longest first.  The pieces of one length,
of all sequences that have one, are a batch.  So every token is computed once, nothing is padded, and of sequences of up
to n tokens there are at most log2(n) + 1 batches.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LAYOUTS = 64  # that are kept


class Piece(NamedTuple):
    """A batch of pieces: how many tokens each has, and the numbers of the sequences that they are of."""

    time: int
    rows: Tensor


class Layout(NamedTuple):
    """The batches in order; `order` has the tokens as they go through them, `back` says where each then is."""

    order: Tensor
    back: Tensor
    pieces: tuple[Piece, ...]


def boundaries(cu_seqlens: Tensor, time: int) -> Tensor:
    """Where sequences that are packed one after another begin: `reset` [1, time] of a batch of one row.

    `cu_seqlens` has the number of tokens before each sequence, and that of all of them.
    """
    flags = torch.zeros(1, time + 1, dtype=torch.bool, device=cu_seqlens.device)
    return flags.index_fill(1, cu_seqlens.long(), True)[:, :time]


def packed(
    module: nn.Module,
    cu_seqlens: Sequence[int] | Tensor,
    state: Mapping[str, Tensor] | None = None,
    **inputs: Tensor,
) -> tuple[Any, dict[str, Tensor]]:
    """What `module(**inputs, state=state)` gives for each sequence by itself: the outputs packed, and the final states.

    Inputs are [1, time, …], states [sequences, …], those of `init_state` if none are given.  `cu_seqlens` has the
    number of tokens before each sequence, and that of all of them; it is read on the CPU.  Raises ValueError for
    lengths that do not fit, and for states that grow with the sequence.
    """
    ends = [int(n) for n in (cu_seqlens.tolist() if isinstance(cu_seqlens, Tensor) else cu_seqlens)]
    _examine(ends, inputs)
    count, first = len(ends) - 1, next(iter(inputs.values()))
    layout = _layout(tuple(ends), first.device)
    states = dict(_initial(module, count, inputs) if state is None else state)
    ordered = {name: x[0].index_select(0, layout.order) for name, x in inputs.items()}
    sizes = [piece.time * len(piece.rows) for piece in layout.pieces]
    parts = {name: x.split(sizes) for name, x in ordered.items()}
    made: list[Any] = []
    for number, (time, rows) in enumerate(layout.pieces):
        given = {name: x[number].unflatten(0, (len(rows), time)) for name, x in parts.items()}
        whole = len(rows) == count
        before = states if whole else {name: x.index_select(0, rows) for name, x in states.items()}
        out, after = module(**given, state=before)
        _same_shapes(before, after)
        made.append(out)
        states = after if whole else _put(states, rows, after)
    return _together(made, layout.back), dict(states)


def _examine(ends: Sequence[int], inputs: Mapping[str, Tensor]) -> None:
    if not inputs:
        raise ValueError("packed sequences need inputs: give each by its name")
    if ends[:1] != [0] or len(ends) < 2 or ends[-1] < 1 or any(a > b for a, b in pairwise(ends)):
        raise ValueError(f"`cu_seqlens` must begin with 0 and never fall, and have tokens; it is {ends}")
    for name, x in inputs.items():
        if x.shape[:2] != (1, ends[-1]):
            raise ValueError(
                f"`{name}` is {list(x.shape)}: by `cu_seqlens` it should be [1, {ends[-1]}, …], one row of all tokens"
            )


def _initial(module: Any, count: int, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The states before the first tokens, of a rule mapped over the axes that inputs have before their own."""
    mapped: tuple[int, ...] = ()
    if hasattr(module, "ranks"):
        names = list(inspect.signature(module.forward).parameters)[: len(module.ranks)]
        if missing := [name for name in names if name not in inputs]:
            raise ValueError(f"the input `{missing[0]}` is missing")
        shapes = [inputs[name].shape[2:] for name in names]
        own = [shape[: len(shape) - rank] for shape, rank in zip(shapes, module.ranks, strict=True)]
        mapped = tuple(torch.broadcast_shapes(*own))
    found: dict[str, Tensor] = module.init_state(count, *mapped)
    return found


@lru_cache(LAYOUTS)
@torch.inference_mode(False)  # what is kept may be needed on a way back later
def _layout(ends: tuple[int, ...], device: torch.device) -> Layout:
    lengths = [after - before for before, after in pairwise(ends)]
    order, pieces = list[Tensor](), list[Piece]()
    for bit in reversed(range(max(lengths).bit_length())):
        time = 1 << bit
        rows = [row for row, length in enumerate(lengths) if length & time]
        if rows:
            longer = -2 * time  # a mask: what the longer pieces of a sequence have taken
            begins = [ends[row] + (lengths[row] & longer) for row in rows]
            order.append((torch.tensor(begins)[:, None] + torch.arange(time)).flatten())
            pieces.append(Piece(time, torch.tensor(rows, device=device)))
    whole = torch.cat(order)
    return Layout(whole.to(device), whole.argsort().to(device), tuple(pieces))


def _same_shapes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    for name, x in after.items():
        if x.shape != before[name].shape:
            raise ValueError(
                f"the state `{name}` grows with the sequence, which states of packed sequences cannot: take one"
                " sequence at a time, or all in one row with `reset=boundaries(cu_seqlens, time)`"
            )


def _put(states: Mapping[str, Tensor], rows: Tensor, after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The states with those of some sequences replaced."""
    return {name: states[name].to(x.dtype).index_copy(0, rows, x) for name, x in after.items()}


def _together(made: Sequence[Any], back: Tensor) -> Any:
    """The outputs of the batches, in the order of the tokens."""
    if isinstance(made[0], tuple):
        return tuple(_together(parts, back) for parts in zip(*made, strict=True))
    return torch.cat([x.flatten(0, 1) for x in made]).index_select(0, back)[None]
