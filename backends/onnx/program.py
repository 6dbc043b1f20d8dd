"""A whole recurrence, block or model as one graph: calls are inlined, states are threaded through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from seqc.ir.expr import Axes, Const, Conv, DType, Expr, Flip, Invoke, Item, Leaf, LeafKind, Pool
from seqc.ir.paths import Instance, callees, count_name, join, window_name
from seqc.ir.plan import RESET, Plan, Stage
from seqc.ir.recurrence import Recurrence, State, Store
from seqc.passes.cells import WIDEST, find_cells

from .attention_op import Special, run_token, special_stages
from .blocks import in_blocks
from .builder import Builder
from .cells import cell_runner
from .control import Unsupported
from .conv import convolve
from .gates import known_log, log_leaf, with_logs
from .local import is_local, local_outputs
from .lower import Lowering
from .manifest import LoweringInfo
from .narrow import narrow
from .pairs import COMPLEX_PRIMITIVES, PARTS, Number, Pair, both, pack, pair, unpack
from .stages import StageRunner, run_plan
from .stores import Appended, Appending, Documents, Entries
from .sums import find_sums
from .systems import join_systems
from .tensors import BATCH, TIME, Space, Tensor

Prepared = tuple[Plan, Special, dict[str, StageRunner], str | None]
Planner = Callable[[Recurrence], Plan]


@dataclass(frozen=True, slots=True)
class StateSlot:
    """One tensor that goes in and comes out; `axes` begin with the batch, -1 in `shape` is a length that grows."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    source: State | Store | Conv | None


@dataclass(slots=True)
class Call:
    """What the instances of one graph share.

    `whole` says whether the graph sees a sequence or one token; `enter` gives a state's value before the call (as a
    graph input), `leave` takes its value after it.  A `stateless` graph begins with the initial values.  `native` is
    the domain of the operators for whole recurrences and convolutions, None to do without them.
    """

    space: Space
    whole: bool
    parameters: Mapping[str, Tensor]
    enter: Callable[[StateSlot], Tensor]
    leave: Callable[[StateSlot, Tensor], None]
    planner: Planner
    reset: Tensor | None
    stateless: bool = False
    native: str | None = None
    lowerings: list[LoweringInfo] = field(default_factory=list[LoweringInfo])
    prepared: dict[tuple[Recurrence, frozenset[str]], Prepared] = field(
        default_factory=dict[tuple[Recurrence, frozenset[str]], "Prepared"]
    )
    _documents: Documents | None = None

    @property
    def builder(self) -> Builder:
        return self.space.builder

    def scope(self, sizes: Mapping[str, int]) -> Space:
        """A space for the axes of one owner."""
        return Space(self.builder, sizes, self.space.dynamic)

    def prepare(self, owner: Recurrence, logged: frozenset[str]) -> Prepared:
        """A recurrence's plan as this graph runs it, where the logarithms of the inputs `logged` are known."""
        key = owner, logged
        if key not in self.prepared:
            self.prepared[key] = self._prepare(owner, logged)
        return self.prepared[key]

    def _prepare(self, owner: Recurrence, logged: frozenset[str]) -> Prepared:
        plan = self.planner(owner)
        if any(stage.newton is not None for stage in plan.stages):
            raise Unsupported("the schedule `newton`")
        with_gates = with_logs(plan, logged) if plan.mode == "chunk" else plan
        with_gates = in_blocks(with_gates) if self.whole else with_gates
        special = special_stages(with_gates, self.native)
        if self.whole or special.whole(with_gates):
            plan = with_gates
        sums = find_sums(plan) if self.whole else {}
        cells = find_cells(plan, WIDEST) if self.whole else {}
        if self.whole and not special.natives and not sums and not cells and not owner.stores:
            plan = narrow(plan)
        if self.whole:
            plan = join_systems(plan)
        runners = {**sums, **{name: cell_runner(cell) for name, cell in cells.items()}}
        words = [*special.words(), *(f"ai.onnx.{cell.op}" for cell in cells.values())]
        return plan, special, runners, "; ".join(words) or None

    @property
    def documents(self) -> Documents | None:
        """Which tokens belong together; None in a graph for one token."""
        if not self.whole:
            return None
        if self._documents is None:
            space, b = self.space, self.builder
            if self.reset is None:
                index = space.filled(0, (BATCH, TIME), DType.INT)
            else:
                marks = space.cast(self.reset, DType.INT)
                index = Tensor(b.op("CumSum", marks.value, b.constant(1, "int64")), (BATCH, TIME), DType.INT)
            last = Tensor(b.op("Gather", index.value, b.constant(-1, "int64"), axis=1), (BATCH,), DType.INT)
            self._documents = Documents(index, last)
        return self._documents


