"""How a stage of a recurrence runs: blocks of tokens at once, and the carried states from block to block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor

Values = dict[str, Tensor]


class Slot(NamedTuple):
    """How a sequence enters a stage and leaves it.

    `padding` completes the last block.  `order` arranges the dimensions after batch and block: of an input or a
    result the token of the block and then its axes as callers know them, of a state its axes.  A `constant` has no
    batch and no time.  `shape` are the lengths of the axes.
    """

    shape: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    padding: float = 0.0
    constant: bool = False
    complex: bool = False


class Stage:
    """States that advance together, `block` tokens at a time (0: the whole sequence is one block).

    A subclass says what happens in a block as functions, which ask by the names of their parameters for inputs,
    results of `pre` and states: `pre` (all blocks at once), `update` (the states after a block), `reads` (results, for
    all blocks at once, given the states before each); and the derived reverse: `back_pre`, `direct` and `cotangents`
    (all blocks at once), `back` (one block, from the last to the first).  `d_x` is the cotangent of `x`.
    """

    block: ClassVar[int]
    inputs: ClassVar[dict[str, Slot]]
    carried: ClassVar[dict[str, Slot]]
    outputs: ClassVar[dict[str, Slot]]
    constants: ClassVar[frozenset[str]] = (
        frozenset()
    )  # results of `pre` and `back_pre` without batch and block
    pre: ClassVar[Callable[..., Values]]
    update: ClassVar[Callable[..., Values]]
    reads: ClassVar[Callable[..., Values]]
    back_pre: ClassVar[Callable[..., Values]]
    direct: ClassVar[Callable[..., Values]]
    back: ClassVar[Callable[..., Values]]
    cotangents: ClassVar[Callable[..., Values]]

    @classmethod
    def forward(
        cls, inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool
    ) -> list[Tensor]:
        """The results, the final states and, if asked, the states before each block."""
        with torch.autocast(carried[0].device.type, enabled=False):
            if time == 0:
                return [*cls.fake(inputs, [], time, False), *(x.clone() for x in carried)]
            size = cls.block or time
            values = {
                name: to_blocks(x, slot, size)
                for (name, slot), x in zip(cls.inputs.items(), inputs, strict=True)
            }
            state = {
                name: x.permute(0, *after(slot, 1))
                for (name, slot), x in zip(cls.carried.items(), carried, strict=True)
            }
            reads, state, starts = cls.sweep(values, state, -(-time // size), keep, None)
            results = [from_blocks(reads[name], slot, time) for name, slot in cls.outputs.items()]
            finals = [
                x.permute(0, *before(slot, 1))
                for x, slot in zip(state.values(), cls.carried.values(), strict=True)
            ]
            return fresh([*results, *finals, *starts.values()], [*inputs, *carried])

    @classmethod
    def sweep(
        cls, values: Values, state: Values, count: int, keep: bool, active: Tensor | None
    ) -> tuple[Values, Values, Values]:
        """All blocks in order: the results, the states after the last and before each.

        `active` [batch, block] says which rows have tokens in a block, where not all do.
        """
        results: dict[str, list[Tensor]] = {name: [] for name in cls.outputs}
        starts: dict[str, list[Tensor]] = {name: [] for name in cls.carried if keep}
        slab = blocks_at_once(list(values.values()), count)
        for first in range(0, count, slab):
            part = cls.stretch(values, first, slab)
            part |= ask(cls.pre, part)
            rows = None if active is None else active[:, first : first + slab]
            begins, state = cls.course(part, state, min(slab, count - first), rows)
            part |= begins
            for name in starts:
                starts[name].append(part[name])
            for name, x in ask(cls.reads, part).items():
                results[name].append(x)
        return {n: joined(x) for n, x in results.items()}, state, {n: joined(x) for n, x in starts.items()}

    @classmethod
    def course(cls, part: Values, state: Values, count: int, active: Tensor | None) -> tuple[Values, Values]:
        """The states before each block of a stretch, and those after the last."""
        begins: dict[str, list[Tensor]] = {name: [] for name in cls.carried}
        still = {*cls.carried, *cls.still()}
        for i, here in enumerate(each_block(cls.update, part, still, count)):
            for name, entries in begins.items():
                entries.append(state[name])
            later = ask(cls.update, {**here, **state})
            state = later if active is None else chosen(active[:, i], later, state)
        return {name: torch.stack(entries, 1) for name, entries in begins.items()}, state

    @classmethod
    def backward(
        cls, inputs: Sequence[Tensor], starts: Sequence[Tensor], cotangents: Sequence[Tensor], time: int
    ) -> list[Tensor]:
        """The cotangents of inputs and initial states; `cotangents` are those of the results and the final states."""
        if time == 0:
            return [torch.zeros_like(x) for x in inputs] + [x.clone() for x in cotangents[len(cls.outputs) :]]
        with torch.autocast(starts[0].device.type, enabled=False):
            size = cls.block or time
            values = {
                name: to_blocks(x, slot, size)
                for (name, slot), x in zip(cls.inputs.items(), inputs, strict=True)
            }
            values |= dict(zip(cls.carried, starts, strict=True))
            reads, finals = cotangents[: len(cls.outputs)], cotangents[len(cls.outputs) :]
            for (name, slot), g in zip(cls.outputs.items(), reads, strict=True):
                values[f"d_{name}"] = to_blocks(g, slot._replace(padding=0.0), size)
            flowing = {
                f"d_{n}": g.permute(0, *after(slot, 1))
                for (n, slot), g in zip(cls.carried.items(), finals, strict=True)
            }
            found, flowing = cls.sweep_back(values, flowing, -(-time // size), None)
            grads = [
                torch.zeros_like(x)
                if name not in found
                else found[name]
                if slot.constant
                else from_blocks(found[name], slot, time)
                for (name, slot), x in zip(cls.inputs.items(), inputs, strict=True)
            ]
            grads += [
                x.permute(0, *before(slot, 1))
                for x, slot in zip(flowing.values(), cls.carried.values(), strict=True)
            ]
            return fresh(grads, [*inputs, *starts, *cotangents])

    @classmethod
    def sweep_back(
        cls, values: Values, flowing: Values, count: int, active: Tensor | None
    ) -> tuple[Values, Values]:
        """All blocks from the last to the first: the cotangents of the inputs and of the initial states."""
        results: dict[str, list[Tensor]] = {}
        slab = blocks_at_once(list(values.values()), count)
        for first in reversed(range(0, count, slab)):
            blocks = min(slab, count - first)
            part = cls.stretch(values, first, slab)
            part |= ask(cls.pre, part)
            part |= ask(cls.back_pre, part)
            rows = None if active is None else active[:, first : first + slab]
            ends, flowing = cls.course_back(part, ask(cls.direct, part), flowing, blocks, rows)
            part |= ends
            for name, g in ask(cls.cotangents, part).items():
                results.setdefault(name, []).insert(0, g)
        constants = {name for name, slot in cls.inputs.items() if slot.constant}
        return {n: added(x) if n in constants else joined(x) for n, x in results.items()}, flowing

    @classmethod
    def course_back(
        cls, part: Values, direct: Values, flowing: Values, count: int, active: Tensor | None
    ) -> tuple[Values, Values]:
        """The cotangents of the states after each block of a stretch, and of those before the first.

        `direct` is what the results of a block add to the cotangent of the state before it.
        """
        blockwise = {name: g.unbind(1) for name, g in direct.items()}
        still = {*flowing, *cls.still()}
        ends: dict[str, list[Tensor]] = {name: [] for name in flowing}
        for i, here in reversed(list(enumerate(each_block(cls.back, part, still, count)))):
            there, rows = flowing, None if active is None else active[:, i]
            if rows is not None:
                there = chosen(rows, flowing, {n: torch.zeros_like(g) for n, g in flowing.items()})
            for name, entries in ends.items():
                entries.append(there[name])
            steps = ask(cls.back, {**here, **there})
            for name, own in blockwise.items():
                steps[name] = steps[name] + own[i] if name in steps else own[i]
            steps = {n: steps[n] if n in steps else torch.zeros_like(g) for n, g in flowing.items()}
            flowing = steps if rows is None else chosen(rows, steps, flowing)
        return {name: torch.stack(entries[::-1], 1) for name, entries in ends.items()}, flowing

    @classmethod
    def still(cls) -> set[str]:
        return {name for name, slot in cls.inputs.items() if slot.constant} | set(cls.constants)

    @classmethod
    def stretch(cls, values: Values, first: int, count: int) -> Values:
        still = cls.still()
        return {name: x if name in still else x[:, first : first + count] for name, x in values.items()}

    @classmethod
    def fake(cls, inputs: Sequence[Tensor], carried: Sequence[Tensor], time: int, keep: bool) -> list[Tensor]:
        """Empty tensors of the shapes and kinds of `forward`'s results."""
        like = [*carried, *inputs][0]
        batch = like.shape[0]
        size = cls.block or time
        count = (time + size - 1) // size
        reads = [
            like.new_empty((batch, time, *slot.shape), dtype=kind(like, slot))
            for slot in cls.outputs.values()
        ]
        finals = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in carried]
        starts = [
            x.new_empty((batch, count, *(x.shape[1 + i] for i in slot.order)))
            for x, slot in zip(carried, cls.carried.values(), strict=False)
            if keep
        ]
        return [*reads, *finals, *starts]


