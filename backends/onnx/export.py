"""One graph: the interface around an inlined program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from seqc.ir.expr import DType, Leaf
from seqc.ir.paths import Instance, parameter_table
from seqc.ir.program import Function
from seqc.ir.recurrence import Recurrence
from seqc.ir.timing import varying_outputs

from .builder import DTYPES, Array, Builder, used_by
from .control import Unsupported
from .fold import fold
from .manifest import LoweringInfo, TensorInfo, WeightInfo
from .pairs import PARTS, Number, Pair, both, pack, pair, unpack
from .program import Call, Planner, StateSlot, run_instance
from .resets import join_resets
from .tensors import BATCH, STORED, TIME, Space, Tensor
from .tidy import fold_signs, fuse_activations, join_reshapes, keep_dimensions, shape_at_once

PORTABLE = "portable"
PROFILES = {
    PORTABLE: {"": 21},
    "ort": {"": 23, "com.microsoft": 1},
    "opset27": {"": 27},
}
NATIVE = {PORTABLE: None, "ort": "com.microsoft", "opset27": ""}  # the domain of LinearAttention
IR_VERSION = 10
KINDS = {"float32": DType.REAL, "int64": DType.INT, "bool": DType.BOOL}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is exported; `outputs` are the names that its results get."""

    name: str
    kind: Literal["tokens", "series", "rule"]
    owner: Recurrence | Function
    outputs: tuple[str, ...]
    stateless: bool = False


@dataclass(slots=True)
class Emitted:
    """One graph with its interface; `states` gives each state's slot, its input and its output."""

    model: ir.Model
    states: dict[str, tuple[StateSlot, str, str]]
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    weights: dict[str, WeightInfo]
    lowerings: list[LoweringInfo]
    reset: str | None


