"""How many tokens a block has: measured once for a rule as a whole, and kept on disk beside what launches take.

It is known by GPU, kernels, type, batch and time, rounded to powers of two, and whether gradients are asked for.
Without a GPU, with `SEQC_TUNE=0`, and while a CUDA graph is recorded, nothing is measured.  `torch.compile` takes what
was chosen first for a type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .attach import Results, fused_class
from .known import keep, key_of, measures, milliseconds, recalled
from .launch import power_of_two

LOOP = 0  # in place of a length: token by token, in the rule's loop

# As the method `sequence` of a rule: of it, the states, where sequences begin anew, and the inputs.
Way = Callable[..., Results]
Met = tuple[torch.dtype, bool, int, int]  # what a choice is for


class Lengths:
    """The ways in which a rule goes through a sequence: in blocks of so many tokens each, and as a `LOOP`.

    They are made when they are first asked for; the first is the one that is taken where nothing was measured.  What
    makes one of the others may find that there is none.  `about` is a text that says what the kernels are.
    """

    def __init__(self, about: str, makers: Mapping[int, Callable[[], Way | None]]) -> None:
        self.about, self.makers, self.first = about, dict(makers), next(iter(makers))
        self.ways = {self.first: self.makers[self.first]()}
        self.settled: dict[tuple[torch.device, Met], int] = {}
        self.compiled: dict[tuple[torch.dtype, bool], int] = {}

    def way(self, block: int) -> Way | None:
        if block not in self.ways:
            self.ways[block] = self.makers[block]()
        return self.ways[block]

    def block(self, x: Tensor, time: int) -> int:
        """What is chosen for sequences of which `x` is the first input, so far."""
        if torch.compiler.is_compiling():
            return self.compiled.get((x.dtype, _differentiated(x)), self.first)
        if not self.settled or not measures(x):
            return self.first
        return self.settled.get((x.device, _met(x, time)), self.first)

    def through(self, x: Tensor, time: int) -> Way | None:
        """How to go through sequences of which `x` is the first input."""
        if torch.compiler.is_compiling() or not measures(x):
            return self.way(self.block(x, time))
        return partial(self.run, x, time)

    def run(
        self, x: Tensor, time: int, rule: Any, state: dict[str, Tensor], reset: Tensor | None, *args: Tensor
    ) -> Results:
        """By what is chosen, or is now."""
        met = _met(x, time)
        block = self.settled.get((x.device, met))
        if block is None:
            block = self.chosen(x, met, lambda way: timed(way, x, rule, state, reset, args))
        way = self.way(block)
        assert way is not None
        return way(rule, state, reset, *args)

    def chosen(self, x: Tensor, met: Met, measure: Callable[[Way], float]) -> int:
        """What is known on disk, else the quickest by `measure`, which is then known; the first if nothing is."""
        key = key_of(x, (self.about, *map(str, met)))
        known = recalled(key)
        block = known[0] if len(known) == 1 else None
        if block not in self.makers or self.way(block) is None:
            if torch.cuda.is_current_stream_capturing():
                return self.first
            with torch.cuda.device_of(x):
                block = self.quickest(measure)
            if block is None:  # not even the default, while gradients are measured beside what else there is
                block = self.first
            else:
                keep(key, [block])
        self.settled[x.device, met] = block
        self.compiled.setdefault(met[:2], block)
        return block

    def quickest(self, measure: Callable[[Way], float]) -> int | None:
        """None if none of them runs.  The first one stays where nothing is quicker."""
        best, least = None, float("inf")
        for block in self.makers:
            way = self.way(block)
            if way is not None and (time := measure(way)) < least:
                best, least = block, time
        return best


def looped(rule: Any, state: dict[str, Tensor], reset: Tensor | None, *args: Tensor) -> Results:
    """A sequence by the loop of a rule, as the method `sequence` of its class."""
    twin: Any = object.__new__(fused_class(rule.plain, rule.fused, decided=True))
    twin.__dict__ = rule.__dict__  # the same parameters
    found: Results = twin.sequence(state, reset, *args)
    return found


def timed(
    way: Way,
    x: Tensor,
    rule: Any,
    state: Mapping[str, Tensor],
    reset: Tensor | None,
    args: Sequence[Tensor],
) -> float:
    """How long a sequence takes, with the gradients of what asks for some if `x`, its first input, does.

    The tensors are cut off from whatever they were computed from, and so is what is saved for the way back.
    """
    wanted = _differentiated(x)
    given = [_cut(each, wanted) for each in args]
    before = {name: _cut(each, wanted) for name, each in state.items()}
    leaves = [each for each in (*given, *before.values()) if each.requires_grad]

    def once() -> None:
        outputs, after = way(rule, dict(before), reset, *given)
        if leaves:
            ends = [each for each in (*outputs, *after.values()) if each.requires_grad]
            torch.autograd.grad(ends, leaves, [each.detach() for each in ends], allow_unused=True)

    with torch.set_grad_enabled(wanted), torch.autograd.graph.saved_tensors_hooks(_same, _same):
        return milliseconds(once)


def _cut(x: Tensor, wanted: bool) -> Tensor:
    return x.detach().requires_grad_(wanted and x.requires_grad)


def _same(x: Tensor) -> Tensor:
    return x


def _met(x: Tensor, time: int) -> Met:
    return x.dtype, _differentiated(x), power_of_two(x.shape[0]), power_of_two(time)


def _differentiated(x: Tensor) -> bool:
    """Whether gradients are asked for, of which the first input speaks for all."""
    return torch.is_grad_enabled() and x.requires_grad