def operator(stage: type[Stage], name: str) -> Callable[..., list[Tensor]]:
    """`stage` as an opaque operator with a derivative, registered once under a name that says what is in it."""
    known: Any = torch.ops.seqc
    if hasattr(known, name):
        return cast(Callable[..., list[Tensor]], getattr(known, name))
    schema = "(Tensor[] inputs, Tensor[] carried, SymInt time, bool keep) -> Tensor[]"
    forward = torch.library.custom_op(f"seqc::{name}", stage.forward, mutates_args=(), schema=schema)
    forward.register_fake(stage.fake)
    schema = "(Tensor[] inputs, Tensor[] starts, Tensor[] cotangents, SymInt time) -> Tensor[]"
    backward = torch.library.custom_op(
        f"seqc::{name}_backward", stage.backward, mutates_args=(), schema=schema
    )

    @backward.register_fake
    def shapes(inputs: Any, starts: Any, cotangents: Any, time: int) -> list[Tensor]:
        like = [*inputs, *cotangents[len(stage.outputs) :]]
        return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in like]

    def save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        ctx.count, ctx.time = len(inputs[0]), inputs[2]
        ctx.save_for_backward(*inputs[0], *output[len(stage.outputs) + len(stage.carried) :])

    def differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        inputs, starts = saved[: ctx.count], saved[ctx.count :]
        known = [g.contiguous() for g in grads[: len(stage.outputs) + len(stage.carried)]]
        found = backward(list(inputs), list(starts), known, ctx.time)
        return found[: ctx.count], found[ctx.count :], None, None

    forward.register_autograd(differentiate, setup_context=save)
    return cast(Callable[..., list[Tensor]], getattr(known, name))


