"""Stores that grow by an entry a token, and the reads that see all visible entries.

A store's state is `[batch, entries, …]`, oldest first, and `count`, how many tokens the row has appended since its
last reset.  With a window it keeps `sinks` entries of the beginning, then always the last `window - 1`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .stages import Slot, Values, after, ask, before, fresh


class Attention:
    """Reads of growing stores, a stretch of queries at a time.

    `attend` gives the results of some queries, given entries, `visible` (which query sees which entry) and `age` (how
    many tokens ago an entry was written); `back` gives the cotangents of queries and entries.
    """

    window: ClassVar[int | None] = None
    sinks: ClassVar[int] = 0
    queries: ClassVar[dict[str, Slot]]
    entries: ClassVar[dict[str, Slot]]
    outputs: ClassVar[dict[str, Slot]]
    attend: ClassVar[Callable[..., Values]]
    back: ClassVar[Callable[..., Values]]

    @classmethod
    def forward(cls, queries: Sequence[Tensor], entries: Sequence[Tensor], start: Tensor) -> list[Tensor]:
        """Results [batch, time, …]; `start` [batch, time] is the entry at which the token's sequence began."""
        with torch.autocast(start.device.type, enabled=False):
            results: dict[str, list[Tensor]] = {name: [] for name in cls.outputs}
            known = cls.arranged(queries, entries)
            for part, _, _ in cls.stretches(known, start, entries[0].shape[1]):
                for name, x in ask(cls.attend, part).items():
                    results[name].append(x)
            reads = [
                torch.cat(results[name], slot.order.index(0) + 1).permute(0, *before(slot, 1))
                for name, slot in cls.outputs.items()
            ]
            return fresh(reads, [*queries, *entries])

    @classmethod
    def backward(
        cls, queries: Sequence[Tensor], entries: Sequence[Tensor], start: Tensor, cotangents: Sequence[Tensor]
    ) -> list[Tensor]:
        """The cotangents of queries and entries."""
        with torch.autocast(start.device.type, enabled=False):
            known = cls.arranged(queries, entries)
            for (name, slot), g in zip(cls.outputs.items(), cotangents, strict=True):
                known[f"d_{name}"] = g.permute(0, *after(slot, 1))
            slots = cls.queries | cls.entries
            total = {name: torch.zeros_like(known[name]) for name in slots}
            for part, rows, columns in cls.stretches(known, start, entries[0].shape[1]):
                for name, g in ask(cls.back, part).items():
                    first, count = rows if name in cls.queries else columns
                    total[name].narrow(slots[name].order.index(0) + 1, first, count).add_(g)
            return fresh(
                [total[name].permute(0, *before(slot, 1)) for name, slot in slots.items()],
                [*queries, *entries],
            )

    @classmethod
    def arranged(cls, queries: Sequence[Tensor], entries: Sequence[Tensor]) -> Values:
        slots = cls.queries | cls.entries
        return {
            n: x.permute(0, *after(slot, 1))
            for (n, slot), x in zip(slots.items(), [*queries, *entries], strict=True)
        }

    @classmethod
    def stretches(cls, known: Values, start: Tensor, total: int) -> Any:
        """Queries and the entries that they may see, with `visible` and `age`; and the ranges of both."""
        time = start.shape[1]
        cached = total - time - cls.sinks
        rows = 128 if cls.window is not None else 256
        slots = cls.queries | cls.entries | {f"d_{name}": slot for name, slot in cls.outputs.items()}
        for first in range(0, time, rows):
            count = min(rows, time - first)
            high = cls.sinks + cached + first + count
            low = 0 if cls.window is None or cls.sinks else max(0, cached + first - cls.window + 1)
            part: Values = {}
            for name, x in known.items():
                dim = slots[name].order.index(0) + 1
                part[name] = (
                    x.narrow(dim, low, high - low) if name in cls.entries else x.narrow(dim, first, count)
                )
            part["visible"], part["age"] = seen(
                start[:, first : first + count], cached + first, low, high, cls.window, cls.sinks
            )
            yield part, (first, count), (low, high - low)

    @classmethod
    def fake(cls, queries: Sequence[Tensor], entries: Sequence[Tensor], start: Tensor) -> list[Tensor]:
        return [entries[0].new_empty((*start.shape, *slot.shape)) for slot in cls.outputs.values()]


class SoftmaxAttention(Attention):
    """Reads that are softmax attention and nothing else; of a sequence from its beginning `visible` may be None."""


def read_softmax(
    kind: type[SoftmaxAttention],
    operator: Callable[..., list[Tensor]],
    queries: list[Tensor],
    entries: list[Tensor],
    start: Tensor,
    reset: Tensor | None,
) -> list[Tensor]:
    """`operator`; or, where the entries are the sequence's own, all of them at once, which keeps no masks."""
    begun = kind.window is not None or reset is not None or torch.compiler.is_compiling()
    if begun or start.shape[1] != entries[0].shape[1] or 0 in start.shape:
        return operator(queries, entries, start)
    ((name, slot),) = kind.outputs.items()
    part: dict[str, Any] = {**kind.arranged(queries, entries), "visible": None}
    return [ask(kind.attend, part)[name].permute(0, *before(slot, 1))]


