"""Rules that learn while they run: real-time recurrent learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .modules import Rule, States


class OnlineRule(Rule):
    """A rule whose states carry their derivatives by its parameters, so that nothing of the past is kept.

    `traces` has, by the name of such a derivative, the state, the parameter, and how a gradient [batch, …state] and the
    derivative [batch, …state and parameter] are summed to one of the parameter.
    """

    traces: ClassVar[dict[str, tuple[str, str, str]]]

    def traced(self, *args: Any, **kwargs: Any) -> tuple[tuple[Tensor, ...], States]:
        """One token and its traces."""
        raise NotImplementedError

    def token(self, *args: Any, **kwargs: Any) -> tuple[tuple[Tensor, ...], States]:
        state, *inputs = args
        outputs, after = self.traced(self.carried(state), *inputs)
        return outputs, {name: x.detach() for name, x in after.items()}

    def carried(self, state: States) -> States:
        """The same states, through which gradients go on to the parameters."""
        found = {name: x.detach() for name, x in state.items()}
        for name in self.states:
            own = [(trace, *rest) for trace, (of, *rest) in self.traces.items() if of == name]
            if own:
                sums = [total for _, _, total in own]
                weights = [self.exact(parameter, found[name]) for _, parameter, _ in own]
                traces = [found[trace] for trace, _, _ in own]
                found[name] = Carried.apply(found[name], sums, *traces, *weights)  # type: ignore[no-untyped-call]
        return found


class Carried(torch.autograd.Function):
    """A state that hands its gradient to parameters by its traces, and not to what it was computed from."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, sums: list[str], *tensors: Tensor) -> Tensor:
        """`tensors` are the traces, then the parameters that they belong to."""
        ctx.sums = sums
        ctx.save_for_backward(*tensors[: len(sums)])
        return state.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        traces: tuple[Tensor, ...] = ctx.saved_tensors
        found = [torch.einsum(total, grads[0], trace) for total, trace in zip(ctx.sums, traces, strict=True)]
        return (None, None, *(None for _ in traces), *found)
