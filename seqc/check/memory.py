"""Memories: the states behind `memory S: n -> m`, and what reading one means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqc.check import builtins
from seqc.check.context import Context
from seqc.check.expressions import Elaborator
from seqc.check.limits import MAX_DEPTH
from seqc.check.maps import apply_map
from seqc.diagnostics.axes import AxesDiffer, AxisNotThere, AxisTaken
from seqc.diagnostics.blocks import ArgumentCount, UnknownArgument
from seqc.diagnostics.memories import InitialDependsOnToken, MemoryStructure
from seqc.diagnostics.names import UnknownWord
from seqc.diagnostics.settings import TooLarge
from seqc.ir import build
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Axes, Const, DType, Expr, LeafKind
from seqc.ir.recurrence import Parameter, State
from seqc.ir.traverse import leaves
from seqc.source import Span
from seqc.syntax import tree

if TYPE_CHECKING:
    from seqc.check.rule import RuleElaborator

Read = Callable[[Sequence[Expr], Expr], Expr]
Mirror = Callable[[Expr, State], Expr]


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory: its tensors, each a state, and how it answers a key."""

    name: str
    inputs: Axes
    outputs: Axes
    tensors: tuple[State, ...]
    read: Read
    span: Span
    mirror: Mirror | None = None  # the memory is ψ of what the states hold

    @property
    def before(self) -> tuple[Expr, ...]:
        """Its weights before the token; with a mirror map, leaves that stand for them (see `meaning`)."""
        if self.mirror is None:
            return tuple(tensor.leaf for tensor in self.tensors)
        return tuple(build.leaf(LeafKind.READ, t.name, t.axes, t.dtype) for t in self.tensors)

    @property
    def after(self) -> tuple[Expr, ...]:
        return self.seen([tensor.next for tensor in self.tensors])

    @property
    def meaning(self) -> dict[Expr, Expr]:
        """What the leaves of `before` stand for."""
        if self.mirror is None:
            return {}
        return dict(zip(self.before, self.seen([tensor.leaf for tensor in self.tensors]), strict=True))

    def seen(self, held: Sequence[Expr]) -> tuple[Expr, ...]:
        """The weights of the memory whose states hold these values."""
        if self.mirror is None:
            return tuple(held)
        return tuple(self.mirror(value, tensor) for value, tensor in zip(held, self.tensors, strict=True))


