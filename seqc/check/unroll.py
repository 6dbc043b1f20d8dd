"""`repeat` where nothing has a time of its own: in a rule, and in a block that only computes, it is written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqc.check.context import Broken, Context, Failed
from seqc.check.expressions import spread
from seqc.check.limits import MAX_UNROLLED
from seqc.diagnostics.blocks import ReboundAxes, RepeatsNothing
from seqc.diagnostics.rules import NotRebindable, RepeatTooLong, WeightsInRepeat
from seqc.ir.expr import Expr
from seqc.ir.program import Function
from seqc.ir.traverse import substitute, walk
from seqc.syntax import tree

if TYPE_CHECKING:
    from seqc.check.rule import RuleElaborator


def assigned(body: Sequence[tree.BlockStatement]) -> list[tree.Ident]:
    """The names that statements rebind, those of inner bodies included; a `let` is never a rebinding."""
    found: list[tree.Ident] = []
    for statement in body:
        match statement:
            case tree.Assign(target=target):
                found.append(target.name)
            case tree.Repeat(body=inner):
                found.extend(assigned(inner))
            case tree.If(then=then, orelse=orelse):
                found.extend(assigned((*then, *orelse)))
            case _:
                continue
    return found


class RuleRepeat:
    """The repetitions of one rule, each worked out in the rule's own context."""

    def __init__(self, elaborator: RuleElaborator) -> None:
        self.elaborator = elaborator
        self.context: Context = elaborator.context
        self.local: set[str] = set()  # names first bound inside the repetition at hand

    def run(self, node: tree.Repeat) -> list[tuple[str, Expr]]:
        """What the names that it binds again mean behind it, called `y.10` after ten repetitions."""
        context = self.context
        carried = self._carried(node)
        parameters = set(context.parameters)
        times = self._times(node)
        for index in range(times or 1):
            kept = dict(context.values)
            self._once(node, index)
            made = [name for name in context.parameters if name not in parameters]
            if made:
                context.fail(WeightsInRepeat(node.span, made[0]))
            if not times:
                context.values = kept
        results = [(name, context.values[name]) for name in carried]
        return [(f"{name}.{times}", value) for name, value in results if isinstance(value, Expr) and times]

    def _carried(self, node: tree.Repeat) -> list[str]:
        """The names from outside that the body binds again; a rule owns those that `let` introduced."""
        carried: list[str] = []
        for name in assigned(node.body):
            if name.text not in self.context.values or name.text in self.local:
                continue
            if name.text not in self.elaborator.lets:
                self.context.fail(NotRebindable(name.span, name.text))
            carried.append(name.text)
        if not carried and not self.local:
            self.context.fail(RepeatsNothing(node.count.span))
        return list(dict.fromkeys(carried))

    def _times(self, node: tree.Repeat) -> int:
        number = self.elaborator.number(node.count)
        if number > MAX_UNROLLED:
            self.context.fail(RepeatTooLong(node.count.span, f"{number:,g}", MAX_UNROLLED))
        times = 0 if number == 0 else self.elaborator.size(node.count)
        return min(times, 2) if self.context.made_up else times

    def _once(self, node: tree.Repeat, index: int) -> None:
        """One repetition; what it introduces goes with it."""
        context = self.context
        outside, places = set(context.values), dict(context.places)
        local, settings = self.local, context.settings
        if node.index is not None:
            context.settings = {**settings, node.index.text: index}
        self.local = set(local)
        try:
            for statement in node.body:
                self._statement(statement)
        finally:
            context.settings, context.places, self.local = settings, places, local
            context.values = {name: v for name, v in context.values.items() if name in outside}

    def _statement(self, node: tree.BlockStatement) -> None:
        self.context.budget.read(self.context.bag, node.span)
        match node:
            case tree.Let():
                self.elaborator.let(node)
                self.local.update(target.name.text for target in node.targets)
            case tree.Assign():
                self._assign(node)
            case tree.Repeat():
                self.run(node)
            case _:
                raise AssertionError(type(node))  # the parser has refused it

    def _assign(self, node: tree.Assign) -> None:
        context, target = self.context, node.target
        name = target.name.text
        old = context.values.get(name)
        if isinstance(old, Broken):
            raise Failed
        value = self.elaborator.value(node.value, None if target.axes is None else context.axes(target.axes))
        self.elaborator.check_declared(target, value, node.value.span)
        if old is None:
            context.places[name] = target.name.span
            self.local.add(name)
        elif isinstance(old, Expr) and set(old.axes) != set(value.axes):
            context.fail(ReboundAxes(node.value.span, name, old.axes, value.axes))
        context.values[name] = value


def written_out(
    context: Context, node: tree.Repeat, bodies: Sequence[Function], values: Sequence[Expr]
) -> list[Expr]:
    """The values that pure bodies compute one after the other, from `values`, one an input.

    The first inputs are what a repetition hands to the next, its outputs.
    """
    current = list(values)
    for body in bodies:
        context.sizes.update(body.sizes)
        context.budget.spend(context.bag, node.span, sum(1 for _ in walk(body.outputs)))
        results = substitute(body.outputs, dict(zip(body.inputs, current, strict=True)))
        for index, (result, axes) in enumerate(zip(results, body.returns, strict=True)):
            current[index] = spread(result, axes)
    return current[: len(bodies[0].outputs)]
