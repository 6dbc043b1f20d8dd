"""The forms of an emitted module that conformance examines."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqc.conformance.subject import Request, Tensors
from seqc.ir.program import Model

from . import BACKEND, LOOPS
from .rules import argument_names

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def subjects(request: Request) -> Iterator[Form]:
    """The scheduler's choice, a loop, and every parallel form that the rules allow; of a model, if there is
    time.
    """
    chosen, asked = request.chosen, request.asked
    modes: dict[str, str | None] = {f"{chosen} (default)" if chosen else "default": None}
    if asked is not None:
        modes = {asked: asked}
    elif not (request.fast and isinstance(request.whole, Model)):
        modes.update({mode: mode for mode in (LOOPS[0], *request.modes) if mode != chosen})
    for name, mode in modes.items():
        loop = mode in LOOPS
        made: Any = BACKEND.module(request.scheduled(None if loop else mode), mode if loop else None)
        made.load_state_dict({key: x.float() for key, x in request.weights.items()})
        yield Form(name, made, isinstance(request.whole, Model), request.weights)


@dataclass(eq=False)
class Form:
    """A module in one mode, in each of the widths."""

    mode: str
    module: Any
    is_model: bool
    weights: Tensors
    backend: str = "torch"
    differentiable: bool = True
    resets: bool = True
    made: dict[torch.dtype, Any] = field(default_factory=dict[torch.dtype, Any])

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        return DTYPES

    @property
    def maps(self) -> bool:
        return not self.is_model

    def at(self, dtype: torch.dtype) -> Any:
        """The module in that width, with the weights rounded to it.

        A model in bfloat16 keeps the rounded weights in single precision and is run under autocast, as its users do.
        """
        if dtype not in self.made:
            made = copy.deepcopy(self.module).to(torch.float32 if self.casts(dtype) else dtype).eval()
            made.load_state_dict({name: x.to(dtype) for name, x in self.weights.items()})
            self.made[dtype] = made
        return self.made[dtype]

    def casts(self, dtype: torch.dtype) -> bool:
        return self.is_model and dtype is torch.bfloat16

    def run(
        self, inputs: Tensors, dtype: torch.dtype, state: Any = None, reset: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], Any]:
        given: dict[str, Any] = {} if reset is None else {"reset": reset}
        if self.casts(dtype):
            inputs = {name: x.float() if x.is_floating_point() else x for name, x in inputs.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=self.casts(dtype)):
            return self._call(self.at(dtype), inputs, state=state, **given)

    def step(self, inputs: Tensors, dtype: torch.dtype, state: Any = None) -> tuple[tuple[Tensor, ...], Any]:
        return self._call(self.at(dtype).step, inputs, state=state)

    def _call(self, call: Any, inputs: Tensors, **given: Any) -> tuple[tuple[Tensor, ...], Any]:
        named = dict(zip(argument_names(inputs), inputs.values(), strict=True))
        result = call(*inputs.values(), **given) if self.is_model else call(**named, **given)
        outputs, state = result
        return (outputs if isinstance(outputs, tuple) else (outputs,)), state

    def states(self, state: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        return dict(state or {})

    def bytes_of(self, state: Mapping[str, Tensor]) -> int:
        return sum(x.numel() * x.element_size() for x in state.values())

    def touched(self, inputs: Tensors, dtype: torch.dtype, state: Any) -> int:
        with Touched() as counted:
            self.step(inputs, dtype, state)
        return int(counted.numbers)

    def parameters(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {name: x for name, x in self.at(dtype).named_parameters() if name in self.weights}


class Touched(TorchDispatchMode):
    """Counts the numbers in the operands and the results of all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not type it
        self.numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves: list[Any] = tree_leaves((args, kwargs, result))
        self.numbers += sum(x.numel() for x in leaves if isinstance(x, Tensor))
        return result
