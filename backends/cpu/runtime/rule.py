"""Rules of an emitted module that run as units: the same states, parameters and calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from .build import NoCompiler
from .kernel import Interface, Kernel, Port, advanced, ordered, restored

States = dict[str, Tensor]
Results = tuple[tuple[Tensor, ...], States]
# Where constants leave the cache, sequences that train side by side share them as matrix products do and a loop over
# each does not: from here on PyTorch's schedule is the faster one.
RESIDENT = 2**17  # numbers of the constants
TOGETHER = 4  # sequences

Flags = tuple[tuple[bool, ...], ...]  # of each input, which of further axes it has


class Value(NamedTuple):
    """A tensor of a rule as callers know it; `shape` are the lengths of its own axes."""

    name: str
    shape: tuple[int, ...]
    complex: bool = False


class Signature(NamedTuple):
    """What a rule takes and gives; `given` are the parameters that callers pass in, after the inputs.

    `steps` says whether a single token is worth the call of a unit; if not, PyTorch's operations compute it.
    """

    inputs: list[Value]
    outputs: list[Value]
    states: list[Value]
    parameters: list[str]
    given: list[str]
    steps: bool


class Fused:
    """A rule with its unit; `over` makes the rule over further axes of its inputs, where that is possible."""

    def __init__(
        self,
        name: str,
        text: str,
        interface: Interface,
        signature: Signature,
        over: Callable[[tuple[int, ...], Flags], Fused] | None = None,
    ) -> None:
        self.name, self.text, self.signature, self.over = name, text, signature, over
        self.forced = False  # whether the unit runs where PyTorch is taken to be faster, too
        self.kernel = Kernel(text, interface, name)
        self.known: dict[tuple[tuple[int, ...], Flags], Fused] = {}

    def __deepcopy__(self, memo: Any) -> Fused:
        return self

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

    @property
    def steps(self) -> bool:
        """Whether a single token is computed by the unit."""
        return self.forced or self.signature.steps

    def pays(self, batch: int) -> bool:
        """Whether a loop over each sequence is faster than PyTorch's schedule over all of them."""
        if (
            self.forced
            or self.kernel.shared < RESIDENT
            or not torch.is_grad_enabled()
            or torch.compiler.is_compiling()
        ):
            return True
        return batch <= TOGETHER

    def mapped(
        self, inputs: Sequence[Tensor], lengths: tuple[int, ...], lead: int
    ) -> tuple[Fused, list[Tensor]] | None:
        """The rule over further axes of its inputs, and the inputs without axes of length 1; None if there is none."""
        fitted, has = list[Tensor](), list[tuple[bool, ...]]()
        for x, value in zip(inputs, self.signature.inputs, strict=True):
            own = x.shape[lead : x.dim() - len(value.shape)]
            has.append(tuple(n != 1 for n in (*(1,) * (len(lengths) - len(own)), *own)))
            fitted.append(x.squeeze(tuple(lead + k for k, n in enumerate(own) if n == 1)))
        key = (lengths, tuple(has))
        if key not in self.known:
            if self.over is None or torch.compiler.is_compiling():
                return None
            self.known[key] = self.over(*key)
            self.known[key].forced = self.forced
        return self.known[key], fitted

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


def attach(module: nn.Module, rules: Mapping[str, Fused]) -> nn.Module:
    """The same module with the rules of these classes run as units."""
    for part in module.modules():
        fused = rules.get(type(part).__name__)
        if fused is not None:
            part.__class__ = fused_class(cast(Any, type(part)), fused)
    return module


def forced(module: nn.Module) -> int:
    """Let units run wherever they can; returns how many rules have one."""
    rules = [part.fused for part in module.modules() if isinstance(part, FusedRule)]
    for fused in rules:
        fused.forced = True
    return len(rules)


@cache
def fused_class(base: Any, fused: Fused) -> type[Any]:
    """A class of a rule whose sequences and tokens are computed by a unit."""
    return type(base.__name__, (FusedRule, base), {"fused": fused, "plain": base})


class FusedRule:
    """What a class of a rule does where it has a unit; `plain` is the class as it was emitted."""

    fused: ClassVar[Fused]
    plain: ClassVar[Any]

    def whole(self, inputs: Sequence[Tensor], state: States | None, reset: Tensor | None) -> Results:
        found = self.mapped(inputs, state, reset, 2)
        return self.plain.whole(self, inputs, state, reset) if found is None else found

    def single(self, inputs: Sequence[Tensor], state: States | None) -> Results:
        found = self.mapped(inputs, state, None, 1) if self.fused.steps else None
        return self.plain.single(self, inputs, state) if found is None else found

    def mapped(
        self, inputs: Sequence[Tensor], state: States | None, reset: Tensor | None, lead: int
    ) -> Results | None:
        """The rule mapped over further axes of its inputs, as a unit of its own; None without such axes."""
        shapes = [
            x.shape[lead : x.dim() - len(value.shape)]
            for x, value in zip(inputs, self.fused.signature.inputs, strict=True)
        ]
        lengths = tuple(torch.broadcast_shapes(*shapes))
        if all(n == 1 for n in lengths) or not self.fused.ready(inputs[0]):
            return None
        found = self.fused.mapped(inputs, lengths, lead)
        if found is None:
            return None
        fused, fitted = found
        me: Any = self
        if state is None:
            batch, ones = inputs[0].shape[0], (1,) * len(lengths)
            state = {
                name: x.reshape(batch, *ones, *x.shape[1:]).expand(batch, *lengths, *x.shape[1:])
                for name, x in me.initial(batch).items()
            }
        twin: Any = object.__new__(fused_class(self.plain, fused))
        twin.__dict__ = self.__dict__  # the same parameters
        return twin.exactly(state, reset, lead == 1, fitted, ())  # type: ignore[no-any-return]

    def sequence(self, state: States, reset: Tensor | None, *args: Tensor) -> Results:
        fused, me = self.fused, cast(Any, self)
        if not (fused.pays(args[0].shape[0]) and fused.ready(args[0])):
            return self.plain.sequence(self, state, reset, *args)  # type: ignore[no-any-return]
        sign = fused.signature
        count = len(me.ranks)  # a rule without inputs is handed a clock
        passed = dict(zip(sign.given, args[count:], strict=True))
        parameters = [passed[name] if name in passed else me.exact(name, args[0]) for name in sign.parameters]
        return fused.sequence(state, reset, args[: len(sign.inputs)], parameters, args[0].shape[:2])

    def token(self, state: States, *args: Tensor) -> Results:
        if not (self.fused.steps and self.fused.ready(args[0])):
            return self.plain.token(self, state, *args)  # type: ignore[no-any-return]
        count = len(cast(Any, self).ranks)
        outputs, after = self.sequence(state, None, *(x[:, None] for x in args[:count]), *args[count:])
        return tuple(x[:, 0] for x in outputs), after