def run_instance(
    call: Call,
    instance: Instance,
    args: Sequence[Number],
    given: Mapping[str, Number],
    logs: Mapping[Leaf, Number] | None = None,
) -> list[Number]:
    """The outputs of an instance, brought to nothing more than the axes they depend on.

    `logs` are the logarithms of inputs, as far as they are known.
    """
    owner = instance.owner
    space = call.scope(owner.sizes)
    env: dict[Expr, Number] = dict(zip(owner.inputs, args, strict=True))
    names = {p.name: full for full, p in instance.parameters()}
    for parameter in owner.parameters:
        if parameter.name in given:
            env[parameter.leaf] = given[parameter.name]
        else:
            env[parameter.leaf] = Tensor(call.parameters[names[parameter.name]].value, parameter.axes)
    env.update((log_leaf(leaf), log) for leaf, log in (logs or {}).items())
    logged = {leaf: log_leaf(leaf) for leaf in logs or {}}
    if isinstance(owner, Recurrence):
        return _run_recurrence(call, instance, owner, Lowering(space, env), frozenset(x.name for x in logged))
    return _FunctionLowering(call, instance, space, env, logged).values(owner.outputs)


# --- blocks and models --------------------------------------------------------------------------------------


class _FunctionLowering(Lowering):
    """Adds what only whole sequences have: calls, convolutions, reversal and pooling."""

    def __init__(
        self,
        call: Call,
        instance: Instance,
        space: Space,
        env: Mapping[Expr, Number],
        logged: Mapping[Leaf, Leaf],
    ) -> None:
        super().__init__(space, env)
        self.call, self.instance, self.logged = call, instance, logged
        self._results: dict[Invoke, list[Number]] = {}

    def _move(self, node: Expr) -> Number:
        match node:
            case Invoke():
                self._results[node] = self._invoke(node)
                return self.space.number(0)
            case Item():
                return self._results[node.call][node.index]
            case Conv():
                return convolve_in(self.call, self.instance, self, node)
            case Flip():
                return both(self.env[node.arg], lambda t: self.space.flip(t, TIME) if TIME in t.axes else t)
            case Pool():
                return self._pool(node)
            case _:
                return super()._move(node)

    def _invoke(self, node: Invoke) -> list[Number]:
        args = [self.env[arg] for arg in node.args]
        given = {name: self.env[value] for name, value in node.given}
        results: list[Number] = []
        logs = self._logs(node)
        for inner in callees(node, self.instance.path, self.instance.parameter_path):
            results = run_instance(self.call, inner, args, given, logs)
            args, logs = [*results, *args[len(results) :]], {}
        return results

    def _logs(self, node: Invoke) -> dict[Leaf, Number]:
        """The logarithms of what is given to a callee."""
        found: dict[Leaf, Number] = {}
        for leaf, arg in zip(node.callee.inputs, node.args, strict=True):
            log = known_log(arg, self.logged)
            if log is not None and not isinstance(log, Const):
                found[leaf] = self.value(log)
        return found

    def _pool(self, node: Pool) -> Number:
        def pool(tensor: Tensor) -> Tensor:
            if TIME not in tensor.axes:
                return tensor
            if node.op == "last":
                return self.space.entry(tensor, TIME, -1)
            place, b = tensor.axes.index(TIME), self.call.builder
            value = b.op("ReduceMean", tensor.value, b.ints(place), keepdims=0)
            return Tensor(value, tuple(a for a in tensor.axes if a != TIME))

        return both(self.env[node.arg], pool)


def convolve_in(call: Call, instance: Instance, lowering: Lowering, node: Conv) -> Tensor:
    """A convolution with its window as a state."""
    space = lowering.space
    width = space.fixed(node.taps)
    assert width is not None
    axes = node.arg.axes
    shape = (width - 1, *(space.fixed(a) or 0 for a in axes))
    slot = StateSlot(
        join(instance.path, window_name(node)), (BATCH, "%window", *axes), shape, "float32", node
    )
    window = call.enter(slot)
    bias = None if node.bias is None else lowering.real(node.bias)
    y, after = convolve(
        space,
        node,
        lowering.real(node.arg),
        lowering.real(node.weight),
        bias,
        window,
        call.documents,
        call.reset,
        call.native,
    )
    call.leave(slot, after)
    return y