def advance(
    operator: Callable[..., list[Tensor]], count: int, time: int, inputs: list[Tensor], carried: list[Tensor]
) -> list[Tensor]:
    """Results and final states of a stage; the states in between are kept only if a gradient may be asked for."""
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in [*inputs, *carried])
    keep = wanted and not torch.compiler.is_exporting()
    return operator(inputs, carried, time, keep)[:count]


def ask(function: Callable[..., Values], values: Mapping[str, Tensor]) -> Values:
    """Call a function with the values that its parameters name."""
    code = function.__code__
    return function(*[values[name] for name in code.co_varnames[: code.co_argcount]])


def each_block(function: Callable[..., Values], part: Values, still: set[str], count: int) -> list[Values]:
    """For each block of a stretch, the values that `function` asks for; `still` ones are the same for all."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    moving = [name for name in names if name not in still]
    constant = {name: part[name] for name in names if name in still and name in part}
    if not moving:
        return [constant] * count
    return [
        dict(zip(moving, row, strict=True)) | constant
        for row in zip(*(part[name].unbind(1) for name in moving), strict=True)
    ]


def blocks_at_once(inputs: Sequence[Tensor], count: int) -> int:
    """How many blocks to lay out at a time, so that what is made on the way stays small."""
    entries = sum(x.numel() for x in inputs)
    return max(1, min(count, 2**20 * count // max(entries, 1)))


def after(slot: Slot, lead: int) -> list[int]:
    """The dimensions of a caller's tensor in the order of the stage."""
    return [i + lead for i in slot.order]


def before(slot: Slot, lead: int) -> list[int]:
    """The dimensions of a stage's tensor in the order of the caller."""
    return [slot.order.index(i) + lead for i in range(len(slot.order))]


def to_blocks(x: Tensor, slot: Slot, size: int) -> Tensor:
    """[batch, time, …] as [batch, block, …] with the token of the block among the axes."""
    if slot.constant:
        return x
    if size == 1 and len(slot.order) == len(slot.shape):
        return x.permute(0, 1, *after(slot, 2))
    if missing := -x.shape[1] % size:
        filling = x.new_full((), slot.padding).expand(x.shape[0], missing, *x.shape[2:])
        x = torch.cat([x, filling], 1)
    return x.reshape(x.shape[0], -1, size, *x.shape[2:]).permute(0, 1, *after(slot, 2)).contiguous()


def from_blocks(x: Tensor, slot: Slot, time: int) -> Tensor:
    x = x.permute(0, 1, *before(slot, 2))
    return x if len(slot.order) == len(slot.shape) else x.flatten(1, 2).narrow(1, 0, time)


def added(stretches: list[Tensor]) -> Tensor:
    return stretches[0] if len(stretches) == 1 else torch.stack(stretches).sum(0)


def chosen(rows: Tensor, yes: Values, no: Values) -> Values:
    """The values `yes` in the rows of the batch that are marked, else `no`."""
    return {name: torch.where(rows.view(-1, *(1,) * (x.dim() - 1)), yes[name], x) for name, x in no.items()}


def joined(stretches: list[Tensor]) -> Tensor:
    return stretches[0] if len(stretches) == 1 else torch.cat(stretches, 1)


def kind(like: Tensor, slot: Slot) -> torch.dtype:
    real = like.real.dtype if like.is_complex() else like.dtype
    return real.to_complex() if slot.complex else real


def fresh(results: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous tensors that share no memory with one another or with what was given."""
    taken = {x.untyped_storage().data_ptr() for x in given}
    clean: list[Tensor] = []
    for x in results:
        x = x.resolve_conj().contiguous()
        if x.untyped_storage().data_ptr() in taken or x.untyped_storage().nbytes() > x.nbytes:
            x = x.clone()
        taken.add(x.untyped_storage().data_ptr())
        clean.append(x)
    return clean
