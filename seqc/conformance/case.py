"""A rule or a model under examination: its inputs, its weights and what the oracle says of it.

Inputs and weights are numbers that single precision holds, so what the oracle answers for double precision is its
answer for single precision too.  One run answers for all lengths: it halts where a check looks, and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from seqc.conformance.compare import UNITS, rounded, single
from seqc.conformance.roles import Role, draw, roles_of
from seqc.ir.expr import DType, Leaf, LeafKind
from seqc.ir.paths import NamedState, state_table
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence
from seqc.ir.timing import reads_future, varying_outputs
from seqc.oracle import Outputs, States, run_model, run_recurrence

Tensors = Mapping[str, Tensor]

BATCH = 2


@dataclass(frozen=True, eq=False)
class Case:
    """`weights` are float64, by full name, and no finer than single precision."""

    name: str
    whole: Recurrence | Model
    weights: dict[str, Tensor]
    fast: bool = False
    known: dict[object, Answer] = field(default_factory=dict[object, "Answer"])
    stretches: dict[torch.dtype, list[Stretch]] = field(default_factory=dict[torch.dtype, "list[Stretch]"])
    gradients: dict[object, dict[str, Tensor]] = field(default_factory=dict[object, dict[str, Tensor]])

    # A length that is no multiple of a block, and longer than one.
    usual: ClassVar[int] = 70

    @property
    def lengths(self) -> tuple[int, ...]:
        return (1, 2, 63, 64, 65) if self.fast else (1, 2, 63, 64, 65, 257)

    @property
    def long(self) -> int:
        return 400 if self.fast or isinstance(self.whole, Model) else 2000

    @property
    def stops(self) -> tuple[int, ...]:
        """The lengths at which the oracle is asked."""
        return tuple(sorted({*self.lengths, self.usual, self.long}))

    @property
    def owner(self) -> Recurrence | Function:
        return self.whole.body if isinstance(self.whole, Model) else self.whole

    @property
    def inputs(self) -> tuple[Leaf, ...]:
        return self.owner.inputs

    @cached_property
    def steps(self) -> bool:
        """Whether the program can go token by token."""
        return not reads_future(self.whole)

    @cached_property
    def varying(self) -> tuple[bool, ...]:
        """For each output, whether it has a value a token."""
        return varying_outputs(self.owner)

    @cached_property
    def states(self) -> dict[str, NamedState]:
        return state_table(self.whole)

    @cached_property
    def roles(self) -> dict[str, Role]:
        if isinstance(self.whole, Recurrence):
            return roles_of(self.whole, self.weights)
        return {leaf.name: Role("normal") for leaf in self.inputs}

    def gates(self) -> tuple[str, ...]:
        return tuple(name for name, role in self.roles.items() if role.kind == "gate")

    def keys(self) -> tuple[str, ...]:
        return tuple(name for name, role in self.roles.items() if role.kind == "unit")

    def draw(self, time: int, *, batch: int = BATCH, seed: int = 0) -> dict[str, Tensor]:
        """Inputs in double precision; fewer tokens are the first of more."""
        tokens = [leaf for leaf in self.inputs if leaf.dtype is DType.INT]
        others = [leaf for leaf in self.inputs if leaf.dtype is not DType.INT]
        made = draw(others, self.owner.sizes, self.roles, batch, time, seed)
        for leaf in tokens:
            generator = torch.Generator().manual_seed(seed)
            made[leaf.name] = torch.randint(
                self.vocabulary, (time, batch), generator=generator
            ).T.contiguous()
        return {leaf.name: single(made[leaf.name]) for leaf in self.inputs}

    @cached_property
    def vocabulary(self) -> int:
        """The length of the axis that tokens look up."""
        from seqc.ir.expr import Gather
        from seqc.ir.paths import instances
        from seqc.ir.traverse import walk

        lengths = [
            instance.owner.sizes[node.axis]
            for instance in instances(self.whole)
            if isinstance(instance.owner, Function)
            for node in walk(instance.owner.outputs)
            if isinstance(node, Gather) and isinstance(node.index, Leaf) and node.index.kind is LeafKind.INPUT
        ]
        return min(lengths, default=2)

    def oracle(
        self,
        inputs: Tensors,
        dtype: torch.dtype = torch.float64,
        state: States | None = None,
        reset: Tensor | None = None,
        weights: Tensors | None = None,
    ) -> tuple[Outputs, States]:
        """What should come out for inputs and weights as `dtype` holds them."""
        inputs = {name: rounded(x, dtype) for name, x in inputs.items()}
        held = {name: rounded(x, dtype) for name, x in self.weights.items()} if weights is None else weights
        if isinstance(self.whole, Model):
            return run_model(self.whole, inputs, held, state, reset)
        return run_recurrence(self.whole, inputs, held, state, reset)

    def expected(self, time: int, dtype: torch.dtype) -> tuple[dict[str, Tensor], Answer]:
        """Inputs of a length, and the oracle's answer."""
        inputs = self.draw(time)
        if self.steps and time in self.stops and (time, dtype) not in self.known:
            outputs, states = self._up_to(time, as_held(dtype))
            self.learn(time, inputs, dtype, None, outputs, states)
        return inputs, self.answer(time, inputs, dtype)

    def answer(self, key: object, inputs: Tensors, dtype: torch.dtype, reset: Tensor | None = None) -> Answer:
        """The oracle's answer, which is worked out once for a key."""
        if (key, dtype) not in self.known:
            held = as_held(dtype)
            if held is not dtype:
                known = self.answer(key, inputs, held, reset)
                outputs, states = known.outputs, known.states
            else:
                with torch.no_grad():
                    outputs, states = self.oracle(inputs, dtype, reset=reset)
            self.learn(key, inputs, dtype, reset, outputs, states)
        return self.known[key, dtype]

    def learn(
        self,
        key: object,
        inputs: Tensors,
        dtype: torch.dtype,
        reset: Tensor | None,
        outputs: Outputs,
        states: States,
    ) -> None:
        """Keep what the oracle has said."""
        outputs = tuple(x.detach() for x in outputs)
        states = {name: x.detach() for name, x in states.items()}
        self.known.setdefault((key, dtype), Answer(self, inputs, dtype, reset, outputs, states))

    def _up_to(self, time: int, dtype: torch.dtype) -> tuple[Outputs, States]:
        """What the oracle says of so many of the drawn tokens."""
        known = self.stretches.setdefault(dtype, [])
        reached = known[-1].stop if known else 0
        for stop in self.stops:
            if reached < stop <= time:
                with torch.no_grad():
                    state = known[-1].states if known else None
                    outputs, states = self.oracle(part(self.draw(stop), reached), dtype, state)
                known.append(Stretch(stop, outputs, states))
                reached = stop
        pieces = [stretch for stretch in known if stretch.stop <= time]
        series = zip(*(piece.outputs for piece in pieces), strict=True)
        return tuple(torch.cat(each, 1) for each in series), pieces[-1].states