# --- recurrences --------------------------------------------------------------------------------------------


def _run_recurrence(
    call: Call, instance: Instance, owner: Recurrence, token: Lowering, logged: frozenset[str]
) -> list[Number]:
    plan, special, runners, words = call.prepare(owner, logged)
    call.lowerings.append(describe(plan, instance.path, words))
    slots = {s.name: _state_slot(owner, instance.path, s, special.layout(s)) for s in owner.states}
    before: dict[str, Number] = {}
    for state in owner.states:
        if call.stateless:
            before[state.name] = token.value(state.initial)
        else:
            entered = call.enter(slots[state.name])
            before[state.name] = _unpacked(token.space, state, entered, special.layout(state))
    token.env[RESET] = call.reset if call.reset is not None else token.space.filled(0, (), DType.BOOL)
    if call.whole:
        outputs, after = _run_sequence(call, instance, plan, {**runners, **special.runners}, token, before)
    else:
        outputs, after = _run_token(call, instance, plan, special, token, before)
    for state in () if call.stateless else owner.states:
        packed = _packed(token.space, state, after[state.name], special.layout(state))
        call.leave(slots[state.name], packed)
    return outputs


def _state_slot(owner: Recurrence, path: str, state: State, layout: tuple[Axes, ...]) -> StateSlot:
    shape = tuple(prod(owner.sizes[a] for a in group) for group in layout)
    axes = (BATCH, *map(" ".join, layout))
    if state.dtype is DType.COMPLEX:
        axes, shape = (*axes, PARTS), (*shape, 2)
    dtype = {DType.INT: "int64", DType.BOOL: "bool"}.get(state.dtype, "float32")
    return StateSlot(join(path, state.name), axes, shape, dtype, state)


def _unpacked(space: Space, state: State, value: Tensor, layout: tuple[Axes, ...]) -> Number:
    if state.dtype is DType.COMPLEX:
        return unpack(space, value)
    return space.ungroup(
        Tensor(value.value, (BATCH, *map(" ".join, layout)), value.kind), [(BATCH,), *layout]
    )


def _packed(space: Space, state: State, value: Number, layout: tuple[Axes, ...]) -> Tensor:
    axes = (BATCH, *(axis for group in layout for axis in group))
    if state.dtype is not DType.COMPLEX:
        assert isinstance(value, Tensor)
        if all(len(group) == 1 for group in layout):
            return value
        return space.regroup(space.expand(value, axes), [(BATCH,), *layout], (BATCH, *map(" ".join, layout)))
    z = pair(space, value)
    return pack(space, Pair(space.expand(z.re, axes), space.expand(z.im, axes)))


Results = tuple[list[Number], Mapping[str, Number]]


def _run_sequence(
    call: Call,
    instance: Instance,
    plan: Plan,
    special: Mapping[str, StageRunner],
    token: Lowering,
    before: Mapping[str, Number],
) -> Results:
    owner = plan.recurrence
    count = len(owner.outputs)
    if not owner.stores:
        advanced = run_plan(token, plan, before, plan.outputs, special)
        return advanced.outputs, advanced.states
    advanced = run_plan(token, plan, before, plan.outputs[count:], special)
    appended = _append(call, instance, owner, token, advanced.outputs)
    outputs = plan.outputs[:count]
    documents = call.documents
    if documents is not None and is_local(owner.stores):
        return local_outputs(token, owner.stores, appended[0], documents, outputs), advanced.states
    return token.values(outputs), advanced.states


def _blocks_of(stage: Stage) -> str:
    if stage.phase is not None:
        return f"windows of {stage.block} tokens"
    return {0: "one block", 1: "Scan over tokens"}.get(stage.block, f"blocks of {stage.block} tokens")


def describe(plan: Plan, path: str, native: str | None) -> LoweringInfo:
    """What the manifest says about an instance."""
    stages = [f"{stage.name}: {_blocks_of(stage)}" for stage in plan.stages]
    return LoweringInfo(
        instance=path,
        rule=plan.recurrence.name,
        classes=tuple(c.code for c in plan.classes),
        prefill="; ".join([plan.mode, *stages]),
        step="one token",
        native=native,
    )


