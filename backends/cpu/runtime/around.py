"""Blocks of an emitted module parts of which run as compiled kernels: the same states, parameters and calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from .attach import Swapped
from .cost import spared
from .rule import Fused, Waiting


class Call:
    """A kernel that a block calls, and the block's states that it keeps: `windows` by name, and `delays`.

    A window [batch, tokens, …] holds the last inputs of a convolution, of which the kernel has one a state.
    """

    def __init__(self, fused: Fused, windows: Mapping[str, Sequence[str]], delays: Sequence[str]) -> None:
        self.fused, self.windows, self.delays = fused, windows, delays

    def __call__(self, run: Any, *values: Tensor) -> tuple[Tensor, ...]:
        """The outputs for values [batch, time, *axes] and, after them, parameters."""
        fused, dtype = self.fused, run.clock.dtype
        values = tuple(x.to(dtype) for x in values)
        count = len(fused.signature.inputs)
        states = self._states(run)
        outputs, after = fused.sequence(states, run.reset, values[:count], values[count:], run.clock.shape)
        for name, parts in self.windows.items():
            run.write(name, torch.stack([after[part] for part in parts], 1))
        for name in self.delays:
            run.write(name, after[name])
        return outputs

    def _states(self, run: Any) -> dict[str, Tensor]:
        shapes = {value.name: value.shape for value in self.fused.signature.states}
        if run.state is None:
            return {name: run.zeros(run.clock.shape[0], *shape) for name, shape in shapes.items()}
        found = {name: run.read(name) for name in self.delays}
        for name, parts in self.windows.items():
            found.update(zip(parts, run.read(name).unbind(1), strict=True))
        return {name: x.to(run.clock.dtype) for name, x in found.items()}


class Around(Waiting):
    """The second way to compute a block: `forward`, which calls kernels, by name in `calls`."""

    def __init__(self, forward: Any, calls: Mapping[str, Call]) -> None:
        super().__init__()
        self.forward, self.calls = forward, calls
        self.fused = [call.fused for call in calls.values()]
        self.patience, self.forced = sum(fused.patience for fused in self.fused), False

    def __deepcopy__(self, memo: Any) -> Around:
        return self

    def gain(self, batch: int, time: int | None, training: bool) -> float:
        """The seconds that the kernels are predicted to save."""
        threads = torch.get_num_threads()
        return sum(spared(fused.work, batch, time or 1, training, threads) for fused in self.fused)

    @property
    def made(self) -> bool:
        """Whether there are kernels already."""
        return all(fused.made for fused in self.fused)

    def ready(self, run: Any, values: Sequence[Tensor]) -> bool:
        """Whether the kernels take such tensors and can be built; if not, why is said."""
        same = all(x.dtype == run.clock.dtype for x in values) and not torch.is_autocast_enabled("cpu")
        return same and all(fused.ready(run.clock) for fused in self.fused)


def attach_around(module: nn.Module, blocks: Any, calls: Mapping[str, Mapping[str, Call]]) -> nn.Module:
    """The same module with the blocks of these classes computed as the classes of that name in `blocks` do."""
    ways = {name: Around(getattr(blocks, name).forward, own) for name, own in calls.items()}
    for part in module.modules():
        way = ways.get(type(part).__name__)
        if way is not None:
            part.__class__ = block_class(cast(Any, type(part)), way)
    return module


@cache
def block_class(base: Any, way: Around) -> type[Any]:
    """A class of a block that is computed another way where that pays."""
    return type(
        base.__name__, (FusedBlock, base), {"way": way, "kernels": way, "around": way.calls, "plain": base}
    )


class FusedBlock(Swapped):
    """What a class of a block does where it has kernels; `plain` is the class as it was emitted."""

    way: ClassVar[Around]
    around: ClassVar[Mapping[str, Call]]

    def forward(self, run: Any, *values: Tensor) -> Any:
        batch, time = run.clock.shape
        if self.way.pays(batch, None if run.single else time) and self.way.ready(run, values):
            return self.way.forward(self, run, *values)
        return self.plain.forward(self, run, *values)
