"""The `LinearAttention` node around a state with named axes: packing, the node, unpacking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from seqc.ir import build
from seqc.ir.expr import Axes, DType
from seqc.ir.plan import RESET, Plan, Stage
from seqc.ir.recurrence import Recurrence, State

from .control import any_negative, branch
from .lower import Lowering
from .native import Native, find_native, rule
from .pairs import Number
from .primitives import MICROSOFT
from .stages import StageRunner, run_stage
from .tensors import BATCH, TIME, Space, Tensor


@dataclass(frozen=True, slots=True)
class Special:
    """The stages of a plan that the operator computes, by name, and the operator's domain."""

    natives: Mapping[str, Native]
    domain: str

    @property
    def runners(self) -> dict[str, StageRunner]:
        return {name: _runner(native, self.domain) for name, native in self.natives.items()}

    def whole(self, plan: Plan) -> bool:
        """Whether the operator computes all of a plan."""
        return bool(self.natives) and len(self.natives) == len(plan.stages)

    def words(self) -> list[str]:
        return [f"{self.domain or 'ai.onnx'}.LinearAttention({n.rule})" for n in self.natives.values()]

    def layout(self, state: State) -> tuple[Axes, ...]:
        """A state's dimensions between calls, each with the axes that it joins: the operator's if it has the state."""
        native = next((n for n in self.natives.values() if n.state is state), None)
        if native is None:
            return tuple((axis,) for axis in state.axes)
        return tuple(group for group in (native.heads, native.keys, native.columns) if group)


def special_stages(plan: Plan, domain: str | None) -> Special:
    """What the operator computes of a plan."""
    found = {} if domain is None else find_native(plan.recurrence)
    fitting = {s.name: found[s.name] for s in plan.stages if s.name in found and _fits(s, found[s.name])}
    return Special(fitting, domain or "")


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


def run_native(
    token: Lowering, native: Native, before: Tensor, domain: str, fallback: Fallback
) -> tuple[Tensor, Tensor]:
    """What the group's read gives at every token, and the state after the last one.

    The operator takes the logarithm of the gate.  Where the gate is a number that could be negative, the graph decides
    when it runs, and otherwise does the same by other nodes (`fallback`).  It also looks whether there are resets: a
    gate that cuts the past off costs a pass over all tokens, and makes a rule without a gate a gated one.
    """
    call = _Operator(native, token, before, domain)
    space, log = token.space, call.log

    def otherwise(inner: Space) -> list[Tensor]:
        return call.packed(inner, *fallback(Lowering(inner, token.env)))

    if call.decay is not None and log is None:
        packed = branch(space, any_negative(space, call.decay), otherwise, call.emit)
    elif call.reset is not None and TIME in call.lead:
        packed = branch(space, call.reset, call.emit, call.emit_unbroken)
    else:
        packed = call.emit(space)
    return call.unpacked(space, *packed)


def run_token(
    token: Lowering, recurrence: Recurrence, native: Native, before: Tensor, domain: str
) -> tuple[Tensor, Tensor]:
    """The same for one token."""

    def fallback(inner: Lowering) -> tuple[Tensor, Tensor]:
        state = native.state
        kept = inner.space.elementwise(
            "Where", _reset_of(inner), inner.space.number(0), before, kind=DType.REAL
        )
        inner.env[state.leaf] = kept
        inner.definitions[state.next] = recurrence.updates_by_name[state.name]
        read = build.sum_over(native.keys, build.mul(native.query, state.next))
        read = build.mul(build.const(native.scale), read)
        return inner.real(read), inner.real(state.next)

    return run_native(token, native, before, domain, fallback)


def _reset_of(token: Lowering) -> Tensor:
    reset = token.env[RESET]
    assert isinstance(reset, Tensor)
    return reset