class Memories:
    """Builds the memories of one rule."""

    def __init__(self, elaborator: RuleElaborator, outer: Axes) -> None:
        self.elaborator = elaborator
        self.context: Context = elaborator.context
        self.outer = outer  # the mapped axes at the call, which `per = h` may name

    def build(self, node: tree.Memory) -> Memory:
        inputs = self.context.fixed_axes(node.inputs)
        outputs = self.context.fixed_axes(node.outputs)
        shared = [name for name in node.inputs if name.text in outputs]
        if shared:
            self.context.fail(AxisTaken(shared[0].span, shared[0].text, outputs))
        structure = node.structure
        if structure is not None and structure.callee.name in {"mlp", "slots"}:
            kind = structure.callee.name
            if node.complex or not inputs:
                reason = f"`{kind}` makes a real map from one axis to another"
                self.context.fail(MemoryStructure(structure.span, reason))
            build_map = self._mlp if kind == "mlp" else self._slots
            return build_map(node, structure, inputs, outputs)
        return self._tensor(node, inputs, outputs)

    def _tensor(self, node: tree.Memory, inputs: Axes, outputs: Axes) -> Memory:
        initial: Expr = ZERO
        if node.structure is not None:
            kind = "matrix" if inputs else "vector"
            initial = self._initial(node.structure, kind, (*outputs, *inputs))
        dtype = DType.COMPLEX if node.complex else DType.REAL
        state = State(node.name.text, (*outputs, *inputs), initial, dtype)

        def read(tensors: Sequence[Expr], key: Expr) -> Expr:
            return build.sum_over(inputs, build.mul(tensors[0], key))

        mirror = self._mirror(node.structure)
        return Memory(node.name.text, inputs, outputs, (state,), read, node.name.span, mirror)

    def _mirror(self, call: tree.Call | None) -> Mirror | None:
        """`mirror = softmax[n]`: the states hold what the map makes the memory of."""
        keyword = None if call is None else call.keyword("mirror")
        if keyword is None:
            return None
        return lambda value, tensor: apply_map(self.elaborator, keyword.value, value, tensor)

    def _initial(self, call: tree.Call, kind: str, axes: Axes) -> Expr:
        if call.callee.name != kind:
            if call.callee.name in builtins.STRUCTURES:
                self.context.fail(MemoryStructure(call.span, f"a memory with these axes is a {kind}"))
            self.context.fail(
                UnknownWord(call.callee.span, "structure", call.callee.name, builtins.STRUCTURES)
            )
        self.elaborator.arguments(call, 0, ("initial", "mirror"))
        keyword = call.keyword("initial")
        return ZERO if keyword is None else state_initial(self.elaborator, keyword.value, axes)

    # --- slots ---

    def _slots(self, node: tree.Memory, call: tree.Call, inputs: Axes, outputs: Axes) -> Memory:
        """A key and a value a slot; a read weighs the values by the softmax of how well their keys fit."""
        self.elaborator.arguments(call, 0, ("count", "per", "mirror"))
        count = call.keyword("count")
        if count is None:
            self.context.fail(MemoryStructure(call.span, "`slots` needs `count = ...`, how many there are"))
        name, per = node.name.text, self._per(call)
        axis = self.context.fresh_axis(
            f"{name}.slots", self.elaborator.size(count.value), self.context.unsure(count.value)
        )
        keys = self._weight(f"{name}.keys", (axis,), inputs, per, call)
        values = self._weight(f"{name}.values", outputs, (axis,), per, call)

        def read(tensors: Sequence[Expr], key: Expr) -> Expr:
            fit = build.sum_over(inputs, build.mul(tensors[0], key))
            return build.sum_over((axis,), build.mul(tensors[1], build.softmax((axis,), fit)))

        mirror = self._mirror(call)
        return Memory(name, inputs, outputs, (keys, values), read, node.name.span, mirror)

    # --- MLPs ---

    def _mlp(self, node: tree.Memory, call: tree.Call, inputs: Axes, outputs: Axes) -> Memory:
        self.elaborator.arguments(
            call, 0, ("hidden", "activation", "depth", "residual", "norm", "bias", "per", "mirror", "spread")
        )
        name = node.name.text
        layers = self._layers(call, name, inputs, outputs)
        per = self._per(call)
        weights = [
            self._weight(f"{name}.{i}.weight", out, into, per, call) for i, (out, into) in enumerate(layers)
        ]
        biases = []
        if self._flag(call, "bias"):
            biases = [self._bias(f"{name}.{i}.bias", out, per, call) for i, (out, _) in enumerate(layers)]
        activate = self._activation(call)
        norm = self._norm(call, name, outputs)
        residual = self._residual(call, inputs, outputs) if self._flag(call, "residual") else None
        depth = len(layers)

        def read(tensors: Sequence[Expr], key: Expr) -> Expr:
            x = key
            for i, (_, into) in enumerate(layers):
                x = build.sum_over(into, build.mul(tensors[i], x))
                if biases:
                    x = build.add(x, tensors[depth + i])
                if i < depth - 1:
                    x = activate(x)
            x = norm(x)
            return x if residual is None else build.add(residual(key), x)

        tensors = (*weights, *biases)
        return Memory(name, inputs, outputs, tensors, read, node.name.span, self._mirror(call))

    def _layers(self, call: tree.Call, name: str, inputs: Axes, outputs: Axes) -> list[tuple[Axes, Axes]]:
        """(output axes, input axes) of every layer."""
        depth = self._count(call, "depth", 2)
        if depth > MAX_DEPTH:
            self.context.fail(TooLarge(call.span, "the depth of this memory", str(depth), MAX_DEPTH))
        hidden = call.keyword("hidden")
        if hidden is None and depth > 1:
            self.context.fail(
                MemoryStructure(call.span, "an `mlp` needs `hidden = ...`, the width of its inner layers")
            )
        width = 0 if hidden is None else self.elaborator.size(hidden.value)
        unsure = hidden is not None and self.context.unsure(hidden.value)
        layers: list[tuple[Axes, Axes]] = []
        into = inputs
        for index in range(depth - 1):
            label = f"{name}.hidden" if index == 0 else f"{name}.hidden{index}"
            axis = self.context.fresh_axis(label, width, unsure)
            layers.append(((axis,), into))
            into = (axis,)
        return [*layers, (outputs, into)]

    def _weight(self, name: str, out: Axes, into: Axes, per: Axes, call: tree.Call) -> State:
        fan_in = math.prod(self.context.sizes[axis] for axis in into)
        keyword = call.keyword("spread")
        spread = 1.0 if keyword is None else self.elaborator.number(keyword.value)
        initial = build.apply("normal", ZERO, Const(spread / math.sqrt(fan_in)))
        leaf = self.context.parameter(Parameter(name, (*per, *out, *into), initial), call.span)
        return State(name, (*out, *into), leaf)

    def _bias(self, name: str, out: Axes, per: Axes, call: tree.Call) -> State:
        leaf = self.context.parameter(Parameter(name, (*per, *out), ZERO, decays=False), call.span)
        return State(name, out, leaf)

    def _per(self, call: tree.Call) -> Axes:
        keyword = call.keyword("per")
        if keyword is None:
            return ()
        if not isinstance(keyword.value, tree.Name) or keyword.value.primed:
            self.context.fail(
                MemoryStructure(keyword.value.span, "`per` names an axis over which the rule is mapped")
            )
        axis = keyword.value.name
        if self.outer and axis not in self.outer:
            has = ", ".join(f"`{other}`" for other in self.outer)
            self.context.fail(
                MemoryStructure(keyword.span, f"this call maps the rule over {has}, and not over `{axis}`")
            )
        return (axis,) if self.outer else ()

    def _activation(self, call: tree.Call) -> Callable[[Expr], Expr]:
        keyword = call.keyword("activation")
        if keyword is None:
            return lambda x: build.apply("silu", x)
        word = keyword.value
        known = tuple(name for name, (_, arity) in builtins.ELEMENTWISE.items() if arity == 1)
        if not isinstance(word, tree.Name) or word.primed or word.name not in known:
            self.context.fail(UnknownWord(word.span, "activation", word.span.text, known))
        op = builtins.ELEMENTWISE[word.name][0]
        return lambda x: build.apply(op, x)

    def _norm(self, call: tree.Call, name: str, outputs: Axes) -> Callable[[Expr], Expr]:
        """Normalise what the last layer gives, with a learned scale that is no part of the memory."""
        keyword = call.keyword("norm")
        if keyword is None or (isinstance(keyword.value, tree.Bool) and not keyword.value.value):
            return lambda x: x
        word = keyword.value
        if not isinstance(word, tree.Name) or word.name not in {"rms", "layer"}:
            self.context.fail(MemoryStructure(word.span, "`norm` is `rms` or `layer`"))
        size = math.prod(self.context.sizes[axis] for axis in outputs)
        scale = self.context.parameter(
            Parameter(f"{name}.norm.weight", outputs, ONE, decays=False), call.span
        )
        centred = word.name == "layer"

        def norm(x: Expr) -> Expr:
            if centred:
                x = build.sub(x, build.div(build.sum_over(outputs, x), Const(size)))
            mean_square = build.div(build.sum_over(outputs, build.mul(x, x)), Const(size))
            return build.mul(build.div(x, build.apply("sqrt", build.add(mean_square, Const(1e-6)))), scale)

        return norm

    def _residual(self, call: tree.Call, inputs: Axes, outputs: Axes) -> Callable[[Expr], Expr]:
        sizes = self.context.sizes
        same = [sizes[a] for a in inputs] == [sizes[a] for a in outputs]
        if not same and not self.context.made_up & {*inputs, *outputs}:
            self.context.fail(
                MemoryStructure(call.span, "a residual needs keys and values of the same length")
            )
        mapping = dict(zip(inputs, outputs, strict=True))
        return lambda key: build.rename(key, mapping)

    def _flag(self, call: tree.Call, name: str) -> bool:
        keyword = call.keyword(name)
        return keyword is not None and bool(self.elaborator.number(keyword.value))

    def _count(self, call: tree.Call, name: str, default: int) -> int:
        keyword = call.keyword(name)
        return default if keyword is None else self.elaborator.size(keyword.value)