def _run_token(
    call: Call,
    instance: Instance,
    plan: Plan,
    special: Special,
    token: Lowering,
    before: Mapping[str, Number],
) -> Results:
    owner = plan.recurrence
    if special.whole(plan):
        after: dict[str, Number] = {}
        for native in special.natives.values():
            value = before[native.state.name]
            assert isinstance(value, Tensor)
            read, after[native.state.name] = run_token(token, owner, native, value, special.domain)
            token.env[native.leaf] = read
        return token.values(plan.outputs), after
    token.space.last = max((state.axes for state in owner.states), key=len, default=())
    for state in owner.states:
        value = before[state.name]
        if call.reset is not None:
            value = reset_to(token, call.reset, token.value(state.initial), value)
        token.env[state.leaf] = value
    token.definitions.update({s.next: u for s, u in zip(owner.states, owner.updates, strict=True)})
    after = {s.name: token.value(u) for s, u in zip(owner.states, owner.updates, strict=True)}
    if owner.stores:
        _append(call, instance, owner, token, token.values(store.value for store in owner.stores))
    return token.values(owner.outputs), after


def reset_to(token: Lowering, reset: Tensor, initial: Number, value: Number) -> Number:
    """The initial value in the rows that are reset."""
    where = COMPLEX_PRIMITIVES["where"] if isinstance(value, Pair) else None
    if where is not None:
        return where(token.space, reset, initial, value)
    assert isinstance(initial, Tensor)
    assert isinstance(value, Tensor)
    return token.space.elementwise("Where", reset, initial, value, kind=value.kind)


# --- stores -------------------------------------------------------------------------------------------------


def _append(
    call: Call, instance: Instance, owner: Recurrence, token: Lowering, values: Sequence[Number]
) -> list[Appended]:
    """Append this call's entries to the stores, axis by axis, and make them known to `token`."""
    done: list[Appended] = []
    by_axis: dict[str, list[Store]] = {}
    for store in owner.stores:
        by_axis.setdefault(store.axis, []).append(store)
    new = {store.name: value for store, value in zip(owner.stores, values, strict=True)}
    for axis, stores in by_axis.items():
        if any((s.window, s.sinks) != (stores[0].window, stores[0].sinks) for s in stores):
            raise Unsupported("give the stores of one axis different windows")
        done.append(_append_axis(call, instance, owner, token, axis, stores, new))
    return done


def _append_axis(
    call: Call,
    instance: Instance,
    owner: Recurrence,
    token: Lowering,
    axis: str,
    stores: list[Store],
    new: Mapping[str, Number],
) -> Appended:
    space = token.space
    counter = StateSlot(join(instance.path, count_name(stores[0])), (BATCH,), (), "int64", None)
    count = call.enter(counter)
    if call.reset is not None and not call.whole:
        zero = Tensor(call.builder.constant(0, "int64"), (), DType.INT)
        count = space.elementwise("Where", call.reset, zero, count, kind=DType.INT)
    slots = {s.name: _store_slots(owner, instance.path, s) for s in stores}
    before = {name: Entries(*(call.enter(slot) for slot in pair_)) for name, pair_ in slots.items()}
    values: dict[str, Tensor] = {}
    for store in stores:
        value = new[store.name]
        if not isinstance(value, Tensor):
            raise Unsupported("keep complex numbers in a growing store")
        values[store.name] = value
    appended = Appending(space, stores, count, call.documents).run(before, values)
    token.growing[axis] = appended.visible
    for store in stores:
        token.env[store.next] = token.env[store.leaf] = appended.entries[store.name]
        after = appended.after[store.name]
        for slot, tensor in zip(slots[store.name], (after.cache, after.sinks), strict=False):
            assert tensor is not None
            call.leave(slot, tensor)
    token.env[Leaf(LeafKind.AGE, axis, (axis,))] = appended.age
    call.leave(counter, appended.count)
    return appended


def _store_slots(owner: Recurrence, path: str, store: Store) -> tuple[StateSlot, ...]:
    axes = (BATCH, store.axis, *store.axes)
    sizes = tuple(owner.sizes[a] for a in store.axes)
    length = -1 if store.window is None else store.window - 1
    slots = [StateSlot(join(path, store.name), axes, (length, *sizes), "float32", store)]
    if store.window is not None and store.sinks:
        slots.append(
            StateSlot(join(path, f"{store.name}.sinks"), axes, (store.sinks, *sizes), "float32", store)
        )
    return tuple(slots)
