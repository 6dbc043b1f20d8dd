"""Rules of an emitted module that run as Triton kernels on a GPU, and in PyTorch elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .attach import Attached, Flags, Results, Signature, Value
from .chunk import BlockStage, suffices
from .course import Course
from .kernel import Interface, Kernel, advanced
from .load import runs_on

LONG = 32  # tokens from which on blocks are worth their while


class Looped(Attached):
    """A rule with its unit, and where it runs in blocks those of its stages.

    `kept` are the inputs, by number, that the stages read as they are: the others are made single precision for them.
    `around` is the text of what PyTorch does around the stages, where that is not what the emitted module does.
    """

    def __init__(
        self,
        name: str,
        text: str,
        interface: Interface,
        signature: Signature,
        over: Callable[[tuple[int, ...], Flags], Looped] | None = None,
        stages: Sequence[BlockStage] = (),
        kept: Sequence[int] = (),
        around: str = "",
    ) -> None:
        super().__init__(name, signature, over)
        self.text = text
        self.kernel, self.stages = Kernel(text, interface, name), list(stages)
        self.kept = frozenset(kept)
        self.course = Course(around, [stage.kernels for stage in stages], name) if around else None
        self.windows = any(stage.kernels.face.form == "windows" for stage in self.stages)
        self.products = any(stage.kernels.face.form != "newton" for stage in self.stages)

    def ready(self, x: Tensor) -> bool:
        """States are kept in single precision: double precision runs in PyTorch."""
        if x.dtype in (torch.float64, torch.complex128):
            return False
        return x.device.type == "cuda" if torch.compiler.is_compiling() else runs_on(x.device)

    def narrow(self, x: Tensor, time: int | None) -> bool:
        return self.ready(x) and (bool(self.kept) or not self.staged(x, time))

    def taken(self, inputs: Sequence[Tensor], time: int | None) -> list[Tensor]:
        if not self.staged(inputs[0], time):
            return super().taken(inputs, time)
        return [x if k in self.kept and x.is_floating_point() else x.float() for k, x in enumerate(inputs)]

    def staged(self, x: Tensor, time: int | None) -> bool:
        """Long sequences of a rule in blocks, where products of matrices may be as exact as those of blocks are."""
        if not self.stages or time is None or time < LONG:
            return False
        if self.windows and recorded(x):  # where windows begin is asked of the GPU
            return False
        return not self.products or suffices(x)

    def through(self, plain: Any, x: Tensor, time: int | None) -> Callable[..., Results]:
        course = self.course if self.staged(x, time) and self.ready(x) else None
        return super().through(plain, x, time) if course is None else course.run

    def mapped(
        self, inputs: Sequence[Tensor], lengths: tuple[int, ...], lead: int
    ) -> tuple[Attached, list[Tensor]] | None:
        """As for any rule; what runs stage by stage takes further axes as sequences of the batch."""
        time = inputs[0].shape[1] if lead == 2 else None
        return None if self.staged(inputs[0], time) else super().mapped(inputs, lengths, lead)

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
        given = _real(x.expand(batch, time, *v.shape) for x, v in zip(inputs, sign.inputs, strict=True))
        before = _real(states[value.name] for value in sign.states)
        known = dict(zip(sign.parameters, parameters, strict=True))
        used = [known[name] for name in face.parameters]
        flags = None if reset is None else reset.expand(batch, time).to(torch.uint8).contiguous()
        made, after = advanced(self.kernel, given, used, before, flags, time)
        ends = _together(after, sign.states)
        return tuple(_together(made, sign.outputs)), {
            value.name: x for value, x in zip(sign.states, ends, strict=True)
        }


def recorded(x: Tensor) -> bool:
    """Whether what happens on the GPU of a tensor is recorded, for a CUDA graph."""
    asked = x.is_cuda and not torch.compiler.is_compiling()
    return asked and torch.cuda.is_current_stream_capturing()


def _real(values: Iterable[Tensor]) -> list[Tensor]:
    """Complex tensors as two, all without gaps."""
    parts = [part for x in values for part in ((x.real, x.imag) if x.is_complex() else (x,))]
    return [x.contiguous() for x in parts]


def _together(found: Sequence[Tensor], values: Sequence[Value]) -> list[Tensor]:
    left = iter(found)
    return [torch.complex(next(left), next(left)) if value.complex else next(left) for value in values]