def state_initial(elaborator: Elaborator, node: tree.Expr, axes: Axes) -> Expr:
    """An initial value: a number, or something made of parameters and settings alone."""
    context = elaborator.context
    initial = elaborator.value(node)
    if any(leaf.kind is not LeafKind.PARAM for leaf in leaves([initial])):
        context.fail(InitialDependsOnToken(node.span))
    if not set(initial.axes) <= set(axes):
        context.fail(AxesDiffer(node.span, "the state", axes, initial.axes))
    return initial


def read(
    context: Context, memory: Memory, tensors: Sequence[Expr], node: tree.Call, args: list[Expr]
) -> Expr:
    """`S(x)`: what the memory answers to a key."""
    for keyword in node.keywords:
        context.fail(UnknownArgument(keyword.name.span, keyword.name.text, memory.name, ()))
    if not memory.inputs:
        context.fail(
            MemoryStructure(
                node.span, f"`{memory.name}` is a vector: write `{memory.name}` without arguments"
            )
        )
    if len(args) != 1:
        context.fail(ArgumentCount(node.span, memory.name, "one value", len(args)))
    for axis in memory.inputs:
        if axis not in args[0].axes:
            context.fail(AxisNotThere(node.args[0].span, axis, args[0].axes))
    return memory.read(tensors, args[0])
