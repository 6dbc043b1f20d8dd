"""Rules that PyTorch has as one operator for a whole sequence."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .modules import Rule, Run, States, linear, wide
    from .stages import fresh


class CellRule(Rule):
    """A rule with the equations of `torch.gru` or `torch.lstm` (oneDNN and cuDNN), which take sequences without resets.

    `gates` are the inputs, and `carried` the states, in the order of the operator.
    """

    kind: ClassVar[str]
    operator: ClassVar[Callable[..., list[Tensor]]]
    gates: ClassVar[tuple[int, ...]]
    carried: ClassVar[tuple[str, ...]]
    widest: ClassVar[int]  # the largest width at which gates are handed to the operator through an identity

    def recurrent(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The weights and biases of the state, gate under gate."""
        raise NotImplementedError

    def loop(self, *args: Any, **kwargs: Any) -> tuple[tuple[Tensor, ...], States]:
        """A sequence, token after token."""
        raise NotImplementedError

    def sequence(self, *args: Any, **kwargs: Any) -> tuple[tuple[Tensor, ...], States]:
        state, reset, *inputs = args
        gates = [inputs[k] for k in self.gates]
        width = gates[0].shape[-1]
        if reset is not None or width > self.widest or not self.pays(*inputs, *self.parameters()):
            return self.loop(*args)
        x = torch.cat(gates, -1)
        count = width * len(gates)
        return self.called(state, x, torch.eye(count, dtype=x.dtype, device=x.device), x.new_zeros(count))

    def over(
        self, run: Run, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """`along` for inputs that are linear in `x`: their weights [out, in] and biases [out]."""
        if run.single or run.reset is not None or not self.pays(x, *weights, *biases, *self.parameters()):
            inputs = [wide(linear(x, w)) + wide(b) for w, b in zip(weights, biases, strict=True)]
            return self.along(run, *inputs)

        def called(state: States, reset: Tensor | None, x: Tensor) -> tuple[tuple[Tensor, ...], States]:
            weight, bias = (
                torch.cat([some[k] for k in self.gates]).to(x.dtype) for some in (weights, biases)
            )
            return self.called(state, x, weight, bias)

        outputs, state = self.exactly(run.read_all(self.states), None, False, [x], (), called)
        for name, value in state.items():
            run.write(name, value)
        return outputs

    def called(
        self, state: States, x: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[tuple[Tensor, ...], States]:
        """The operator, with the weights and biases of its input."""
        recurrent, more = self.recurrent(x)
        given = (x, [state[name] for name in self.carried], [weight, recurrent, bias, more])
        if x.is_cuda or torch.compiler.is_compiling():
            out, *finals = self.operator(*given)
        else:
            out, *finals = cell_layer(self.kind, *given, torch.is_grad_enabled())
        ends = dict(zip(self.carried, finals, strict=True))
        return (out,), {name: ends[name] for name in self.states}

    def pays(self, *tensors: Tensor) -> bool:
        """Whether the operator is faster: on a CPU the derivative of `torch.gru` is slower than the loop's own."""
        if self.kind == "lstm" or tensors[0].is_cuda or torch.compiler.is_exporting():
            return True
        return not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))


def cell_layer(
    kind: str, x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], train: bool
) -> list[Tensor]:
    """The outputs [batch, time, out] and final states [batch, out] for x [batch, time, in], in full precision."""
    if 0 in x.shape[:2]:
        return [x.new_zeros(*x.shape[:2], state[0].shape[-1]), *(entry.clone() for entry in state)]
    start, more = [entry[None] for entry in state], (True, 1, 0.0, train, False, True)
    cudnn = torch.backends.cudnn
    flags = (cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic)
    with cudnn.flags(*flags, allow_tf32=False):
        if kind == "lstm":
            out, *finals = torch.lstm(x, start, list(weights), *more)
        else:
            out, *finals = torch.gru(x, start[0], list(weights), *more)
    return [out, *(entry[0] for entry in finals)]


def cell_operator(kind: str, name: str) -> Callable[..., list[Tensor]]:
    """`cell_layer` as an opaque operator with a derivative, which computes it again; registered once under its name."""
    known: Any = torch.ops.seqc
    if hasattr(known, name):
        return cast(Callable[..., list[Tensor]], getattr(known, name))

    def layer(x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            return fresh(cell_layer(kind, x, state, weights, False), [x, *state, *weights])

    def again(
        x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], cotangents: Sequence[Tensor]
    ) -> list[Tensor]:
        with torch.autocast(x.device.type, enabled=False), recording():
            given = [entry.detach().requires_grad_() for entry in (x, *state, *weights)]
            some = 1 + len(state)
            results = cell_layer(kind, given[0], given[1:some], given[some:], True)
            grads = torch.autograd.grad(results, given, list(cotangents), materialize_grads=True)
        return fresh(grads, [x, *state, *weights, *cotangents])

    schema = "(Tensor x, Tensor[] state, Tensor[] weights) -> Tensor[]"
    forward = torch.library.custom_op(f"seqc::{name}", layer, mutates_args=(), schema=schema)
    schema = "(Tensor x, Tensor[] state, Tensor[] weights, Tensor[] cotangents) -> Tensor[]"
    backward = torch.library.custom_op(f"seqc::{name}_backward", again, mutates_args=(), schema=schema)

    @forward.register_fake
    def results(x: Tensor, state: Any, weights: Any) -> list[Tensor]:
        out = x.new_empty((*x.shape[:2], state[0].shape[-1]))
        return [out, *(torch.empty_like(entry, memory_format=torch.contiguous_format) for entry in state)]

    @backward.register_fake
    def shapes(x: Tensor, state: Any, weights: Any, cotangents: Any) -> list[Tensor]:
        like = [x, *state, *weights]
        return [torch.empty_like(entry, memory_format=torch.contiguous_format) for entry in like]

    def save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        ctx.count = 1 + len(inputs[1])
        ctx.save_for_backward(inputs[0], *inputs[1], *inputs[2])

    def differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        x, *rest = ctx.saved_tensors
        state, weights = rest[: ctx.count - 1], rest[ctx.count - 1 :]
        found = backward(x, state, weights, [g.contiguous() for g in grads])
        return found[0], found[1 : ctx.count], found[ctx.count :]

    forward.register_autograd(differentiate, setup_context=save)
    return cast(Callable[..., list[Tensor]], getattr(known, name))


@contextmanager
def recording() -> Generator[None]:
    """Gradients are recorded inside an operator, where PyTorch has turned that off."""
    core: Any = torch._C  # pyright: ignore[reportPrivateUsage]  # there is no public way
    without = core._dispatch_tls_local_exclude_set()
    for key in ("AutogradCPU", "AutogradCUDA", "ADInplaceOrView"):
        without = without.remove(getattr(core.DispatchKey, key))
    with core._ForceDispatchKeyGuard(core._dispatch_tls_local_include_set(), without), torch.enable_grad():
        yield
