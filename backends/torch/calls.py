"""Printing calls of rules, of blocks and of repeated blocks, and the places of what they call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from seqc.ir.expr import Axes, Conv, Expr, Invoke, Item
from seqc.ir.program import Function, Repeat
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import walk

from .cells import Projected
from .diagnose import Unsupported
from .expressions import Scope
from .layout import split_statement
from .names import path_text
from .primitives import Code
from .rules import targets_text
from .values import Value

if TYPE_CHECKING:
    from .functions import Classes

WIDTH = 110
LONG_CALL = 80  # the longest call that stands inside an expression


@dataclass(slots=True)
class Calls:
    """The calls of one function.

    `places` are the lines of its constructor that make what is called, `begin` the calls that have states, each with
    the module and its path; `hints` are the names that results were given.
    """

    classes: Classes
    hints: dict[Expr, str] = field(default_factory=dict[Expr, str])
    places: list[str] = field(default_factory=list[str])
    begin: list[tuple[Invoke, str, str]] = field(default_factory=list[tuple[Invoke, str, str]])

    def given(self) -> list[Expr]:
        """The parameters that are passed on to what has states."""
        return [value for call, _, _ in self.begin for _, value in call.given]

    def beginnings(self, scope: Scope) -> Iterable[str]:
        """Lines that make the states before the first token; `scope` knows the values of `given`."""
        for call, target, path in self.begin:
            more = "".join(f", {scope.still(scope.value(v), v.axes, 'self.like')}" for _, v in call.given)
            yield from _beginning(call, target, path, more)

    def invoke(self, scope: Scope, node: Invoke) -> Value:
        callee = node.callee
        scope.uses.subtract(node.args)  # the results may take the names of the arguments
        values = [scope.value(arg) for arg in node.args]
        given = [scope.value(value) for _, value in node.given]
        names = tuple(name for name, _ in node.given)
        target = f"self{path_text(node.name)}"
        if isinstance(callee, Recurrence):
            results = self._rule(scope, node, callee, values, given, target)
        elif isinstance(callee, Projected):
            results = self._projected(scope, node, callee, values, target)
        else:
            static = tuple(not v.lead and not v.code.number for v in values)
            if isinstance(callee, Repeat):
                static = (*(False,) * len(callee.outputs), *static[len(callee.outputs) :])
            texts = [
                self._argument(scope, v, leaf.axes, flag)
                for v, leaf, flag in zip(values, callee.inputs, static, strict=True)
            ]
            texts += [
                scope.still(v, e.axes, "self.like") for v, (_, e) in zip(given, node.given, strict=True)
            ]
            if isinstance(callee, Repeat):
                results = self._repeat(scope, node, callee, texts, names, static)
            else:
                results = self._block(scope, node, callee, texts, names, static, target)
        for index, (text, axes) in enumerate(results):
            item = Item(node, index)
            scope.known[item] = Value(Code(text), axes, True, item.dtype)
        scope.uses.update(node.args)
        return Value(Code("None"))

    def _argument(self, scope: Scope, value: Value, axes: Axes, static: bool) -> str:
        return (scope.arranged(value, axes).code if static else scope.full(value, axes)).text

    def _results(self, scope: Scope, node: Invoke, count: int) -> list[str]:
        names: list[str] = []
        for k in range(count):
            hint = self.hints.get(Item(node, k))
            callee = node.callee
            default = node.name if isinstance(callee, Repeat) else callee.name
            names.append(scope.rename_into(hint) if hint else scope.names.fresh(default))
        return names

    def _rule(
        self,
        scope: Scope,
        node: Invoke,
        callee: Recurrence,
        values: Sequence[Value],
        given: Sequence[Value],
        target: str,
    ) -> list[tuple[str, Axes]]:
        around = callee in self.classes.around
        if not around:
            self._place(node, callee, target)
        texts = [scope.full(v, leaf.axes).text for v, leaf in zip(values, callee.inputs, strict=True)]
        texts = texts or ["run.clock"]
        texts += [scope.still(v, e.axes, "self.like") for v, (_, e) in zip(given, node.given, strict=True)]
        names = self._results(scope, node, len(callee.outputs))
        called = f'self.around["{node.name}"](run' if around else f'{target}.along(run.at("{node.name}")'
        text = f"{targets_text(names)} = {called}, {', '.join(texts)})"
        scope.lines += split_statement(text, scope.width)
        return list(zip(names, callee.returns, strict=True))

    def _projected(
        self, scope: Scope, node: Invoke, callee: Projected, values: Sequence[Value], target: str
    ) -> list[tuple[str, Axes]]:
        self._place(node, callee.rule, target)
        x, count = values[0], len(callee.maps)
        matrices = [
            scope.arranged(v, axes) for v, axes in zip(values[1 : count + 1], callee.maps, strict=True)
        ]
        biases = [
            scope.still(v, axes[:1], matrix.atom)
            for v, axes, matrix in zip(values[count + 1 :], callee.maps, matrices, strict=True)
        ]
        weights = ", ".join(matrix.code.text for matrix in matrices)
        names = self._results(scope, node, len(callee.outputs))
        source = scope.full(x, node.args[0].axes).text
        call = f'{target}.over(run.at("{node.name}"), {source}, [{weights}], [{", ".join(biases)}])'
        scope.lines += split_statement(f"{targets_text(names)} = {call}", scope.width)
        return list(zip(names, callee.rule.returns, strict=True))

    def _place(self, node: Invoke, rule: Recurrence, target: str) -> None:
        name = self.classes.rule(rule, tuple(n for n, _ in node.given))
        self.places.append(f'self.place("{node.name}", {name}(draw))')
        self.begin.append((node, target, node.name))

    def _block(
        self,
        scope: Scope,
        node: Invoke,
        callee: Function,
        texts: Sequence[str],
        given: tuple[str, ...],
        static: tuple[bool, ...],
        target: str,
    ) -> list[tuple[str, Axes]]:
        name = self.classes.function(callee, given, static, None)
        self.places.append(f'self.place("{node.name}", {name}(draw))')
        if has_state(callee):
            self.begin.append((node, target, node.name))
        call = f'{target}(run.at("{node.name}"), {", ".join(texts)})'
        item = Item(node, 0)
        alone = len(callee.outputs) == 1 and scope.counts.get(item, 0) == 1 and item not in self.hints
        if alone and len(call) <= LONG_CALL:
            return [(call, callee.returns[0])]
        names = self._results(scope, node, len(callee.outputs))
        scope.lines += split_statement(f"{', '.join(names)} = {call}", scope.width)
        return list(zip(names, callee.returns, strict=True))

    def _repeat(
        self,
        scope: Scope,
        node: Invoke,
        callee: Repeat,
        texts: Sequence[str],
        given: tuple[str, ...],
        static: tuple[bool, ...],
    ) -> list[tuple[str, Axes]]:
        count = len(callee.outputs)
        carried = tuple(leaf.axes for leaf in callee.inputs[:count])
        made = [self.classes.function(body, given, static, carried) for body in callee.bodies]
        target = f"self{path_text(node.name)}"
        loop = target
        if callee.shared:
            if len(set(made)) > 1:
                raise Unsupported("shared repetitions that differ")
            self.places.append(f'self.place("{node.name}", {made[0]}(draw))')
            loop = f"[{target}] * {len(made)}"
        elif len(set(made)) == 1:
            text = f"nn.ModuleList({made[0]}(draw) for _ in range({len(made)}))"
            self.places.append(f'self.place("{node.name}", {text})')
        else:
            items = ", ".join(f"{name}(draw)" for name in made)
            text = f'self.place("{node.name}", nn.ModuleList([{items}]))'
            self.places += split_statement(text, WIDTH - 8)
        if any(has_state(body) for body in callee.bodies):
            self.begin.append((node, loop, node.name))
        names = self._results(scope, node, count)
        for name, text in zip(names, texts, strict=False):
            if name != text:
                scope.lines.append(f"{name} = {text}")
        call = ", ".join([*names, *texts[count:]])
        scope.lines.append(f"for i, part in enumerate({loop}):")
        inner = f'{", ".join(names)} = run.at(f"{node.name}.{{i}}").through(part, {call})'
        scope.lines += [f"    {line}" for line in split_statement(inner, scope.width - 4)]
        return list(zip(names, carried, strict=True))


def _beginning(call: Invoke, target: str, path: str, more: str) -> list[str]:
    method = "begin" if isinstance(call.callee, Recurrence | Projected) else "initial"
    if isinstance(call.callee, Repeat):
        inner = f'part.initial(run.at(f"{path}.{{i}}"), batch{more})'
        return [f"for i, part in enumerate({target}):", f"    {inner}"]
    return [f'{target}.{method}(run.at("{path}"), batch{more})']


def has_state(function: Function) -> bool:
    for node in walk(function.outputs):
        if isinstance(node, Conv):
            return True
        if isinstance(node, Invoke):
            callee = node.callee
            if isinstance(callee, Recurrence):
                return True
            if any(has_state(f) for f in (callee.bodies if isinstance(callee, Repeat) else (callee,))):
                return True
    return False
