"""Launching the kernels of a unit: operators with derivatives, which `torch.compile` takes as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .launch import Choice, launch
from .load import loaded, without_kernels


class Port(NamedTuple):
    """A tensor of a unit: the lengths `shape` of its own axes, and how many programs share it.

    There are `shares` rows to it, and with `tiled` every tile of the vector axis as well.  A `constant` of a stage has
    no batch and no time, and what is `given` is an input of the rule as it is, or what it gives.  `flags` say which
    tokens begin sequences anew; they may be missing.
    """

    name: str
    shape: tuple[int, ...]
    shares: int = 1
    tiled: bool = False
    differentiable: bool = True
    constant: bool = False
    given: bool = False
    flags: bool = False


class Product(NamedTuple):
    """A term of the cotangent of a constant, by number: the product over all tokens of two tensors by an equation of
    `einsum`.  `left` and `right` are numbers of inputs, and behind them of `sides`.
    """

    constant: int
    equation: str
    left: int
    right: int


class Interface(NamedTuple):
    """How a unit is called: a program for each sequence, row, and tile of `tile` entries of `vector` (0: no tiles).

    States are kept every `segment` tokens; `stages` tokens are read ahead.  The cotangents of some constants are
    `products` of inputs and of `sides`, which the way back writes behind the cotangents of the inputs.
    """

    rows: int
    vector: int
    tile: int
    warps: int
    segment: int
    stages: int
    inputs: list[Port]
    outputs: list[Port]
    states: list[Port]
    constants: list[Port]
    parameters: list[str]
    sides: list[Port]
    products: list[Product]

    @property
    def operands(self) -> list[Port]:
        """What is multiplied."""
        return [*self.inputs, *self.sides]

    @property
    def summed(self) -> dict[int, Port]:
        """The constants, by number, whose cotangents the way back adds up."""
        others = {product.constant for product in self.products}
        return {k: x for k, x in enumerate(self.constants) if x.differentiable and k not in others}

    @property
    def tiles(self) -> int:
        return -(-self.vector // self.tile) if self.vector else 1

    def sharing(self, port: Port) -> int:
        """How many programs share a tensor."""
        return port.shares * (self.tiles if port.tiled else 1)

    def cut(self, tile: int) -> Interface:
        """The same with another tile."""
        return self._replace(tile=tile)


class Kernel:
    """A unit with its operator, and the function that makes its constants and initial states of parameters.

    `torch.compile` looks into that function, which is loaded at once; not into what imports Triton.
    """

    def __init__(self, text: str, interface: Interface, name: str) -> None:
        self.text, self.interface, self.title = text, interface, name
        digest = hashlib.sha256((text + repr(interface)).encode()).hexdigest()[:12]
        self.name = f"triton_{name}_{digest}"
        self.operator = operator(self)
        self.prepare: Callable[..., Sequence[Tensor]] = without_kernels(text, name).prepare

    @property
    def module(self) -> Any:
        """The emitted functions; Triton is imported with them."""
        return loaded(self.text, self.title)

    def launch(self, kernel: Any, like: Tensor, *args: Any, **constants: Any) -> list[Any]:
        """A program for each sequence of `like`, row and tile; the last of `args` is how many tokens there are."""
        face, batch = self.interface, like.shape[0]
        fixed = {**constants, "SEGMENT": face.segment}
        default = Choice(face.warps, face.stages, face.tile)

        def grid(tile: int) -> int:
            return batch * face.rows * face.cut(tile).tiles

        return launch(kernel, grid, like, args, fixed, default, (batch, args[-1]), "STAGES", face.vector).args

    def run(
        self,
        inputs: Sequence[Tensor],
        constants: Sequence[Tensor],
        initial: Sequence[Tensor],
        before: Sequence[Tensor],
        reset: Tensor | None,
        time: int,
        keep: bool,
    ) -> list[Tensor]:
        """The outputs, the states after the last token and, if asked, those before each segment."""
        made = self.fake(inputs, constants, initial, before, reset, time, keep)
        outputs, states = len(self.interface.outputs), len(before)
        self.launch(
            self.module.forward,
            before[0],
            tuple(inputs or before),  # a kernel does not look into a tuple that would be empty
            tuple(constants or before),
            tuple(initial),
            tuple(before),
            reset,
            tuple(made[:outputs]),
            tuple(made[outputs : outputs + states]),
            tuple(made[outputs + states :] if keep else before),
            time,
            RESETS=reset is not None,
            KEEPS=keep,
        )
        return made

    def fake(
        self,
        inputs: Sequence[Tensor],
        constants: Sequence[Tensor],
        initial: Sequence[Tensor],
        before: Sequence[Tensor],
        reset: Tensor | None,
        time: int,
        keep: bool,
    ) -> list[Tensor]:
        batch, face = before[0].shape[0], self.interface
        dtype = _type_of(inputs)
        made = [before[0].new_empty((batch, time, *port.shape), dtype=dtype) for port in face.outputs]
        made += [torch.empty_like(x) for x in before]
        segments = (time + face.segment - 1) // face.segment
        return made + [x.new_empty((batch, segments, *x.shape[1:])) for x in before if keep]

    def back(
        self,
        inputs: Sequence[Tensor],
        constants: Sequence[Tensor],
        initial: Sequence[Tensor],
        kept: Sequence[Tensor],
        reset: Tensor | None,
        cotangents: Sequence[Tensor],
        time: int,
    ) -> list[Tensor]:
        """The cotangents of the inputs, the constants, the initial states, and the states before the first token."""
        face, batch = self.interface, kept[0].shape[0]
        outputs, after = tuple(cotangents[: len(face.outputs)]), cotangents[len(face.outputs) :]

        def parts(tile: int) -> tuple[Tensor, ...]:
            shares = [face.cut(tile).sharing(port) for port in face.inputs]
            return (
                *(
                    x.new_empty((n, batch, time, *port.shape), dtype=torch.float32 if n > 1 else x.dtype)
                    for x, port, n in zip(inputs, face.inputs, shares, strict=True)
                    if port.differentiable
                ),
                *(kept[0].new_empty((batch, time, *port.shape)) for port in face.sides),
            )

        def shared(tile: int) -> tuple[Tensor, ...]:
            return tuple(
                kept[0].new_empty((batch, face.cut(tile).sharing(port), *port.shape))
                for port in face.summed.values()
            )

        begin, first = ([torch.empty_like(x) for x in after] for _ in range(2))
        scratch = [x.new_empty((batch, face.segment, *x.shape[1:])) for x in after]
        launched = self.launch(
            self.module.backward,
            kept[0],
            tuple(inputs or kept),
            tuple(constants or kept),
            tuple(initial),
            tuple(kept),
            reset,
            outputs,
            tuple(after),
            tuple(scratch),
            parts,
            shared,
            tuple(begin),
            tuple(first),
            batch * time,
            time,
            RESETS=reset is not None,
        )
        own = len(launched[8]) - len(face.sides)
        gradients = [x.sum(0) if x.shape[0] > 1 else x[0] for x in launched[8][:own]]
        found = _placed(gradients, inputs, face.inputs)
        found += self._shared([x.sum((0, 1)) for x in launched[9]], constants, [*inputs, *launched[8][own:]])
        return [*found, *(x.sum(0) for x in begin), *first]

    def _shared(
        self, summed: Sequence[Tensor], constants: Sequence[Tensor], operands: Sequence[Tensor]
    ) -> list[Tensor]:
        """The cotangents of all constants: those that are summed, and those that are products."""
        known = dict(zip(self.interface.summed, summed, strict=True))
        for place, equation, left, right in self.interface.products:
            term = torch.einsum(equation, operands[left].float(), operands[right].float())
            known[place] = known[place] + term if place in known else term
        return [known[k].to(x.dtype) if k in known else torch.zeros_like(x) for k, x in enumerate(constants)]


def _type_of(inputs: Sequence[Tensor]) -> torch.dtype:
    """The type of outputs: that of the first input, if it is one of 16 bits."""
    narrow = inputs and inputs[0].dtype in (torch.bfloat16, torch.float16)
    return inputs[0].dtype if narrow else torch.float32


def _placed(found: Sequence[Tensor], values: Sequence[Tensor], ports: Sequence[Port]) -> list[Tensor]:
    """Cotangents of all values: zeros for those that have none."""
    left = iter(found)
    return [
        next(left).to(x.dtype) if port.differentiable else torch.zeros_like(x)
        for x, port in zip(values, ports, strict=True)
    ]


def operator(kernel: Kernel) -> Callable[..., list[Tensor]]:
    """The operator of a unit, registered once under a name that says what is in it."""
    known: Any = torch.ops.seqc
    if not hasattr(known, kernel.name):
        _register(kernel)
    found: Callable[..., list[Tensor]] = getattr(known, kernel.name)
    return found


def _register(kernel: Kernel) -> None:
    name = f"seqc::{kernel.name}"
    schema = (
        "(Tensor[] inputs, Tensor[] constants, Tensor[] initial, Tensor[] before, Tensor? reset, SymInt time,"
        " bool keep) -> Tensor[]"
    )
    forward = torch.library.custom_op(name, kernel.run, mutates_args=(), schema=schema)
    forward.register_fake(kernel.fake)
    schema = (
        "(Tensor[] inputs, Tensor[] constants, Tensor[] initial, Tensor[] kept, Tensor? reset,"
        " Tensor[] cotangents, SymInt time) -> Tensor[]"
    )
    backward = torch.library.custom_op(f"{name}_backward", kernel.back, mutates_args=(), schema=schema)

    @backward.register_fake
    def shapes(
        inputs: Any, constants: Any, initial: Any, kept: Any, reset: Any, cotangents: Any, time: int
    ) -> list[Tensor]:
        like = [*inputs, *constants, *initial, *cotangents[len(kernel.interface.outputs) :]]
        return [torch.empty_like(x) for x in like]

    def save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        given, constants, initial, before, reset, ctx.time, _ = inputs
        ctx.counts = (len(given), len(constants), len(before))
        kept = output[len(kernel.interface.outputs) + len(before) :]
        ctx.save_for_backward(*given, *constants, *initial, *kept, *([] if reset is None else [reset]))

    def differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        saved, (given, constants, states) = list(ctx.saved_tensors), ctx.counts
        ends = list(accumulate([given, constants, states, states], initial=0))
        parts = [saved[start:end] for start, end in pairwise(ends)]
        reset = saved[ends[-1] :]
        known = [g.contiguous() for g in grads[: len(kernel.interface.outputs) + states]]
        found = backward(*parts, reset[0] if reset else None, known, ctx.time)
        return (*(found[start:end] for start, end in pairwise(ends)), None, None, None)

    forward.register_autograd(differentiate, setup_context=save)


def advanced(
    kernel: Kernel,
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    before: Sequence[Tensor],
    reset: Tensor | None,
    time: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs and the states after the last token; every tensor is real, without gaps, and of its port's shape."""
    face = kernel.interface
    found = [x.contiguous() for x in kernel.prepare(*parameters, before[0])]
    constants, initial = found[: len(face.constants)], found[len(face.constants) :]
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in [*inputs, *found, *before])
    keep = wanted and not torch.compiler.is_exporting()
    made = kernel.operator(inputs, constants, initial, before, reset, time, keep)
    count = len(face.outputs)
    return made[:count], made[count : count + len(before)]
