"""Rules that are mapped over axes of open length: the lengths are read off the inputs of each call.

What runs is an emitted module all the same, one for every combination of lengths that is met, and all of them hold
the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from seqc.errors import UserError
from seqc.ir.recurrence import Recurrence

from .rules import argument_names


def open_axes(recurrence: Recurrence) -> tuple[str, ...]:
    """The mapped axes without a length."""
    growing = {store.axis for store in recurrence.stores}
    found = [axis for leaf in recurrence.inputs for axis in leaf.axes]
    return tuple(
        axis for axis in dict.fromkeys(found) if axis not in recurrence.sizes and axis not in growing
    )


class Opened(nn.Module):
    """A rule whose mapped axes take the lengths that its inputs have; the interface of a rule's module."""

    like: Tensor

    def __init__(self, recurrence: Recurrence, make: Callable[[Recurrence], nn.Module]) -> None:
        super().__init__()
        self._recurrence, self._make = recurrence, make
        self._open = open_axes(recurrence)
        self._made: dict[tuple[int, ...], Any] = {}
        sample = self._sized((1,) * len(self._open))
        for name, child in sample.named_children():
            self.add_module(name, child)
        for name, parameter in sample.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.register_buffer("like", sample.like, persistent=False)

    def forward(
        self, *, state: Mapping[str, Tensor] | None = None, reset: Tensor | None = None, **inputs: Tensor
    ) -> Any:
        """A sequence; inputs `[batch, time, …axes]` as the rule was mapped."""
        return self._for(inputs, 2)(**inputs, state=state, reset=reset)

    def step(self, *, state: Mapping[str, Tensor] | None = None, **inputs: Tensor) -> Any:
        """One token; inputs `[batch, …axes]`."""
        return self._for(inputs, 1).step(**inputs, state=state)

    def init_state(self, batch: int, **lengths: int) -> dict[str, Tensor]:
        """The state before the first token; `lengths` are those of the open axes."""
        missing = [axis for axis in self._open if axis not in lengths]
        if missing:
            raise UserError(
                f"the length of the axis `{missing[0]}` is not known",
                f"say it: init_state({batch}, {', '.join(f'{axis}=…' for axis in missing)})",
            )
        state: dict[str, Tensor] = self._sized(tuple(lengths[axis] for axis in self._open)).init_state(batch)
        return state

    def parameter_groups(self) -> Any:
        """For an optimiser: parameters with and without weight decay."""
        return self._sized((1,) * len(self._open)).parameter_groups()

    def _for(self, inputs: Mapping[str, Tensor], lead: int) -> Any:
        """The module for the lengths that the inputs have."""
        found: dict[str, int] = {}
        leaves = self._recurrence.inputs
        for leaf, name in zip(leaves, argument_names(leaf.name for leaf in leaves), strict=True):
            x = inputs.get(name)
            if x is None:
                raise UserError(f"the input `{name}` is missing")
            if x.dim() != lead + len(leaf.axes):
                raise UserError(
                    f"the input `{leaf.name}` has the axes {', '.join(leaf.axes)} after batch and time"
                )
            for axis, length in zip(leaf.axes, x.shape[lead:], strict=True):
                if axis in self._open and found.setdefault(axis, length) != length:
                    raise UserError(
                        f"the axis `{axis}` has the length {length} in `{leaf.name}` and {found[axis]} before"
                    )
        return self._sized(tuple(found[axis] for axis in self._open))

    def _sized(self, lengths: tuple[int, ...]) -> Any:
        if lengths not in self._made:
            sizes = {**self._recurrence.sizes, **dict(zip(self._open, lengths, strict=True))}
            made = self._make(replace(self._recurrence, sizes=sizes))
            if self._made:
                _tie(made, dict(self.named_parameters()))
            self._made[lengths] = made
        made = self._made[lengths]
        if hasattr(self, "like"):
            made.to(device=self.like.device, dtype=self.like.dtype)
        return made


def _tie(module: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    """Make a module hold these parameters, by name."""
    for name, parameter in parameters.items():
        path, _, last = name.rpartition(".")
        module.get_submodule(path).register_parameter(last, parameter)
