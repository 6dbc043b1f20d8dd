"""Rules of an emitted module that run as compiled kernels: the same states, parameters and calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from math import prod
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

States = dict[str, Tensor]
Results = tuple[tuple[Tensor, ...], States]
Flags = tuple[tuple[bool, ...], ...]  # of each input, which of further axes it has


class Value(NamedTuple):
    """A tensor of a rule as callers know it; `shape` are the lengths of its own axes."""

    name: str
    shape: tuple[int, ...]
    complex: bool = False


class Signature(NamedTuple):
    """What a rule takes and gives; `given` are the parameters that callers pass in, after the inputs."""

    inputs: list[Value]
    outputs: list[Value]
    states: list[Value]
    parameters: list[str]
    given: list[str]


class Attached:
    """A rule with its kernel; `over` makes the rule over further axes of its inputs, where that is possible."""

    def __init__(
        self,
        name: str,
        signature: Signature,
        over: Callable[[tuple[int, ...], Flags], Attached] | None = None,
    ) -> None:
        self.name, self.signature, self.over = name, signature, over
        self.forced = False  # whether the kernel runs where PyTorch is taken to be faster, too
        self.known: dict[tuple[tuple[int, ...], Flags], Attached] = {}

    def __deepcopy__(self, memo: Any) -> Attached:
        return self

    def pays(self, batch: int, time: int | None) -> bool:
        """Whether the kernel is the faster way for so many sequences of so many tokens; None: for a step."""
        return True

    def narrow(self, x: Tensor, time: int | None) -> bool:
        """Whether inputs of 16 bits, of which `x` is the first, are taken as they are."""
        return False

    def taken(self, inputs: Sequence[Tensor], time: int | None) -> list[Tensor]:
        """Inputs, some of 16 bits, in the types that they are taken in."""
        return [x if x.is_floating_point() else x.float() for x in inputs]

    def staged(self, x: Tensor, time: int | None) -> bool:
        """Whether the emitted module goes through a sequence, and the kernels are in its stages."""
        return False

    def through(self, plain: Any, x: Tensor, time: int | None) -> Callable[..., Results]:
        """The method by which a class, emitted as `plain`, goes through a sequence, where the kernel does not."""
        return plain.sequence  # type: ignore[no-any-return]

    def ready(self, x: Tensor) -> bool:
        """Whether the kernel takes such tensors and can be built; if not, why is said."""
        raise NotImplementedError

    def sequence(
        self,
        states: Mapping[str, Tensor],
        reset: Tensor | None,
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> Results:
        """Inputs [batch, time, *axes] for `shape`, states [batch, *axes] and parameters as the rule declares them."""
        raise NotImplementedError

    def mapped(
        self, inputs: Sequence[Tensor], lengths: tuple[int, ...], lead: int
    ) -> tuple[Attached, list[Tensor]] | None:
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
            made = self.known.setdefault(key, self.over(*key))
            made.forced = self.forced
        return self.known[key], fitted


def attach(module: nn.Module, rules: Mapping[str, Attached]) -> nn.Module:
    """The same module with the rules of these classes run as kernels."""
    for part in module.modules():
        fused = rules.get(type(part).__name__)
        if fused is not None:
            part.__class__ = fused_class(cast(Any, type(part)), fused)
    return module


def forced(module: nn.Module) -> int:
    """Let kernels run wherever they can; returns how many rules and blocks have some."""
    found = [part for part in module.modules() if isinstance(part, Swapped)]
    for part in found:
        part.kernels.forced = True
    return len(found)


@cache
def fused_class(base: Any, fused: Attached, decided: bool = False) -> type[Any]:
    """A class of a rule whose sequences and tokens are computed by a kernel; if `decided`, all of them."""
    return type(
        base.__name__,
        (FusedRule, base),
        {"fused": fused, "kernels": fused, "plain": base, "decided": decided},
    )


class Swapped:
    """A class of a module in place of the one that was emitted, `plain`."""

    plain: ClassVar[Any]
    kernels: ClassVar[
        Any
    ]  # its attribute `forced` says whether they run where PyTorch is taken to be faster, too

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """With its kernel, which `__reduce_ex__` leaves behind."""
        made = object.__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What is pickled is the module as it was emitted."""
        return object.__new__, (self.plain,), self.__dict__