class _Operator:
    """One use of the operator: what goes in, and how its packed tensors are the named ones."""

    def __init__(self, native: Native, token: Lowering, before: Tensor, domain: str) -> None:
        self.native, self.before, self.domain = native, before, domain
        self.query, self.key, self.value = (token.real(x) for x in (native.query, native.key, native.value))
        self.rate = None if native.beta is None else token.real(native.beta)
        self.decay = None if native.decay is None else token.real(native.decay)
        self.log = None if native.log_decay is None else token.real(native.log_decay)
        reset = _reset_of(token)
        self.reset = reset if reset.axes else None
        self.lead = (BATCH, TIME) if TIME in token.space.dynamic else (BATCH,)
        self.shares = domain == MICROSOFT  # which takes fewer heads of keys and queries than of values
        self.groups = tuple(a for a in self.query.axes if a not in (*self.lead, *native.heads, *native.keys))
        self.state_axes = (BATCH, *native.heads, *native.keys, *native.columns)

    def emit(self, space: Space) -> list[Tensor]:
        """The node: its output and the state after it, packed."""
        return self._operator(space, self._gate(space))

    def emit_unbroken(self, space: Space) -> list[Tensor]:
        """The same where no token is the first of its document."""
        return self._operator(space, self.log)

    def _operator(self, space: Space, gate: Tensor | None) -> list[Tensor]:
        heads, keys, columns = self.native.heads, self.native.keys, self.native.columns
        gate_axes = (*heads, *keys) if gate is not None and set(gate.axes) & set(keys) else heads
        own = (*heads, *self.groups) if self.groups else self._own_heads(self.query)
        inputs = [
            self._pack(space, self.query, (*own, *keys)),
            self._pack(space, self.key, (*self._own_heads(self.key), *keys)),
            self._pack(space, self.value, (*heads, *columns)),
            self._squeeze(space, self.before),
            None if gate is None else self._pack(space, gate, gate_axes),
        ]
        if self.rate is not None:
            inputs.append(self._pack(space, self.rate, heads))
        y, after = space.builder.ops(
            "LinearAttention",
            *inputs,
            count=2,
            domain=self.domain,
            q_num_heads=space.guess(own),
            kv_num_heads=space.guess(heads),
            update_rule=rule(gate is not None, self.rate is not None),
            scale=self.native.scale,
        )
        sizes = [space.guess(axes) for axes in (heads, keys, columns)]
        # Shape inference knows nothing of another domain's operators.
        y.shape, after.shape = ir.Shape([None] * 3), ir.Shape([None, *sizes])
        y.type = after.type = ir.TensorType(ir.DataType.FLOAT)
        return [Tensor(y, (BATCH, TIME, "%packed")), Tensor(after, (BATCH, "%heads", "%keys", "%columns"))]

    def _own_heads(self, tensor: Tensor) -> Axes:
        """The heads without the last ones, along which keys or queries do not vary: they are shared there."""
        heads = self.native.heads
        while self.shares and heads and heads[-1] not in tensor.axes:
            heads = heads[:-1]
        return heads

    def packed(self, space: Space, read: Tensor, after: Tensor) -> list[Tensor]:
        """The read and the state as the node would give them."""
        axes = (*self.native.heads, *self.groups, *self.native.columns)
        y = Tensor(self._pack(space, read, axes), (BATCH, TIME, "%packed"))
        return [y, Tensor(self._squeeze(space, after), (BATCH, "%heads", "%keys", "%columns"))]

    def unpacked(self, space: Space, y: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        axes = (*self.native.heads, *self.groups, *self.native.columns)
        axes = tuple(a for a in axes if space.fixed(a) != 1)
        lengths = [0] * len(self.lead) + [space.guess((a,)) for a in axes]
        read = space.builder.op("Reshape", y.value, space.builder.ints(*lengths))
        state = after.value
        if not self._plain:
            sizes = [space.guess((a,)) for a in self.state_axes[1:]]
            state = space.builder.op("Reshape", state, space.builder.ints(0, *sizes))
        return Tensor(read, (*self.lead, *axes)), Tensor(state, self.state_axes)

    @property
    def _plain(self) -> bool:
        """Whether the state's dimensions are the operator's."""
        return len(self.native.heads) == len(self.native.keys) == len(self.native.columns) == 1

    def _gate(self, space: Space) -> Tensor | None:
        """The logarithm of the gate, with the past cut off at resets."""
        log = self.log
        if log is None and self.decay is not None:
            log = space.elementwise("Log", self.decay)
        if self.reset is None:
            return log
        past, none = space.number(float("-inf")), space.number(0)
        if TIME in self.lead or log is None:
            return space.elementwise("Where", self.reset, past, log or none, kind=DType.REAL)
        cut = space.elementwise("Where", self.reset, past, none, kind=DType.REAL)  # one for all layers
        return space.elementwise("Add", log, cut)

    def _pack(self, space: Space, tensor: Tensor, axes: Axes) -> ir.Value:
        """`[batch, time, everything else]`; a graph for one token has a time of 1."""
        full = space.expand(tensor, (*self.lead, *axes))
        time = 0 if TIME in self.lead else 1
        return space.builder.op("Reshape", full.value, space.builder.ints(0, time, space.guess(axes)))

    def _squeeze(self, space: Space, state: Tensor) -> ir.Value:
        ordered = space.expand(state, self.state_axes)
        if self._plain:
            return ordered.value
        sizes = [space.guess(axes) for axes in (self.native.heads, self.native.keys, self.native.columns)]
        return space.builder.op("Reshape", ordered.value, space.builder.ints(0, *sizes))
