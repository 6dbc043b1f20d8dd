"""Rules of an emitted module that run as Triton kernels on a GPU, and in PyTorch elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .attach import Attached, Flags, Results, Signature
from .chunk import BlockKernels, BlockStage, plain, suffices
from .course import Course, real, together
from .kernel import Kernel, advanced
from .length import LOOP, Lengths, Way, looped
from .load import runs_on

LONG = 32  # tokens from which on blocks are worth their while

Others = Callable[[], Sequence[BlockKernels] | None]


class Looped(Attached):
    """A rule with its loop, where it has one, and where it runs in blocks the kernels of its stages.

    Without a loop, single tokens run in PyTorch.
    `kept` are the inputs, by number, that the stages read as they are: the others are made single precision for them.
    `around` is the text of what PyTorch does around the stages, where that is not what the emitted module does.  The
    stages then have `others` as well, by how many tokens are a block of theirs; there may turn out to be none.
    """

    def __init__(
        self,
        name: str,
        kernel: Kernel | None,
        signature: Signature,
        over: Callable[[tuple[int, ...], Flags], Looped] | None = None,
        stages: Sequence[BlockStage] = (),
        kept: Sequence[int] = (),
        around: str = "",
        others: Mapping[int, Others] | None = None,
    ) -> None:
        super().__init__(name, signature, over)
        self.kernel, self.stages = kernel, list(stages)
        self.kept = frozenset(kept)
        self.course = self.through_blocks(around, [stage.kernels for stage in stages]) if around else None
        self.others = dict(others or {}) if around else {}
        self.lengths = None if self.course is None else self._lengths(self.course)
        self.windows = any(stage.kernels.face.form in ("windows", "streamed") for stage in self.stages)
        faces = [stage.kernels.face for stage in self.stages]
        self.looser = not all(x.form == "newton" or (kernel is None and x.exact) for x in faces)

    def through_blocks(self, around: str, kernels: Sequence[BlockKernels]) -> Course:
        return Course(around, kernels, self.name, self.kept)

    def _lengths(self, course: Course) -> Lengths:
        def made(others: Others) -> Way | None:
            kernels = others()
            return None if kernels is None else self.through_blocks(course.text, kernels).run

        ways: dict[int, Callable[[], Way | None]] = {self.block: lambda: course.run}
        ways |= {block: partial(made, others) for block, others in self.others.items()}
        if self.kernel is not None:
            ways[LOOP] = lambda: looped
        return Lengths("".join(self.texts), ways)

    @property
    def block(self) -> int:
        """Tokens of the longest blocks, where nothing else was measured to be quicker."""
        return max(stage.kernels.face.block for stage in self.stages)

    @property
    def texts(self) -> list[str]:
        """All that is written for it."""
        return [made.text for made in (self.kernel, self.course, *(x.kernels for x in self.stages)) if made]

    def ready(self, x: Tensor) -> bool:
        return self.kernel is not None and self.runs(x)

    def runs(self, x: Tensor) -> bool:
        """States are kept in single precision: double precision runs in PyTorch."""
        if x.dtype in (torch.float64, torch.complex128):
            return False
        return x.device.type == "cuda" if torch.compiler.is_compiling() else runs_on(x.device)

    def narrow(self, x: Tensor, time: int | None) -> bool:
        return self.runs(x) if self.kept and self.staged(x, time) else self.ready(x)

    def taken(self, inputs: Sequence[Tensor], time: int | None) -> list[Tensor]:
        """Where the emitted module calls the kernels, it computes what it hands them: in single precision."""
        if self.course is None and self.staged(inputs[0], time):
            return [x.float() for x in inputs]
        return super().taken(inputs, time)

    def staged(self, x: Tensor, time: int | None) -> bool:
        """Sequences that run in blocks, and not where the loop was measured to be quicker."""
        known = self.lengths
        return self.blocked(x, time) and (known is None or time is None or known.block(x, time) != LOOP)

    def blocked(self, x: Tensor, time: int | None) -> bool:
        """Sequences that may run in blocks: long ones, if there is a loop, and blocks as exact as is asked for."""
        if not self.stages or time is None or time < (1 if self.kernel is None else LONG):
            return False
        if self.windows and recorded(x):  # where windows begin is asked of the GPU
            return False
        return not self.looser or suffices(x)

    def through(self, plain: Any, x: Tensor, time: int | None) -> Way:
        way = None
        if self.lengths is not None and time is not None and self.staged(x, time) and self.runs(x):
            way = self.lengths.through(x, time)
        return super().through(plain, x, time) if way is None else way

    def mapped(
        self, inputs: Sequence[Tensor], lengths: tuple[int, ...], lead: int
    ) -> tuple[Attached, list[Tensor]] | None:
        """As for any rule; what may run stage by stage takes further axes as sequences of the batch.

        It does so even where a loop proved quicker: what is computed again runs as it did before that was known.
        """
        time = inputs[0].shape[1] if lead == 2 else None
        return None if self.blocked(inputs[0], time) else super().mapped(inputs, lengths, lead)

    def sequence(
        self,
        states: Mapping[str, Tensor],
        reset: Tensor | None,
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> Results:
        """Inputs [batch, time, *axes] for `shape`, states [batch, *axes] and parameters as the rule declares them."""
        assert self.kernel is not None
        face, sign = self.kernel.interface, self.signature
        batch, time = shape
        given = plain(real(x.expand(batch, time, *v.shape) for x, v in zip(inputs, sign.inputs, strict=True)))
        before = plain(real(states[v.name].expand(batch, *v.shape) for v in sign.states))
        known = dict(zip(sign.parameters, parameters, strict=True))
        used = [known[name] for name in face.parameters]
        flags = None if reset is None else reset.expand(batch, time).to(torch.uint8).contiguous()
        made, after = advanced(self.kernel, given, used, before, flags, time)
        ends = together(after, [value.complex for value in sign.states])
        return tuple(together(made, [value.complex for value in sign.outputs])), {
            value.name: x for value, x in zip(sign.states, ends, strict=True)
        }


def recorded(x: Tensor) -> bool:
    """Whether what happens on the GPU of a tensor is recorded, for a CUDA graph."""
    asked = x.is_cuda and not torch.compiler.is_compiling()
    return asked and torch.cuda.is_current_stream_capturing()
