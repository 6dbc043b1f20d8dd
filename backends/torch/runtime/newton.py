"""Stages whose states are found at all tokens at once, by Newton's iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .scans import scan
    from .stages import Stage, Values, ask


class NewtonStage(Stage):
    """A loop whose states after all tokens of a stretch are guessed and corrected (DEER, arXiv 2309.12252).

    `tangent` gives, from the states before a token, the states after it under their names and, under "x/y", how each
    entry of x after it changes with the same entry of y before it; what is missing does not.  These are all derivatives
    there are if `exact`.  A guess holds where the updates meet it within `tolerance` roundings; after `limit`
    corrections the loop goes on from the first token where it does not.
    """

    exact: ClassVar[bool]
    limit: ClassVar[int]
    tolerance: ClassVar[int]
    tangent: ClassVar[Callable[..., Values]]

    @classmethod
    def course(cls, part: Values, state: Values, count: int, active: Tensor | None) -> tuple[Values, Values]:
        names, start = list(cls.carried), stack_states(state)
        guess = start[:, :, None].expand(-1, -1, count, *start.shape[2:])

        def linearised(before: Tensor) -> tuple[Tensor, Tensor]:
            found = ask(cls.tangent, part | unstack_states(before, names))
            return torch.stack([found[name] for name in names]), cls.slopes(found)

        guess, settled = newton_solve(linearised, start, guess, cls.limit, cls.tolerance)
        begins, state = (
            states_before(start, guess),
            unstack_states(guess[:, :, -1] if settled else start, names),
        )
        if settled == count:
            return unstack_states(begins, names), state
        state = unstack_states(begins[:, :, settled], names)
        rest, state = super().course(cls.stretch(part, settled, count), state, count - settled, active)
        return unstack_states(torch.cat([begins[:, :, :settled], stack_states(rest)], 2), names), state

    @classmethod
    def course_back(
        cls, part: Values, direct: Values, flowing: Values, count: int, active: Tensor | None
    ) -> tuple[Values, Values]:
        """Solved for the cotangents of the states before each token, which begin at the last."""
        names, end = list(flowing), stack_states(flowing)
        own = torch.stack([direct.get(n, torch.zeros_like(part[n[2:]])) for n in names]).flip(2)
        gates = cls.slopes(ask(cls.tangent, part)).transpose(0, 1).flip(3)

        def linearised(after: Tensor) -> tuple[Tensor, Tensor]:
            found = ask(cls.back, part | unstack_states(after.flip(2), names))
            flows = [found[n] if n in found else torch.zeros_like(end[0]) for n in names]
            return own + torch.stack(flows).flip(2), gates

        first = own[:, :, :1] + entrywise_product(gates[:, :, :, 0], end)[:, :, None]
        guess = entrywise_scan(gates, torch.cat([first, own[:, :, 1:]], 2))
        settled = count if bool(guess.isfinite().all()) else 0
        if not cls.exact:
            guess, settled = newton_solve(linearised, end, guess, cls.limit, cls.tolerance)
        ends = states_before(end, guess).flip(2)
        if settled == count:
            return unstack_states(ends, names), unstack_states(guess[:, :, -1], names)
        left = count - settled
        flowing = unstack_states(ends[:, :, left - 1], names)
        early = {name: x[:, :left] for name, x in direct.items()}
        rest, flowing = super().course_back(cls.stretch(part, 0, left), early, flowing, left, active)
        return unstack_states(torch.cat([stack_states(rest), ends[:, :, left:]], 2), names), flowing

    @classmethod
    def slopes(cls, found: Values) -> Tensor:
        """[after, before, …]: the derivatives of all states by all states."""
        names = list(cls.carried)
        none = torch.zeros_like(found[names[0]])
        rows = [torch.stack([found.get(f"{x}/{y}", none) for y in names]) for x in names]
        return torch.stack(rows)


def stack_states(values: Values) -> Tensor:
    """States of one shape as one tensor [state, …]."""
    return torch.stack(list(values.values()))


def unstack_states(stacked: Tensor, names: list[str]) -> Values:
    return dict(zip(names, stacked.unbind(0), strict=True))


def states_before(start: Tensor, after: Tensor) -> Tensor:
    """The states before each token, [state, batch, time, …], from those after it and those before the first."""
    return torch.cat([start[:, :, None], after[:, :, :-1]], 2)


def newton_solve(
    linearised: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    guess: Tensor,
    limit: int,
    tolerance: int,
) -> tuple[Tensor, int]:
    """The states after all tokens [state, batch, time, …], and for how many tokens from the first they are right.

    `linearised` gives the states after each token from those before it, and the derivatives.  A state is right if it
    and all before it are what follows from the state before, within `tolerance` roundings of the largest yet.
    """
    settled = 0
    for k in range(limit + 1):
        after, gates = linearised(states_before(start, guess))
        missing = after - guess
        settled = settled_tokens(missing, after, tolerance)
        if settled == guess.shape[2] or k == limit:
            break
        better = guess + entrywise_scan(gates, missing)
        better = torch.where(better.isfinite(), better, after)
        guess = torch.where(better.isfinite(), better, torch.zeros_like(better))
    return guess, settled


def settled_tokens(missing: Tensor, after: Tensor, tolerance: int) -> int:
    """For how many tokens from the first, in every row, hardly anything is missing."""
    shape = (*after.shape[:3], -1)
    largest = after.abs().reshape(shape).amax(3).cummax(2).values
    bound = tolerance * torch.finfo(after.dtype).eps * largest
    close = (missing.abs().reshape(shape).amax(3) <= bound).all(0)
    return int(close.cumprod(1).sum(1).min())


def entrywise_scan(gates: Tensor, sources: Tensor) -> Tensor:
    """h[i] = gates[i] h[i - 1] + sources[i] along time, from zero, for [state, batch, time, …] and gates to match.

    Stretches of about as many tokens as there are stretches run side by side, then one from the end of the other.
    """
    time = sources.shape[2]
    size = max(1, round(time**0.5))
    if missing := -time % size:
        gates = torch.cat([gates, gates.new_zeros((*gates.shape[:3], missing, *gates.shape[4:]))], 3)
        sources = torch.cat(
            [sources, sources.new_zeros((*sources.shape[:2], missing, *sources.shape[3:]))], 2
        )
    gates, sources = gates.unflatten(3, (-1, size)), sources.unflatten(2, (-1, size))
    local, kept = entrywise_sweep(gates, sources, 3), entrywise_products(gates, 4)
    ends = entrywise_sweep(kept[:, :, :, :, -1], local[:, :, :, -1], 2)
    before = torch.cat([torch.zeros_like(ends[:, :, :1]), ends[:, :, :-1]], 2)
    return (local + entrywise_product(kept, before[:, :, :, None])).flatten(2, 3)[:, :, :time]


def entrywise_sweep(gates: Tensor, sources: Tensor, dim: int) -> Tensor:
    """The scan, one after the other along dimension `dim` of the sources."""
    if gates.shape[0] == 1:
        return scan(gates[0], sources, dim)
    results: list[Tensor] = []
    for gate, source in zip(gates.unbind(dim + 1), sources.unbind(dim), strict=True):
        results.append(source + entrywise_product(gate, results[-1]) if results else source)
    return torch.stack(results, dim)


def entrywise_products(gates: Tensor, dim: int) -> Tensor:
    """The product of the matrices up to each along a dimension."""
    results: list[Tensor] = []
    for gate in gates.unbind(dim):
        results.append((gate[:, :, None] * results[-1]).sum(1) if results else gate)
    return torch.stack(results, dim)


def entrywise_product(gates: Tensor, x: Tensor) -> Tensor:
    """Matrices [state, state, …] of elementwise factors, applied to states [state, …]."""
    return gates[:, 0] * x if gates.shape[0] == 1 else (gates * x).sum(1)
