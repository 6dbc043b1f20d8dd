"""Calling a unit from PyTorch: what it is passed, and what it gives."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .build import library
from .operators import operators, recorded


class Port(NamedTuple):
    """How a tensor enters a unit: its axes in the order `order`, of the lengths `shape`.

    `has` says which of the dimensions of the rows it has (the last one are the slices of its innermost axis).
    """

    name: str
    order: tuple[int, ...]
    shape: tuple[int, ...]
    has: tuple[bool, ...]
    differentiable: bool = True


class Interface(NamedTuple):
    """How a unit is called; `rows` are the lengths of the row axes and the number of slices, `width` wide each.

    Between two states that are kept for the way back lie `kept` tokens.
    `shown`: the way back reads the outputs, in which the states are.
    `exact`: products are rounded before they are added.
    """

    rows: tuple[int, ...]
    kept: int
    width: int
    inputs: list[Port]
    outputs: list[Port]
    states: list[Port]
    constants: list[Port]
    parameters: list[Port]
    shown: bool = False
    exact: bool = False


class Kernel:
    """A unit with its operators; built when it is first run."""

    def __init__(self, text: str, interface: Interface, name: str) -> None:
        self.text, self.interface = text, interface
        digest = hashlib.sha256((text + repr(interface)).encode()).hexdigest()[:12]
        self.name = f"cpu_{name}_{digest}"
        self.count = prod(interface.rows)
        self.sizes = [_entries(port, interface.rows) for port in interface.states]
        self.shared = sum(_entries(p, interface.rows) for p in interface.constants if p.differentiable)
        self.state = sum(self.sizes)
        self.built: dict[torch.dtype, ctypes.CDLL] = {}
        self.begun: dict[torch.dtype, list[Tensor]] = {}
        self.prepare, self.forward = operators(self)

    def library(self, dtype: torch.dtype) -> ctypes.CDLL:
        """Raises `NoCompiler`."""
        if dtype not in self.built:
            number = "double" if dtype == torch.float64 else "float"
            self.built[dtype] = library(self.text, number, self.interface.exact)
        return self.built[dtype]

    # --- states -----------------------------------------------------------------------------------------------

    def packed(self, values: Sequence[Tensor], lead: int, like: Tensor) -> Tensor:
        """States [lead, *axes in the order of their ports] as one tensor [lead, rows, numbers]."""
        if not values:
            return like.new_empty((lead, self.count, 0))
        parts = [
            self.sliced(x, port).reshape(x.shape[0], self.count, -1)
            for x, port in zip(values, self.interface.states, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def sliced(self, x: Tensor, port: Port) -> Tensor:
        """[lead, *rows, *others, vector] with the slices after the rows."""
        rows = sum(port.has[:-1])
        if not port.has[-1]:
            return x
        cut: Tensor = x.unflatten(-1, (self.interface.rows[-1], self.interface.width)).movedim(-2, 1 + rows)
        return cut

    def joined(self, x: Tensor, port: Port) -> Tensor:
        """The reverse of `sliced`, from [lead, *the dimensions of the rows that it has, numbers]."""
        rows = sum(port.has[:-1])
        others = port.shape[rows:]
        if not port.has[-1]:
            return x.reshape(x.shape[0], *port.shape)
        kept: Tensor = x.reshape(
            x.shape[0], *port.shape[:rows], self.interface.rows[-1], *others[:-1], self.interface.width
        )
        joined: Tensor = kept.movedim(1 + rows, -2).flatten(-2)
        return joined

    def unpacked(self, blob: Tensor) -> list[Tensor]:
        """States [lead, *axes in the order of their ports] from one tensor [lead, rows, numbers]."""
        parts = blob.split(self.sizes, 2)
        return [self.joined(x, port) for x, port in zip(parts, self.interface.states, strict=True)]

    # --- calls ------------------------------------------------------------------------------------------------

    def run_prepare(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The constants, and the states before the first token, from the parameters."""
        found = self.fake_prepare(parameters)
        self.library(parameters[-1].dtype).prepare(_pointers(parameters), _pointers(found))
        return found

    def fake_prepare(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        like = parameters[-1]
        ports = [*self.interface.constants, *self.interface.states]
        return [like.new_empty(port.shape) for port in ports]

    def prepare_backward(self, parameters: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
        found = [torch.empty_like(x) for x in parameters[:-1]]
        call = self.library(parameters[-1].dtype).prepare_backward
        call(_pointers([*parameters[:-1], *cotangents]), _pointers(found))
        return [*found, torch.zeros_like(parameters[-1])]

    def run(
        self,
        inputs: Sequence[Tensor],
        constants: Sequence[Tensor],
        initial: Tensor,
        before: Tensor,
        reset: Tensor | None,
        time: int,
        keep: bool,
    ) -> list[Tensor]:
        """The outputs, the states after the last token and, if asked, those that are kept."""
        made = self.fake(inputs, constants, initial, before, reset, time, keep)
        count = len(self.interface.outputs)
        self.library(before.dtype).forward(
            torch.get_num_threads(),
            ctypes.c_int64(before.shape[0]),
            ctypes.c_int64(time),
            _pointers(inputs),
            _pointers(constants),
            _pointer(initial),
            _pointer(before),
            _pointer(reset),
            _pointers(made[:count]),
            _pointer(made[count]),
            _pointer(made[count + 1] if keep else None),
        )
        return made

    def fake(
        self,
        inputs: Sequence[Tensor],
        constants: Sequence[Tensor],
        initial: Tensor,
        before: Tensor,
        reset: Tensor | None,
        time: int,
        keep: bool,
    ) -> list[Tensor]:
        batch = before.shape[0]
        made = [before.new_empty((batch, time, *port.shape)) for port in self.interface.outputs]
        made.append(before.new_empty((batch, self.count, self.state)))
        if keep:
            states = (time + self.interface.kept - 1) // self.interface.kept
            made.append(before.new_empty((batch, self.count, states, self.state)))
        return made

    def back(
        self,
        inputs: Sequence[Tensor],
        constants: Sequence[Tensor],
        initial: Tensor,
        kept: Tensor,
        outputs: Sequence[Tensor],
        reset: Tensor | None,
        cotangents: Sequence[Tensor],
        time: int,
    ) -> list[Tensor]:
        """The cotangents of the inputs, the constants, the initial states, and the states before the first token."""
        batch, rows = kept.shape[0], self.interface.rows
        ports = self.interface.inputs
        parts = [
            kept.new_empty((*self._sharing(port), batch, time, *port.shape))
            for port in ports
            if port.differentiable
        ]
        shared = kept.new_empty((batch, self.count, self.shared))
        begin, before = (kept.new_empty((batch, self.count, self.state)) for _ in range(2))
        self.library(kept.dtype).backward(
            torch.get_num_threads(),
            ctypes.c_int64(batch),
            ctypes.c_int64(time),
            _pointers(inputs),
            _pointers(constants),
            _pointer(initial),
            _pointer(kept),
            _pointer(reset),
            _pointers(outputs),
            _pointers(cotangents[:-1]),
            _pointer(cotangents[-1]),
            _pointers(parts),
            _pointer(shared),
            _pointer(begin),
            _pointer(before),
        )
        left = iter(parts)
        found = [
            _summed(next(left), port, rows) if port.differentiable else torch.zeros_like(x)
            for x, port in zip(inputs, ports, strict=True)
        ]
        return [*found, *self._shared(shared, constants), begin.sum(0), before]

    def _sharing(self, port: Port) -> tuple[int, ...]:
        """The dimensions of the rows that share an input."""
        return tuple(n for n, has in zip(self.interface.rows, port.has, strict=True) if not has and n > 1)

    def _shared(self, blob: Tensor, constants: Sequence[Tensor]) -> list[Tensor]:
        """Cotangents of the constants, summed over the batch and the rows that share them."""
        found, start = list[Tensor](), 0
        for x, port in zip(constants, self.interface.constants, strict=True):
            if not port.differentiable:
                found.append(torch.zeros_like(x))
                continue
            entries = _entries(port, self.interface.rows)
            own = blob[:, :, start : start + entries].reshape(blob.shape[0], *self.interface.rows, entries)
            start += entries
            over = [0, *(1 + k for k, has in enumerate(port.has) if not has)]
            found.append(self.joined(own.sum(over)[None], port)[0].contiguous())
        return found


def _entries(port: Port, rows: tuple[int, ...]) -> int:
    """How many numbers a row's slice of a tensor has."""
    return prod(port.shape) // prod(n for n, has in zip(rows, port.has, strict=True) if has)


def _summed(x: Tensor, port: Port, rows: tuple[int, ...]) -> Tensor:
    over = sum(not has and n > 1 for n, has in zip(rows, port.has, strict=True))
    return x.sum(tuple(range(over))) if over else x


def _pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * max(len(tensors), 1))(*(x.data_ptr() for x in tensors))


def advanced(
    kernel: Kernel,
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    before: Sequence[Tensor],
    reset: Tensor | None,
    batch: int,
    time: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs and the states after the last token; every tensor in its port's order, real and of one dtype."""
    count = len(kernel.interface.constants)
    like = [*before, *inputs][0].new_empty(0)
    found = prepared(kernel, [*parameters, like])
    constants, begin = found[:count], found[count:]
    initial = kernel.packed([x[None] for x in begin], 1, like)[0].contiguous()
    blob = kernel.packed(before, batch, like).contiguous()
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in [*inputs, *constants, initial, blob])
    if _is_traced(blob):
        keep = wanted and not torch.compiler.is_exporting()
        made = kernel.forward(inputs, constants, initial, blob, reset, time, keep)
    elif wanted:
        made = recorded(kernel, inputs, constants, initial, blob, reset, time)
    else:
        made = kernel.run(inputs, constants, initial, blob, reset, time, False)
    outputs = len(kernel.interface.outputs)
    return made[:outputs], kernel.unpacked(made[outputs])


def prepared(kernel: Kernel, parameters: list[Tensor]) -> list[Tensor]:
    """The constants and the states before the first token; kept where no parameter leads to them."""
    like = parameters[-1]
    if _is_traced(like):
        return kernel.prepare(parameters)
    if len(parameters) > 1:
        return kernel.prepare(parameters) if torch.is_grad_enabled() else kernel.run_prepare(parameters)
    if like.dtype not in kernel.begun:
        with torch.inference_mode(False):
            kernel.begun[like.dtype] = kernel.run_prepare(parameters)
    return kernel.begun[like.dtype]


def _is_traced(x: Tensor) -> bool:
    """Whether a call has to be an operator's, so that others see it."""
    return torch.compiler.is_compiling() or type(x) is not Tensor


def ordered(x: Tensor, port: Port, lead: int) -> Tensor:
    """A caller's tensor in the order of its port."""
    return x.permute((*range(lead), *(lead + k for k in port.order))).contiguous()


def restored(x: Tensor, port: Port, lead: int) -> Tensor:
    """The reverse of `ordered`."""
    return x.permute((*range(lead), *(lead + port.order.index(k) for k in range(len(port.order)))))