def softmax_read(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    """Softmax attention of queries [batch, …heads, …groups, queries, n] to keys and values [batch, …heads, entries, …].

    `visible` [batch, queries, entries]; without it every query sees all entries up to its own.
    """
    lead = q.shape[1:-2]
    q, k, v = (x.flatten(1, -3) if x.dim() > 3 else x[:, None] for x in (q, k, v))
    mask = None if visible is None else visible[:, None]
    grouped = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=grouped
    )
    return out.unflatten(1, lead) if lead else out[:, 0]


def seen(
    start: Tensor, now: int, low: int, high: int, window: int | None, sinks: int
) -> tuple[Tensor, Tensor]:
    """Which of the entries `low … high` each query sees, and their ages; the first query's own entry is `now`.

    `start` [batch, queries] and `now` count entries without the sinks, which stand before all others.
    """
    time = torch.arange(now, now + start.shape[1], device=start.device)[:, None]
    place = torch.arange(low - sinks, high - sinks, device=start.device)
    first = start[..., None]
    age = time - place
    visible = (place >= first) & (age >= 0)
    if window is not None:
        visible = visible & ((age < window) | (place - first < sinks))
    if sinks:
        origin = first + place + sinks  # where a sink would stand among the others, had it been kept there
        age = torch.where(place < 0, time - origin, age)
        visible = torch.where(place < 0, origin < 0, visible & (place >= 0))
    return visible, age.to(torch.float32).expand(visible.shape)


def attention(kind: type[Attention], name: str) -> Callable[..., list[Tensor]]:
    """`kind` as an opaque operator with a derivative, registered once under a name that says what is in it."""
    known: Any = torch.ops.seqc
    if hasattr(known, name):
        return cast(Callable[..., list[Tensor]], getattr(known, name))
    schema = "(Tensor[] queries, Tensor[] entries, Tensor start) -> Tensor[]"
    forward = torch.library.custom_op(f"seqc::{name}", kind.forward, mutates_args=(), schema=schema)
    forward.register_fake(kind.fake)
    schema = "(Tensor[] queries, Tensor[] entries, Tensor start, Tensor[] cotangents) -> Tensor[]"
    backward = torch.library.custom_op(
        f"seqc::{name}_backward", kind.backward, mutates_args=(), schema=schema
    )

    @backward.register_fake
    def shapes(queries: Any, entries: Any, start: Tensor, cotangents: Any) -> list[Tensor]:
        return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in [*queries, *entries]]

    def save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        ctx.count = len(inputs[0])
        ctx.save_for_backward(*inputs[0], *inputs[1], inputs[2])

    def differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        *saved, start = ctx.saved_tensors
        queries, entries = saved[: ctx.count], saved[ctx.count :]
        found = backward(queries, entries, start, [g.contiguous() for g in grads])
        return found[: ctx.count], found[ctx.count :], None

    forward.register_autograd(differentiate, setup_context=save)
    return cast(Callable[..., list[Tensor]], getattr(known, name))


def begins(count: Tensor, reset: Tensor | None, time: int, cached: int) -> tuple[Tensor, Tensor]:
    """For every token the entry at which its sequence began, and the counts after all tokens."""
    before = (cached - count)[:, None].expand(-1, time)
    if reset is None:
        return before, count + time
    here = torch.arange(time, device=reset.device)
    last = torch.where(reset, here, -1).cummax(1).values
    start = torch.where(last >= 0, cached + last, before)
    return start, cached + time - start[:, -1] if time else count


def kept(entries: Tensor, count: Tensor, window: int, sinks: int) -> Tensor:
    """What a store with a window hands on: the sinks, then the last `window - 1` entries."""
    rest = entries[:, sinks:]
    recent = rest[:, rest.shape[1] - window + 1 :]
    if not sinks:
        return recent
    place = (rest.shape[1] - count)[:, None] + torch.arange(sinks, device=count.device)
    index = place.clamp(0, rest.shape[1] - 1).reshape(*place.shape, *(1,) * (rest.dim() - 2))
    found = torch.gather(rest, 1, index.expand(-1, -1, *rest.shape[2:]))
    old = (place < 0).reshape(index.shape)
    return torch.cat([torch.where(old, entries[:, :sinks], found), recent], 1)


def safe_softmax(x: Tensor, dim: int) -> Tensor:
    """Softmax where a row of nothing but -inf gives zeros."""
    top = x.detach().amax(dim, keepdim=True)
    empty = top == float("-inf")
    return torch.softmax(x.masked_fill(empty, 0.0), dim).masked_fill(empty, 0.0)
