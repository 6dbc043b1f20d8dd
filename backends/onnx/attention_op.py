"""The `LinearAttention` node around a state with named axes: packing, the node, unpacking."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from seqc.ir.build import ONE
from seqc.ir.expr import Axes, DType
from seqc.ir.plan import RESET, Plan, Stage

from .control import branch
from .lower import Lowering
from .native import Native, find_native
from .pairs import Number
from .stages import StageRunner, run_stage
from .tensors import BATCH, TIME, Space, Tensor


def special_stages(plan: Plan, domain: str | None) -> tuple[dict[str, StageRunner], str | None]:
    """How to run the stages that the operator computes, and the operator's name and rule."""
    natives = {} if domain is None else find_native(plan.recurrence)
    runners: dict[str, StageRunner] = {}
    words: list[str] = []
    for stage in plan.stages:
        native = natives.get(stage.name)
        fits = (
            native is not None
            and stage.carried == (native.state,)
            and [r.leaf for r in stage.reads] == [native.leaf]
        )
        if native is not None and fits:
            runners[stage.name] = _runner(native, domain or "")
            words.append(f"{domain or 'ai.onnx'}.LinearAttention({native.rule})")
    return runners, "; ".join(words) or None


def _fits(stage: Stage, native: Native) -> bool:
    return stage.carried == (native.state,) and [read.leaf for read in stage.reads] == [native.leaf]


def _runner(native: Native, domain: str) -> StageRunner:
    def run(token: Lowering, stage: Stage, initial: Sequence[Number]) -> dict[str, Number]:
        (before,) = initial
        assert isinstance(before, Tensor)

        def fallback(inner: Lowering) -> tuple[Tensor, Tensor]:
            after = run_stage(inner, stage, initial)[native.state.name]
            read = inner.env[native.leaf]
            assert isinstance(read, Tensor)
            assert isinstance(after, Tensor)
            return read, after

        token.env[native.leaf], final = run_native(token, native, before, domain, fallback)
        return {native.state.name: final}

    return run


Fallback = Callable[[Lowering], tuple[Tensor, Tensor]]
MINUS_INFINITY = float("-inf")


def run_native(
    token: Lowering, native: Native, before: Tensor, domain: str, fallback: Fallback | None
) -> tuple[Tensor, Tensor]:
    """What the group's read gives at every token, and the state after the last one.

    The operator takes the logarithm of the gate.  Where the gate is a number that could be negative, a graph with
    `fallback` (the same by other nodes) decides when it runs.
    """
    decay = None if native.decay is None else token.real(native.decay)
    prepared = [token.real(x) for x in (native.query, native.key, native.value)]
    rate = None if native.beta is None else token.real(native.beta)
    reset = token.env.get(RESET)
    assert reset is None or isinstance(reset, Tensor)
    rest = None if native.rest is ONE else token.real(native.rest)
    log = None if native.log_decay is None else token.real(native.log_decay)

    def direct(space: Space) -> list[Tensor]:
        gate = log
        if gate is None and decay is not None:
            gate = space.elementwise("Log", decay)
        read, after = _call(space, native, prepared, _cut(space, gate, reset), rate, before, domain)
        return [read if rest is None else space.mul(read, rest), after]

    if decay is None or log is not None or fallback is None:
        read, after = direct(token.space)
        return read, after

    def otherwise(space: Space) -> list[Tensor]:
        return list(fallback(Lowering(space, token.env)))

    negative = token.space.elementwise("Less", decay, token.space.number(0), kind=DType.BOOL)
    read, after = branch(token.space, negative, otherwise, direct)
    return read, after


def _cut(space: Space, log: Tensor | None, reset: Tensor | None) -> Tensor | None:
    """The logarithm of the gate with the past cut off at resets."""
    if reset is None:
        return log
    lowest = space.number(MINUS_INFINITY)
    return space.elementwise("Where", reset, lowest, space.number(0) if log is None else log, kind=DType.REAL)


def _call(
    space: Space,
    native: Native,
    prepared: list[Tensor],
    log: Tensor | None,
    rate: Tensor | None,
    before: Tensor,
    domain: str,
) -> tuple[Tensor, Tensor]:
    heads, keys, columns = native.heads, native.keys, native.columns
    query, key, value = prepared
    groups = tuple(a for a in query.axes if a not in (BATCH, TIME, *heads, *keys))
    count = space.guess(heads)
    state = _squeezed(
        space, space.transpose(before, (BATCH, *heads, *keys, *columns)), [heads, keys, columns]
    )
    rule = (
        native.rule
        if log is None
        else {"linear": "gated", "delta": "gated_delta"}.get(native.rule, native.rule)
    )
    gated = None
    if log is not None:
        by_key = bool(set(log.axes) & set(keys))
        gated = _packed(space, log, (*heads, *keys) if by_key else heads)
    inputs = [
        _packed(space, query, (*heads, *groups, *keys)),
        _packed(space, key, (*heads, *keys)),
        _packed(space, value, (*heads, *columns)),
        state,
        gated,
    ]
    if rate is not None:
        inputs.append(_packed(space, rate, heads))
    y, after = space.builder.ops(
        "LinearAttention",
        *(None if x is None else x.value for x in inputs),
        count=2,
        domain=domain,
        q_num_heads=count * space.guess(groups),
        kv_num_heads=count,
        update_rule=rule,
        scale=1.0,
    )
    return _unpacked(space, native, y, groups), _restored(space, native, after)


def _packed(space: Space, tensor: Tensor, axes: Axes) -> Tensor:
    """`[batch, time, everything else]`; a graph for one token has a time of 1."""
    b = space.builder
    lead = (BATCH, TIME) if TIME in space.dynamic else (BATCH,)
    full = space.expand(tensor, (*lead, *axes))
    if TIME not in space.dynamic:
        return Tensor(b.op("Reshape", full.value, b.ints(0, 1, space.guess(axes))), (BATCH, TIME, "%packed"))
    return Tensor(b.op("Reshape", full.value, b.ints(0, 0, space.guess(axes))), (BATCH, TIME, "%packed"))


def _squeezed(space: Space, tensor: Tensor, groups: list[Axes]) -> Tensor:
    if all(len(group) == 1 for group in groups):
        return tensor
    sizes = [space.guess(group) for group in groups]
    value = space.builder.op("Reshape", tensor.value, space.builder.ints(0, *sizes))
    return Tensor(value, (BATCH, "%heads", "%keys", "%columns"))


def _unpacked(space: Space, native: Native, value: ir.Value, groups: Axes) -> Tensor:
    b = space.builder
    axes = (*native.heads, *groups, *native.columns)
    sizes = [space.guess((a,)) for a in axes]
    if TIME not in space.dynamic:
        return Tensor(b.op("Reshape", value, b.ints(0, *sizes)), (BATCH, *axes))
    return Tensor(b.op("Reshape", value, b.ints(0, 0, *sizes)), (BATCH, TIME, *axes))


def _restored(space: Space, native: Native, value: ir.Value) -> Tensor:
    axes = (BATCH, *native.heads, *native.keys, *native.columns)
    tensor = Tensor(value, axes)
    if not len(native.heads) == len(native.keys) == len(native.columns) == 1:
        sizes = [space.guess((a,)) for a in axes[1:]]
        flat = space.builder.op("Reshape", tensor.value, space.builder.ints(0, *sizes))
        tensor = Tensor(flat, axes)
    return space.transpose(tensor, (BATCH, *native.state.axes))