class FusedRule(Swapped):
    """What a class of a rule does where it has a kernel; `plain` is the class as it was emitted."""

    fused: ClassVar[Attached]
    decided: ClassVar[bool]

    def exactly(
        self,
        state: States | None,
        reset: Tensor | None,
        single: bool,
        inputs: Sequence[Tensor],
        given: Sequence[Tensor],
        sequence: Callable[..., Results] | None = None,
    ) -> Results:
        """As the class was emitted, but inputs of 16 bits stay what they are where kernels take such."""
        me, first = cast(Any, self), inputs[0]
        time = None if single else first.shape[1]
        staged = not single and self.fused.staged(first, time)
        wide = any(x.dtype == torch.float64 or x.is_complex() for x in (*inputs, me.like))
        if wide or sequence is not None or not (_narrow(first) and self.fused.narrow(first, time)):
            if _narrow(first) and not wide and sequence is None and staged:
                sequence = partial(self.fused.through(self.plain, first, time), self)
            return self.plain.exactly(self, state, reset, single, inputs, given, sequence)  # type: ignore[no-any-return]
        with torch.autocast(first.device.type, enabled=False):
            given = [x if x.is_complex() else x.float() for x in given]
            inputs = self.fused.taken(inputs, time)
            before: States = me.initial(first.shape[0], *given) if state is None else state
            state = {name: x.float() if x.is_floating_point() else x for name, x in before.items()}
            if single:
                outputs, state = self.token(state, *inputs, *given)
            elif staged:
                outputs, state = self.fused.through(self.plain, first, time)(
                    self, state, reset, *inputs, *given
                )
            else:
                outputs, state = self.sequence(state, reset, *inputs, *given)
            return tuple(x if x.is_complex() else x.to(first.dtype) for x in outputs), state

    def whole(self, inputs: Sequence[Tensor], state: States | None, reset: Tensor | None) -> Results:
        found = self.mapped(inputs, state, reset, 2)
        return self.plain.whole(self, inputs, state, reset) if found is None else found

    def single(self, inputs: Sequence[Tensor], state: States | None) -> Results:
        found = self.mapped(inputs, state, None, 1)
        return self.plain.single(self, inputs, state) if found is None else found

    def mapped(
        self, inputs: Sequence[Tensor], state: States | None, reset: Tensor | None, lead: int
    ) -> Results | None:
        """The rule mapped over further axes of its inputs, as a kernel of its own; None where PyTorch does it."""
        shapes = [
            x.shape[lead : x.dim() - len(value.shape)]
            for x, value in zip(inputs, self.fused.signature.inputs, strict=True)
        ]
        lengths, first = tuple(torch.broadcast_shapes(*shapes)), inputs[0]
        found = None if all(n == 1 for n in lengths) else self.fused.mapped(inputs, lengths, lead)
        if found is None:
            return None
        fused, fitted = found
        batch, time = first.shape[0], first.shape[1] if lead == 2 else None
        if not (fused.pays(batch * prod(lengths), time) and fused.ready(first)):
            return None
        me: Any = self
        if state is None:
            ones = (1,) * len(lengths)
            state = {
                name: x.reshape(batch, *ones, *x.shape[1:]).expand(batch, *lengths, *x.shape[1:])
                for name, x in me.initial(batch).items()
            }
        twin: Any = object.__new__(fused_class(self.plain, fused, decided=True))
        twin.__dict__ = self.__dict__  # the same parameters
        return twin.exactly(state, reset, lead == 1, fitted, ())  # type: ignore[no-any-return]

    def sequence(self, state: States, reset: Tensor | None, *args: Tensor) -> Results:
        time = args[0].shape[1]
        if not self._taken(args[0], time):
            return self.fused.through(self.plain, args[0], time)(self, state, reset, *args)
        return self._run(state, reset, *args)

    def token(self, state: States, *args: Tensor) -> Results:
        if not self._taken(args[0], None):
            return self.plain.token(self, state, *args)  # type: ignore[no-any-return]
        count = len(cast(Any, self).ranks)
        outputs, after = self._run(state, None, *(x[:, None] for x in args[:count]), *args[count:])
        return tuple(x[:, 0] for x in outputs), after

    def _taken(self, x: Tensor, time: int | None) -> bool:
        """Whether the kernel computes this."""
        if self.decided:
            return True
        return not self.fused.staged(x, time) and self.fused.pays(x.shape[0], time) and self.fused.ready(x)

    def _run(self, state: States, reset: Tensor | None, *args: Tensor) -> Results:
        sign, me = self.fused.signature, cast(Any, self)
        count = len(me.ranks)  # a rule without inputs is handed a clock
        passed = dict(zip(sign.given, args[count:], strict=True))
        like = args[0][:0].float() if _narrow(args[0]) else args[0]
        parameters = [passed[name] if name in passed else me.exact(name, like) for name in sign.parameters]
        return self.fused.sequence(state, reset, args[: len(sign.inputs)], parameters, args[0].shape[:2])


def _narrow(x: Tensor) -> bool:
    return x.dtype in (torch.bfloat16, torch.float16)