@dataclass(slots=True)
class Emitter:
    """Builds one graph: for whole sequences (`whole`) or for one token."""

    subject: Subject
    weights: Mapping[str, Array]
    whole: bool
    planner: Planner
    profile: str = PORTABLE
    builder: Builder = field(init=False)
    states: dict[str, tuple[StateSlot, str, str]] = field(
        default_factory=dict[str, tuple[StateSlot, str, str]]
    )
    finals: dict[str, ir.Value] = field(default_factory=dict[str, ir.Value])
    inputs: list[TensorInfo] = field(default_factory=list[TensorInfo])
    space: Space = field(init=False)

    def run(self) -> Emitted:
        owner = self.subject.owner
        self.builder = Builder(opsets=PROFILES[self.profile])
        self.space = Space(self.builder, owner.sizes, {})
        args = [self._input(leaf) for leaf in owner.inputs]
        self._measure()
        reset = None if self.subject.stateless else self._reset()
        parameters = self._parameters()
        call = Call(
            self.space,
            self.whole,
            parameters,
            self._enter,
            self._leave,
            self.planner,
            reset,
            self.subject.stateless,
            NATIVE[self.profile],
        )
        results = run_instance(call, Instance(owner, "", ""), args, {})
        outputs, infos = self._outputs(results)
        weights, model = self._finish([*outputs, *self.finals.values()])
        name = None if self.subject.stateless else "reset"
        return Emitted(model, self.states, self.inputs, infos, weights, call.lowerings, name)

    @property
    def lead(self) -> tuple[str, ...]:
        return (BATCH, TIME) if self.whole else (BATCH,)

    # --- what comes in --------------------------------------------------------------------------------------

    def _input(self, leaf: Leaf) -> Number:
        complex_ = leaf.dtype is DType.COMPLEX
        sizes = [self.space.sizes[a] for a in leaf.axes] + ([2] if complex_ else [])
        dtype = STORED[DType.REAL if complex_ else leaf.dtype]
        value = self.builder.input(leaf.name, dtype, [*(a.strip("%") for a in self.lead), *sizes])
        self.inputs.append(TensorInfo(name=str(value.name), dtype=dtype, shape=("batch", "time", *sizes)))  # type: ignore[arg-type]
        if complex_:
            return unpack(self.space, Tensor(value, (*self.lead, *leaf.axes, PARTS)))
        return Tensor(value, (*self.lead, *leaf.axes), leaf.dtype)

    def _measure(self) -> None:
        if not self.builder.inputs:
            raise Unsupported("a rule without inputs, which would not know how long a sequence is")
        first = self.builder.inputs[0]
        for place, axis in enumerate(self.lead):
            self.space.dynamic[axis] = self.builder.op(
                "Shape", first, start=place, end=place + 1, name=axis.strip("%")
            )

    def _reset(self) -> Tensor:
        """An input that may be left out: its default, one false, is expanded to the batch."""
        names = ["reset_" + a.strip("%") for a in self.lead]
        value = self.builder.input("reset", "bool", names, np.zeros([1] * len(names), np.bool_))
        whole = self.builder.op("Expand", value, self.space.shape(self.lead), name="resets")
        return Tensor(whole, self.lead, DType.BOOL)

    def _parameters(self) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        for name, parameter in parameter_table(self.subject.owner).items():
            array = np.asarray(self.weights[name], dtype=np.float32)
            result[name] = Tensor(self.builder.initializer(name, array), parameter.parameter.axes)
        return result

    # --- states ---------------------------------------------------------------------------------------------

    def _enter(self, slot: StateSlot) -> Tensor:
        kind = KINDS[slot.dtype]
        if self.subject.stateless:
            return self._empty(slot)
        growing = f"past_{len(self.states)}"
        shape: list[int | str] = ["batch", *(growing if n < 0 else n for n in slot.shape)]
        value = self.builder.input(f"state.{slot.name}", slot.dtype, shape)
        self.states[slot.name] = (slot, str(value.name), self.builder.names.claim(f"next.{slot.name}"))
        return Tensor(value, slot.axes, kind)

    def _empty(self, slot: StateSlot) -> Tensor:
        """What a window or a cache holds before the first token."""
        b, kind = self.builder, KINDS[slot.dtype]
        lengths = [self.space.length(BATCH), *(b.ints(max(n, 0)) for n in slot.shape)]
        shape = b.op("Concat", *lengths, axis=0) if len(lengths) > 1 else lengths[0]
        return Tensor(b.op("Expand", b.constant(0, slot.dtype), shape), slot.axes, kind)

    def _leave(self, slot: StateSlot, tensor: Tensor) -> None:
        if self.subject.stateless:
            return
        fixed = {a: n for a, n in zip(slot.axes[1:], slot.shape, strict=True) if n >= 0}
        space = Space(self.builder, fixed, self.space.dynamic)
        whole = space.cast(space.expand(tensor, slot.axes), KINDS[slot.dtype])
        shape = ["batch", *(n if n >= 0 else f"total_{slot.name}" for n in slot.shape)]
        self.finals[slot.name] = self._named(whole.value, self.states[slot.name][2], slot.dtype, shape)

    # --- what comes out -------------------------------------------------------------------------------------

    def _named(self, value: ir.Value, name: str, dtype: str, shape: Sequence[int | str]) -> ir.Value:
        """A graph output: the value itself under its name, or a copy where it already has one."""
        if value.producer() is None or value.is_graph_output() or value.metadata_props.get("named"):
            value = self.builder.op("Identity", value, name=name)
        value.name = name
        value.metadata_props["named"] = "output"
        value.type = ir.TensorType(DTYPES[dtype])
        value.shape = ir.Shape(list(shape))
        return value

    def _outputs(self, results: Sequence[Number]) -> tuple[list[ir.Value], list[TensorInfo]]:
        owner = self.subject.owner
        values: list[ir.Value] = []
        infos: list[TensorInfo] = []
        varying = varying_outputs(owner)
        for name, result, axes, expr, each in zip(
            self.subject.outputs, results, owner.returns, owner.outputs, varying, strict=True
        ):
            lead = self.lead if each else (BATCH,)
            whole, tail = self._complete(result, expr.dtype, (*lead, *axes))
            sizes = [self.space.sizes[a] for a in axes] + tail
            dtype = STORED[whole.kind]
            claimed = self.builder.names.claim(name)
            values.append(self._named(whole.value, claimed, dtype, [*(a.strip("%") for a in lead), *sizes]))
            time = ("time",) if each else ()
            infos.append(TensorInfo(name=claimed, dtype=dtype, shape=("batch", *time, *sizes)))  # type: ignore[arg-type]
        return values, infos

    def _complete(self, result: Number, kind: DType, axes: tuple[str, ...]) -> tuple[Tensor, list[int]]:
        whole = both(result, lambda t: self.space.expand(t, axes))
        if kind is DType.COMPLEX:
            z = pair(self.space, whole)
            return pack(self.space, Pair(z.re, self.space.expand(z.im, axes))), [2]
        assert isinstance(whole, Tensor)
        return whole, []

    def _finish(self, outputs: list[ir.Value]) -> tuple[dict[str, WeightInfo], ir.Model]:
        opsets = PROFILES[self.profile]
        self.builder.prune(outputs)
        self.builder.nodes = keep_dimensions(self.builder.nodes, outputs)
        join_reshapes(self.builder, outputs)
        moved = fold(self.builder, outputs, IR_VERSION, PROFILES["ort"])
        fold_signs(self.builder)
        fuse_activations(self.builder, outputs)
        if self.profile != PORTABLE:
            shape_at_once(self.builder, outputs)
            join_resets(self.builder, outputs)
        weights = self._tidy(moved, outputs)
        graph = self.builder.graph(self.subject.name, outputs, opsets)
        return weights, ir.Model(graph, ir_version=IR_VERSION, producer_name="seqc")

    def _tidy(
        self, moved: Mapping[str, tuple[str, tuple[int, ...]]], outputs: Sequence[ir.Value]
    ) -> dict[str, WeightInfo]:
        """Drop initializers that nothing uses; a weight that is only used transposed is stored under its own name."""
        b = self.builder
        used = set(outputs).union(*(used_by(node) for node in b.nodes))
        inputs = set(b.inputs)
        kept = {n: v for n, v in b.initializers.items() if v in used or v in inputs}
        table = parameter_table(self.subject.owner)
        weights = {
            n: WeightInfo(name=n, permutation=tuple(range(len(p.shape))))
            for n, p in table.items()
            if n in kept
        }
        b.initializers = {}
        for name, value in kept.items():
            origin, permutation = moved.get(name, ("", ()))
            if origin in table and origin not in kept and origin not in weights:
                weights[origin] = WeightInfo(name=origin, permutation=permutation)
                value.name = origin
                assert value.const_value is not None
                value.const_value.name = origin
            b.initializers[str(value.name)] = value
        return weights
