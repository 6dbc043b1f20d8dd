"""Rules of an emitted module that run as units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from .attach import Attached, Flags, Results, Signature, Value
from .build import NoCompiler
from .kernel import Interface, Kernel, Port, advanced, ordered, restored

# Where constants leave the cache, sequences that train side by side share them as matrix products do and a loop over
# each does not: from here on PyTorch's schedule is the faster one.
RESIDENT = 2**17  # numbers of the constants
TOGETHER = 4  # sequences


class Fused(Attached):
    """A rule with its unit."""

    def __init__(
        self,
        name: str,
        text: str,
        interface: Interface,
        signature: Signature,
        over: Callable[[tuple[int, ...], Flags], Fused] | None = None,
    ) -> None:
        super().__init__(name, text, signature, over)
        self.kernel = Kernel(text, interface, name)

    def ready(self, x: Tensor) -> bool:
        """Whether the unit takes such tensors and can be built; if not, why is said."""
        if x.device.type != "cpu":
            return False
        if torch.compiler.is_compiling():
            return True
        try:
            self.kernel.library(x.real.dtype if x.is_complex() else x.dtype)
        except NoCompiler as error:
            warnings.warn(f"the rule `{self.name}` runs in PyTorch alone: {error}", stacklevel=4)
            return False
        return True

    def pays(self, batch: int, time: int) -> bool:
        """Whether a loop over each sequence is faster than PyTorch's schedule over all of them."""
        if (
            self.forced
            or self.kernel.shared < RESIDENT
            or not torch.is_grad_enabled()
            or torch.compiler.is_compiling()
        ):
            return True
        return batch <= TOGETHER

    def sequence(
        self,
        states: Mapping[str, Tensor],
        reset: Tensor | None,
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> Results:
        """Inputs [batch, time, *axes] for `shape`, states [batch, *axes] and parameters as the rule declares them."""
        face, sign = self.kernel.interface, self.signature
        batch, time = shape
        full = [x.expand(batch, time, *value.shape) for x, value in zip(inputs, sign.inputs, strict=True)]
        given = _arranged(full, face.inputs, 2)
        before = _arranged([states[value.name] for value in sign.states], face.states, 1)
        known = dict(zip(sign.parameters, parameters, strict=True))
        used = _arranged([known[port.name] for port in face.parameters], face.parameters, 0)
        flags = None if reset is None else reset.expand(batch, time).to(torch.uint8).contiguous()
        made, after = advanced(self.kernel, given, used, before, flags, time)
        outputs = _together(made, face.outputs, 2, sign.outputs)
        ends = _together(after, face.states, 1, sign.states)
        return tuple(outputs), {value.name: x for value, x in zip(sign.states, ends, strict=True)}


def _arranged(values: Sequence[Tensor], ports: Sequence[Port], lead: int) -> list[Tensor]:
    """Tensors as ports take them: complex ones as two."""
    parts = [part for x in values for part in ((x.real, x.imag) if x.is_complex() else (x,))]
    return [ordered(x, port, lead) for x, port in zip(parts, ports, strict=True)]


def _together(
    found: Sequence[Tensor], ports: Sequence[Port], lead: int, values: Sequence[Value]
) -> list[Tensor]:
    """Tensors as callers know them."""
    left = iter([restored(x, port, lead) for x, port in zip(found, ports, strict=True)])
    return [torch.complex(next(left), next(left)) if value.complex else next(left) for value in values]
