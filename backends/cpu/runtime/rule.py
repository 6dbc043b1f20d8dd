"""Rules of an emitted module that run as units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from threading import RLock

import torch
from torch import Tensor

from .attach import Attached, Flags, Results, Signature, Value
from .build import NoCompiler
from .cost import Work, saved
from .kernel import Interface, Kernel, Port, advanced, ordered, restored

Made = tuple[str, Interface]
PATIENCE = 1.0  # seconds that a unit takes to be made, which is how much its calls have to save before
TRACED = (1, 2048)  # sequences and tokens for which is decided what is traced, whose shapes are open
REMEMBERED = 1024  # predictions
_making = RLock()


class Waiting:
    """What is made when the calls that it would have been faster for have lost `patience` seconds."""

    patience: float
    forced: bool  # whether it runs where PyTorch is taken to be faster, too

    def __init__(self) -> None:
        self.lost = 0.0  # seconds
        self.gains: dict[tuple[int, int | None, bool, int], float] = {}

    @property
    def made(self) -> bool:
        raise NotImplementedError

    def gain(self, batch: int, time: int | None, training: bool) -> float:
        """The seconds that it is predicted to save for so many sequences of so many tokens; None: for a step."""
        raise NotImplementedError

    def pays(self, batch: int, time: int | None) -> bool:
        """Whether it is faster than PyTorch, and worth being made by now."""
        if self.forced:
            return True
        training = torch.is_grad_enabled()
        if torch.compiler.is_compiling():
            traced: bool = self.pays_traced(time is None, training)
            return traced
        gain = self._known_gain(batch, time, training)
        if gain <= 0:
            return False
        if not self.made:
            self.lost += gain
        return self.made or self.lost >= self.patience

    def _known_gain(self, batch: int, time: int | None, training: bool) -> float:
        """The same as `gain`, which takes longer than a token of a small block; of the last calls it is kept."""
        key = (batch, time, training, torch.get_num_threads())
        gain = self.gains.get(key)
        if gain is None:
            if len(self.gains) >= REMEMBERED:
                self.gains.clear()
            gain = self.gains[key] = self.gain(batch, time, training)
        return gain

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch does not type it
    def pays_traced(self, step: bool, training: bool) -> bool:
        """The same for all that a trace may be run with later, decided once."""
        batch, time = TRACED
        return self.gain(batch, None if step else time, training) > 0


class NoUnit(Exception):
    """There is no unit for a rule; the text says why."""


class Fused(Waiting, Attached):
    """A rule with its unit, which `make` makes when it is first needed.

    With `patience` it is needed when the calls that it would have been faster for have lost so many seconds.
    """

    def __init__(
        self,
        name: str,
        signature: Signature,
        work: Work,
        make: Callable[[], Made],
        over: Callable[[tuple[int, ...], Flags], Fused] | None = None,
        patience: float = 0.0,
    ) -> None:
        Waiting.__init__(self)
        Attached.__init__(self, name, signature, over)
        self.work, self.patience = work, patience
        self._make = make
        self._kernel: Kernel | None = None
        self._failed = False

    @property
    def kernel(self) -> Kernel:
        """The unit and its operators.  Raises `NoUnit`."""
        return self._create() if self._kernel is None else self._kernel

    def _create(self) -> Kernel:
        with _making:
            if self._kernel is None:
                text, interface = self._make()
                self._kernel = Kernel(text, interface, self.name)
            return self._kernel

    @property
    def made(self) -> bool:
        """Whether there is a unit already."""
        return self._kernel is not None

    @property
    def text(self) -> str:
        return self.kernel.text

    def gain(self, batch: int, time: int | None, training: bool) -> float:
        """The seconds that the unit is predicted to save."""
        return saved(self.work, batch, time, training, torch.get_num_threads())

    def ready(self, x: Tensor) -> bool:
        """Whether the unit takes such tensors and can be built; if not, why is said."""
        return x.device.type == "cpu" and self.usable(x.dtype in (torch.float64, torch.complex128))

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch does not type it
    def usable(self, double: bool) -> bool:
        """Whether there is a unit over numbers of that width; what is traced takes the answer as it is then."""
        if self._failed:
            return False
        try:
            self.kernel.library(torch.float64 if double else torch.float32)
        except NoUnit:
            self._failed = True
        except NoCompiler as error:
            self._failed = True
            # The place of the warning is here, so that one is shown for all rules.
            warnings.warn(f"rules run in PyTorch alone: {error}", stacklevel=1)
        return not self._failed

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
        made, after = advanced(self.kernel, given, used, before, flags, batch, time)
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
