"""What the tests need of reads of growing stores: rules, and comparisons that run where Triton interprets kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import seqc
from seqc.ir.recurrence import Recurrence
from tests.emit.torch.rules import error, inputs_of
from tests.emit.triton.parts import BACKEND, always, chunk, never, of_spec, scheduled, written

if TYPE_CHECKING:
    from backends.torch import BACKEND as TORCH  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.torch import rule as in_torch  # noqa: TID251
    from backends.triton.runtime.attention import ReadKernels  # noqa: TID251
else:
    from seqc.backends.torch import BACKEND as TORCH
    from seqc.backends.torch import rule as in_torch
    from seqc.backends.triton.runtime.attention import ReadKernels

KEYS = {"n": 5, "m": 3}
ALIBI = """
rule alibi(q[n], k[n], v[m], slope) {
    store  K[s, n] = k
    store  V[s, m] = v
    return sum[s](softmax[s](sum[n](q * K') - slope * age[s]) * V')
}
"""
HEADS = """
rule heads(q[h, n], k[h, n], v[h, m], log_f[h]) {
    state  F[h] = 0
    F'     = F - abs(log_f)
    store  K[s, h, n] = k
    store  V[s, h, m] = v
    store  G[s, h] = F'
    return sum[s](softmax[s](sum[n](q * K') + F' - G') * V')
}
"""
EARLIER = """
rule earlier(q[n], k[n], v[m]) {
    store  K[s, n] = k, window = 11
    store  V[s, m] = v, window = 11
    return sum[s](tanh(sum[n](q * K)) * V)
}
"""
GROUPED = """
model grouped(tokens; vocab = 11, d = 24) {
    x[d] = embed(tokens, vocab)
    x = x + local_attention(x, 4, window = 9, kv_heads = 2, sinks = 2)
    return lm_head(x, vocab)
}
"""
RULES: dict[str, Callable[[], Recurrence]] = {
    "softmax": of_spec("attention/softmax", "softmax_attention", **KEYS),
    "forget gates": of_spec("attention/fox", "forgetting_attention", **KEYS),
    "a window": of_spec("attention/window", "window_attention", **KEYS, window=19, sinks=0),
    "a window, sinks": of_spec("attention/window", "window_attention", **KEYS, window=19, sinks=3),
    "a sink of weight": of_spec("attention/sinks", "attend_sink", **KEYS),
    "two results": of_spec("attention/less", "cached", **KEYS, window=19),
    "sigmoid": of_spec("attention/sigmoid", "sigmoid_attention", **KEYS),
    "strided": of_spec("attention/sparse", "strided_attention", **KEYS, stride=4),
    "late": of_spec("attention/less", "delayed", n=5, by=7),
    "positions": of_spec("attention/relative", "relative_attention", **KEYS, reach=9),
    "distance": written(ALIBI, **KEYS),
    "without itself": written(EARLIER, **KEYS),
    "forget gates of heads": written(HEADS, h=2, **KEYS),
}
launched = list[str]()
_launch = ReadKernels.launch


def _counted(self: ReadKernels, name: str, *args: Any, **fixed: Any) -> None:
    launched.append(name)
    _launch(self, name, *args, **fixed)


ReadKernels.launch = _counted  # type: ignore[method-assign]


def _results(outs: list[tuple[Tensor, ...]], inputs: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The outputs of parts of a sequence, one after another, and the gradients of a fixed sum of them.

    The factors of the sum have numbers that the type `dtype` has.
    """
    whole = [torch.cat(parts, 1) for parts in zip(*outs, strict=True)]
    draw = torch.Generator().manual_seed(1)
    cotangents = [
        torch.randn(x.shape, generator=draw, dtype=torch.float64).to(dtype).to(x.dtype) for x in whole
    ]
    return [x.double() for x in (*whole, *torch.autograd.grad(whole, inputs, cotangents))]


def compared(
    name: str,
    time: int,
    resets: bool,
    ends: tuple[int, ...] = (),
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    given: Mapping[str, float] | None = None,
) -> list[float]:
    """The errors of the kernels, in parts that end where `ends` says, against tokens in double precision.

    Outputs first, then gradients.  Inputs are of a type; some are numbers that are `given`.
    """
    rec = RULES[name]()
    module: Any = BACKEND.module(scheduled(rec))
    tokens: Any = in_torch(rec, mode="reference").double()
    narrow = {key: (scale * x.detach().float()).to(dtype) for key, x in inputs_of(rec, 2, time).items()}
    narrow |= {key: torch.full_like(narrow[key], x) for key, x in (given or {}).items()}
    draw = torch.Generator().manual_seed(5)
    reset = torch.rand(2, time, generator=draw) < 0.1 if resets else None
    found = list[list[Tensor]]()
    for rule, kind, stops in ((module, dtype, (*ends, time)), (tokens, torch.float64, (time,))):
        launched.clear()
        inputs = {key: x.to(kind, copy=True).requires_grad_() for key, x in narrow.items()}
        outs, state, start = list[tuple[Tensor, ...]](), None, 0
        for stop in stops:
            part = {key: x[:, start:stop] for key, x in inputs.items()}
            fresh = {} if reset is None else {"reset": reset[:, start:stop]}
            out, state = rule(**part, state=state, **fresh)
            outs.append(out if isinstance(out, tuple) else (out,))
            start = stop
        found.append(_results(outs, list(inputs.values()), dtype))
        if rule is module:
            assert {"read", "back_queries", "back_entries"} <= {*launched}
            assert all(x.dtype == dtype for out in outs for x in out)
    assert all(x.isfinite().all() for x in found[0])
    return [error(x, y) if y.norm() > 1e-6 else float(x.detach().norm()) for x, y in zip(*found, strict=True)]


def with_rounded_products(
    name: str,
    time: int,
    dtype: torch.dtype,
    resets: bool,
    ends: tuple[int, ...] = (),
    given: Mapping[str, float] | None = None,
) -> list[float]:
    """As `compared`, with products of matrices as they are on NVIDIA."""
    before = chunk.exact, chunk.narrow
    chunk.exact, chunk.narrow = never, always
    try:
        return compared(name, time, resets, ends, 1.0, dtype, given)
    finally:
        chunk.exact, chunk.narrow = before


def kinds(name: str) -> list[torch.dtype]:
    """The types of the first store after a sequence of bfloat16, after one more token, and after another sequence."""
    rec = RULES[name]()
    module: Any = BACKEND.module(scheduled(rec))
    inputs = {key: x.detach().to(torch.bfloat16) for key, x in inputs_of(rec, 2, 6).items()}
    store, found = rec.stores[0].name, list[torch.dtype]()
    state = module(**inputs)[-1]
    found.append(state[store].dtype)
    state = module.step(**{key: x[:, 0] for key, x in inputs.items()}, state=state)[-1]
    found.append(state[store].dtype)
    state = module(**inputs, state=state)[-1]
    return [*found, state[store].dtype]


def grouped() -> float:
    """The error of a model whose heads share keys: logits, and the gradients of its parameters."""
    program = seqc.loads(GROUPED).model().program()
    made: Any = BACKEND.module(program)
    wanted: Any = TORCH.module(program).double()
    wanted.load_state_dict(made.state_dict())
    tokens = torch.randint(11, (2, 70), generator=torch.Generator().manual_seed(0))
    launched.clear()
    found = [
        _results([(module(tokens)[0],)], list(module.parameters()), torch.float32)
        for module in (made, wanted)
    ]
    assert {"read", "back_queries", "back_entries"} <= {*launched}
    return max(error(x, y) for x, y in zip(*found, strict=True))
