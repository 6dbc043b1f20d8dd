"""What emitted classes inherit: named parameters, rules, blocks and whole models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

States = dict[str, Tensor]


class Weights(nn.Module):
    """A place for parameters and modules under dotted names."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, name: str) -> Any:
        return self._modules[name] if name in self._modules else self._parameters[name]

    def place(self, name: str, value: nn.Module | Tensor, decays: bool = True) -> None:
        """Put a module or a parameter at `name`, such as `u.linear.weight`."""
        *path, last = name.split(".")
        owner: nn.Module = self
        for part in path:
            if part not in owner._modules:
                owner._modules[part] = Weights()
            inner = owner._modules[part]
            assert inner is not None
            owner = inner
        if isinstance(value, nn.Module):
            owner._modules[last] = value
        else:
            parameter = nn.Parameter(value)
            parameter.decays = decays  # type: ignore[attr-defined]
            owner._parameters[last] = parameter

    def exact(self, name: str, like: Tensor) -> Tensor:
        """A parameter in the precision of `like`."""
        owner: Any = self
        for part in name.split("."):
            owner = owner._modules[part] if part in owner._modules else owner._parameters[part]
        weight: Tensor = owner
        return weight.to(like.real.dtype if like.is_complex() else like.dtype)


class Rule(Weights):
    """A recurrence.  States are kept and advanced in single precision, or in double where module or inputs are."""

    ranks: ClassVar[tuple[int, ...]]  # how many axes each input has
    states: ClassVar[tuple[str, ...]] = ()
    stores: ClassVar[tuple[str, ...]] = ()  # those states that grow
    like: Tensor

    def __init__(self, seed: int | torch.Generator = 0) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(0), persistent=False)

    def initial(self, *args: Any, **kwargs: Any) -> States:
        """The states before the first token, for a batch; after it the parameters that a caller passes in."""
        raise NotImplementedError

    def token(self, *args: Any, **kwargs: Any) -> tuple[tuple[Tensor, ...], States]:
        """One token, from the states before it, inputs [batch, …axes], and the parameters that a caller passes in."""
        raise NotImplementedError

    def sequence(self, *args: Any, **kwargs: Any) -> tuple[tuple[Tensor, ...], States]:
        """The same for states, resets and inputs [batch, time, …axes]; here token after token."""
        state, reset, *inputs = args
        count = len(self.ranks)
        given, outputs = inputs[count:], list[tuple[Tensor, ...]]()
        for t, here in enumerate(zip(*(x.unbind(1) for x in inputs[:count]), strict=True)):
            if reset is not None:
                state = restarted(state, self.initial(here[0].shape[0], *given), reset[:, t], self.stores)
            out, state = self.token(state, *here, *given)
            outputs.append(out)
        return tuple(torch.stack(entries, 1) for entries in zip(*outputs, strict=True)), state

    def exactly(
        self,
        state: States | None,
        reset: Tensor | None,
        single: bool,
        inputs: Sequence[Tensor],
        given: Sequence[Tensor],
        sequence: Callable[..., tuple[tuple[Tensor, ...], States]] | None = None,
    ) -> tuple[tuple[Tensor, ...], States]:
        """A token or a sequence (by `sequence`), in single or double precision whatever the inputs are."""
        first = inputs[0]
        double = any(x.dtype in (torch.float64, torch.complex128) for x in (*inputs, self.like))
        dtype = torch.float64 if double else torch.float32
        with torch.autocast(first.device.type, enabled=False):
            inputs = [x if x.is_complex() else x.to(dtype) for x in inputs]
            given = [x if x.is_complex() else x.to(dtype) for x in given]
            if state is None:
                state = self.initial(first.shape[0], *given)
            state = {name: x.to(dtype) if x.is_floating_point() else x for name, x in state.items()}
            if single:
                outputs, state = self.token(state, *inputs, *given)
            else:
                outputs, state = (sequence or self.sequence)(state, reset, *inputs, *given)
            return tuple(x if x.is_complex() else x.to(first.dtype) for x in outputs), state

    def along(self, run: Run, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Part of a model: states are found and left under the names of `run`."""
        count = len(self.ranks)
        inputs, given = inputs[:count], inputs[count:]
        if run.single:
            inputs = tuple(x[:, 0] for x in inputs)
        outputs, state = self.exactly(run.read_all(self.states), run.reset, run.single, inputs, given)
        for name, value in state.items():
            run.write(name, value)
        return tuple(x[:, None] for x in outputs) if run.single else outputs

    def begin(self, run: Run, batch: int, *given: Tensor) -> None:
        """Leave the states before the first token in `run`."""
        for name, value in self.initial(batch, *given).items():
            run.write(name, value)

    def zeros(self, batch: int, *shape: int, complex: bool = False) -> Tensor:
        """States of zeros."""
        dtype = torch.float64 if self.like.dtype == torch.float64 else torch.float32
        return torch.zeros(
            batch, *shape, device=self.like.device, dtype=dtype.to_complex() if complex else dtype
        )

    def counts(self, batch: int) -> Tensor:
        return torch.zeros(batch, device=self.like.device, dtype=torch.int64)

    def whole(
        self, inputs: Sequence[Tensor], state: States | None, reset: Tensor | None
    ) -> tuple[tuple[Tensor, ...], States]:
        """A sequence, mapped over the axes that inputs have before their own."""
        inputs, rows = folded(inputs, self.ranks, 2)
        if len(rows) > 1:
            state = state and {name: x.flatten(0, len(rows) - 1) for name, x in state.items()}
            reset = (
                reset if reset is None else reset.repeat_interleave(inputs[0].shape[0] // reset.shape[0], 0)
            )
        outputs, state = self.exactly(state, reset, False, inputs, ())
        if len(rows) > 1:
            outputs = tuple(x.unflatten(0, rows).movedim(len(rows), 1) for x in outputs)
            state = {name: x.unflatten(0, rows) for name, x in state.items()}
        return outputs, state

    def single(self, inputs: Sequence[Tensor], state: States | None) -> tuple[tuple[Tensor, ...], States]:
        """One token, mapped over the axes that inputs have before their own."""
        inputs, rows = folded(inputs, self.ranks, 1)
        if len(rows) > 1:
            state = state and {name: x.flatten(0, len(rows) - 1) for name, x in state.items()}
        outputs, state = self.exactly(state, None, True, inputs, ())
        if len(rows) > 1:
            outputs = tuple(x.unflatten(0, rows) for x in outputs)
            state = {name: x.unflatten(0, rows) for name, x in state.items()}
        return outputs, state

    def init_state(self, batch: int, *mapped: int) -> States:
        """The states before the first token, [batch, …mapped axes, …axes]."""
        rows = batch
        for size in mapped:
            rows *= size
        return {name: x.unflatten(0, (batch, *mapped)) for name, x in self.initial(rows).items()}


class Run:
    """One pass over some tokens: the states found, the states left, and the names of both."""

    def __init__(
        self,
        clock: Tensor,
        state: States | None,
        reset: Tensor | None,
        single: bool,
        again: bool,
        path: str = "",
        new: States | None = None,
    ) -> None:
        self.clock = clock  # zeros [batch, time]
        self.state, self.reset, self.single, self.again, self.path = state, reset, single, again, path
        self.new: States = {} if new is None else new

    def at(self, name: str) -> Run:
        """The same pass, inside the part called `name`."""
        path = f"{self.path}{name}."
        return Run(self.clock, self.state, self.reset, self.single, self.again, path, self.new)

    def through(self, part: nn.Module, *inputs: Tensor) -> Any:
        """`part` applied; if asked for, computed again in the backward pass instead of kept."""
        if not (self.again and part.training and torch.is_grad_enabled()):
            return part(self, *inputs)

        def body(*inputs: Tensor) -> tuple[Any, States]:
            inner = Run(self.clock, self.state, self.reset, self.single, self.again, self.path)
            return part(inner, *inputs), inner.new

        out, new = checkpoint(body, *inputs, use_reentrant=False)
        self.new.update(new)
        return out

    def zeros(self, *shape: int) -> Tensor:
        return self.clock.new_zeros(shape)

    def read(self, name: str) -> Tensor | None:
        return None if self.state is None else self.state[self.path + name]

    def read_all(self, names: Sequence[str]) -> States | None:
        return None if self.state is None else {name: self.state[self.path + name] for name in names}

    def write(self, name: str, value: Tensor) -> None:
        self.new[self.path + name] = value


class Block(Weights):
    """A part of a model."""

    def initial(self, *args: Any, **kwargs: Any) -> None:
        """Leave the states before the first token in a run, for a batch."""


class Network(Block):
    """A whole model.  `state` is a flat dict of named tensors [batch, …].

    Set `checkpoint` to compute repeated blocks again in the backward pass instead of keeping what they made.
    """

    checkpoint = False
    pooled: ClassVar[bool] = False  # one output a sequence
    reads_future: ClassVar[bool] = False  # then there is no step, and no state to go on from
    like: Tensor

    def __init__(self, seed: int | torch.Generator = 0) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(0), persistent=False)

    def body(self, run: Run, tokens: Tensor) -> Tensor:
        raise NotImplementedError

    def run(self, batch: int, time: int, state: States | None, reset: Tensor | None, single: bool) -> Run:
        if self.reads_future and (single or state is not None):
            raise RuntimeError(f"{type(self).__name__} reads the future: it has no step and takes no state")
        dtype = torch.float64 if self.like.dtype == torch.float64 else torch.float32
        clock = torch.zeros(batch, time, dtype=dtype, device=self.like.device)
        return Run(clock, state, reset, single, self.checkpoint)

    def forward(
        self, tokens: Tensor, state: States | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, States]:
        """Outputs [batch, time, …] and the states after the last token; `reset` [batch, time] begins anew."""
        run = self.run(tokens.shape[0], tokens.shape[1], state, reset, False)
        out = self.body(run, tokens)
        return out[:, 0] if self.pooled else out, run.new

    def step(self, token: Tensor, state: States | None = None) -> tuple[Tensor, States]:
        """One token a row, [batch, …]."""
        run = self.run(token.shape[0], 1, state, None, True)
        return self.body(run, token[:, None])[:, 0], run.new

    def init_state(self, batch: int) -> States:
        """The states before the first token."""
        run = self.run(batch, 0, None, None, False)
        self.initial(run, batch)
        return run.new

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For an optimiser: parameters with and without weight decay."""
        return parameter_groups(self)


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Parameters with and without weight decay; the second group's is 0."""
    kept = [p for p in module.parameters() if getattr(p, "decays", True)]
    free = [p for p in module.parameters() if not getattr(p, "decays", True)]
    return [{"params": kept}, {"params": free, "weight_decay": 0.0}]


def wide(x: Tensor) -> Tensor:
    """`x` in single precision at least."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """`weight` [out, in] applied to `x` […, in]."""
    return F.linear(x if x.dtype == weight.dtype else x.to(weight.dtype), weight)


def restarted(state: States, initial: States, reset: Tensor, stores: Sequence[str]) -> States:
    """`initial` in the rows where `reset` [batch] holds; entries of a store stay and are no longer counted."""
    rows = {name: reset.view(-1, *(1,) * (x.dim() - 1)) for name, x in state.items()}
    return {n: x if n in stores else torch.where(rows[n], initial[n], x) for n, x in state.items()}


def folded(inputs: Sequence[Tensor], ranks: Sequence[int], lead: int) -> tuple[list[Tensor], tuple[int, ...]]:
    """Mapped axes, which stand before an input's own, moved into the batch; and what the batch is made of."""
    shapes = [x.shape[lead : x.dim() - rank] for x, rank in zip(inputs, ranks, strict=True)]
    mapped = tuple(torch.broadcast_shapes(*shapes))
    rows = (inputs[0].shape[0], *mapped)
    if not mapped:
        return list(inputs), rows
    moved: list[Tensor] = []
    for x, rank in zip(inputs, ranks, strict=True):
        x = x[(slice(None),) * lead + (None,) * (len(mapped) - (x.dim() - rank - lead))]
        x = x.expand(*x.shape[:lead], *mapped, *x.shape[x.dim() - rank :])
        x = x.movedim(1, len(rows)) if lead == 2 else x
        moved.append(x.flatten(0, len(mapped)))
    return moved, rows


def at_reset(reset: Tensor | None, yes: Tensor | float, no: Tensor) -> Tensor:
    """`yes` at the tokens that begin a new sequence, else `no` [batch, time, …]."""
    return no if reset is None else torch.where(reset[(..., *(None,) * (no.dim() - 2))], yes, no)


def resets(reset: Tensor | None, like: Tensor) -> Tensor:
    """The tokens that begin a new sequence."""
    return torch.zeros(like.shape[:2], dtype=torch.bool, device=like.device) if reset is None else reset