@dataclass(frozen=True, slots=True)
class Stretch:
    """What the oracle said of the tokens before `stop`, since the stretch before."""

    stop: int
    outputs: Outputs
    states: States


@dataclass(eq=False)
class Answer:
    """What the oracle says for some inputs, as `dtype` holds them."""

    case: Case
    inputs: Tensors
    dtype: torch.dtype
    reset: Tensor | None
    outputs: Outputs
    states: States

    @property
    def values(self) -> list[Tensor]:
        return [*self.outputs, *self.states.values()]

    @cached_property
    def shaken(self) -> tuple[Outputs, States]:
        """The same for inputs and weights that differ by some units of rounding: how well the answer is defined."""
        with torch.no_grad():
            inputs, weights = shake(self.inputs, self.dtype), shake(self.case.weights, self.dtype)
            return self.case.oracle(inputs, torch.float64, reset=self.reset, weights=weights)


def shake(tensors: Tensors, dtype: torch.dtype) -> dict[str, Tensor]:
    """Numbers as `dtype` holds them, each changed by at most `UNITS` in its last place."""
    made: dict[str, Tensor] = {}
    for number, (name, x) in enumerate(tensors.items()):
        made[name] = rounded(x, dtype)
        if x.is_floating_point():
            generator = torch.Generator().manual_seed(number)
            noise = 2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1
            made[name] = made[name] * (1 + UNITS[dtype] * torch.finfo(dtype).eps * noise)
    return made


def as_held(dtype: torch.dtype) -> torch.dtype:
    """The width that decides what numbers the oracle is given where a form computes in `dtype`."""
    return torch.float64 if dtype is torch.float32 else dtype


def cast(inputs: Tensors, dtype: torch.dtype) -> dict[str, Tensor]:
    """Inputs as a form that computes in `dtype` is given them."""
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.items()}


def part(inputs: Tensors, start: int, stop: int | None = None) -> dict[str, Tensor]:
    """Some of the tokens."""
    return {name: x[:, start:stop] for name, x in inputs.items()}


def at(inputs: Tensors, token: int) -> dict[str, Tensor]:
    return {name: x[:, token] for name, x in inputs.items()}
