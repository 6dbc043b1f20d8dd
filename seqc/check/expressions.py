"""From written expressions to those of the IR: what rules and blocks have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqc.check import builtins
from seqc.check.context import Broken, Context, Failed, Number
from seqc.check.numbers import CONSTANTS, Arithmetic
from seqc.check.parts import concat
from seqc.diagnostics.axes import (
    AxesDiffer,
    AxisNotThere,
    AxisTaken,
    AxisToName,
)
from seqc.diagnostics.blocks import ArgumentCount, UnknownArgument
from seqc.diagnostics.names import NotAFunction, NotAValue, NotPrimed, UnknownCallee, UnknownName
from seqc.diagnostics.rules import RandomOutsideParameter, WrongKind
from seqc.diagnostics.settings import OutOfRange, SizesDiffer
from seqc.diagnostics.words import counted
from seqc.ir import build
from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Index, LeafKind, Softmax
from seqc.ir.ops import RANDOM
from seqc.source import Span
from seqc.syntax import tree


class Elaborator:
    """Works out expressions in a context; rules and blocks add what only they have."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.failed = False
        self.drawing = False  # inside the initial value of a parameter, where random draws are allowed

    # --- numbers, axes, places ---

    def number(self, node: tree.Expr) -> Number:
        return Arithmetic(self.context.bag, self.context.settings)(node)

    def size(self, node: tree.Expr) -> int:
        name = node.name if isinstance(node, tree.Name) else ""
        return self.context.as_size(self.number(node), node.span, name, self.context.unsure(node))

    def declared(self, axes: Axes) -> Axes:
        """The axes that are not mapped."""
        return tuple(a for a in axes if a not in self.context.mapped)

    # --- expressions ---

    def value(self, node: tree.Expr, expected: Axes | None = None) -> Expr:
        """The meaning of an expression; `expected` are the axes that a `linear` in it has to produce."""
        self.context.budget.spend(self.context.bag, node.span)
        result = self._value(node, expected)
        return self.context.note(result, node.span)

    def _value(self, node: tree.Expr, expected: Axes | None) -> Expr:
        match node:
            case tree.Number(value):
                return Const(float(value))
            case tree.Bool(value):
                return Const(float(value))
            case tree.Name():
                return self.name(node)
            case tree.Bracket():
                return self._bracket(node, expected)
            case tree.Unary(op, operand):
                x = self.value(operand, expected if op == "-" else None)
                return self.elementwise("neg" if op == "-" else "not", [x], [operand.span])
            case tree.Binary(op, left, right):
                x, y = self.all([left, right])
                return self.elementwise(builtins.OPERATORS[op], [x, y], [left.span, right.span])
            case tree.Call():
                return self.call(node, expected)

    def all(self, nodes: Sequence[tree.Expr]) -> list[Expr]:
        """The meaning of each; all of them are looked at before the first fault stops the work."""
        results: list[Expr] = []
        for node in nodes:
            try:
                results.append(self.value(node))
            except Failed:
                continue
        if len(results) < len(nodes):
            raise Failed
        return results

    def returned(self, nodes: Sequence[tree.Expr]) -> list[Expr]:
        """What a `return` gives: numbers, real or complex, along axes of fixed length."""
        values = self.all(nodes)
        for value, node in zip(values, nodes, strict=True):
            if value.dtype in {DType.BOOL, DType.INT}:
                self.context.fail(WrongKind(node.span, "a number", builtins.KINDS[value.dtype]))
            if any(axis in self.context.growing for axis in value.axes):
                self.context.fail(WrongKind(node.span, "axes of fixed length", "the axis of a store"))
        return values

    def name(self, node: tree.Name) -> Expr:
        context = self.context
        if node.primed:
            return self.primed(node)
        if node.name in context.values:
            return self.as_value(node, context.values[node.name])
        if node.name in context.settings:
            return Const(float(context.settings[node.name]))
        if node.name in context.sizes:
            return Const(float(context.sizes[node.name]))
        if node.name in CONSTANTS:
            return Const(CONSTANTS[node.name])
        if self.is_function(node.name):
            context.fail(NotAValue(node.span, node.name, "a function"))
        context.fail(UnknownName(node.span, node.name, (*context.values, *context.settings), context.owner))

    def as_value(self, node: tree.Name, value: object) -> Expr:
        if isinstance(value, Broken):
            raise Failed
        if isinstance(value, Expr):
            return value
        self.context.fail(NotAValue(node.span, node.name, "a memory of several tensors"))

    def primed(self, node: tree.Name) -> Expr:
        self.context.fail(NotPrimed(node.span, node.name))

    def is_function(self, name: str) -> bool:
        return name in builtins.NAMES

    def _bracket(self, node: tree.Bracket, expected: Axes | None) -> Expr:
        inner = node.value
        if isinstance(inner, tree.Name) and not inner.primed and inner.name not in self.context.values:
            if inner.name == "index" and len(node.items) == 1 and node.items[0].renamed_to is None:
                return Index(self.context.fixed_axes([node.items[0].axis])[0])
            if inner.name == "age" and len(node.items) == 1 and node.items[0].renamed_to is None:
                return self._age(node.items[0].axis)
        renamed = {i.axis.text: i.renamed_to.text for i in node.items if i.renamed_to is not None}
        back = {new: old for old, new in renamed.items()}
        arg = self.value(inner, None if expected is None else tuple(back.get(a, a) for a in expected))
        if not renamed:
            wanted = self.context.axes([item.axis for item in node.items])
            if set(wanted) != set(self.declared(arg.axes)):
                self.context.fail(AxesDiffer(node.span, "this bracket", wanted, self.declared(arg.axes)))
            return arg
        return self._rename(arg, node)

    def _age(self, name: tree.Ident) -> Expr:
        if name.text not in self.context.growing:
            self.context.fail(WrongKind(name.span, "the axis of a store", "an axis of fixed length"))
        return build.leaf(LeafKind.AGE, name.text, (name.text,))

    def _rename(self, arg: Expr, node: tree.Bracket) -> Expr:
        context, mapping = self.context, dict[str, str]()
        for item in node.items:
            if item.axis.text not in arg.axes:
                context.fail(AxisNotThere(item.axis.span, item.axis.text, self.declared(arg.axes)))
            if item.renamed_to is not None and item.axis.text in context.growing:
                context.fail(WrongKind(item.axis.span, "an axis of fixed length", "the axis of a store"))
            if item.renamed_to is not None:
                mapping[item.axis.text] = item.renamed_to.text
        kept = [axis for axis in arg.axes if axis not in mapping]
        for item in node.items:
            new = item.renamed_to
            if new is None:
                continue
            if new.text in kept:
                context.fail(AxisTaken(new.span, new.text, self.declared(arg.axes)))
            kept.append(new.text)
            self.same_length(item.axis.text, new)
        return build.rename(arg, mapping)

    def same_length(self, old: str, new: tree.Ident) -> None:
        """An axis takes a new name: the two have the same length, or the new one was not known."""
        context = self.context
        if new.text in context.settings or new.text in context.sizes:
            context.axis(new)
            self.check_sizes(old, new.text, new.span)
        elif old in context.sizes:
            context.sizes[new.text] = context.sizes[old]
            if old in context.made_up:
                context.made_up.add(new.text)

    def check_sizes(self, one: str, other: str, span: Span) -> None:
        sizes = self.context.sizes
        unsure = {one, other} & self.context.made_up
        if one in sizes and other in sizes and sizes[one] != sizes[other] and not unsure:
            self.context.fail(SizesDiffer(span, one, sizes[one], other, sizes[other]))

    # --- elementwise ---

    def elementwise(self, op: str, args: list[Expr], spans: list[Span]) -> Expr:
        for index, (arg, span) in enumerate(zip(args, spans, strict=True)):
            self._check_kind(op, index, arg, span)
        if op in builtins.LOGICAL:
            args = [build.apply("gt", arg, build.ZERO) if isinstance(arg, Const) else arg for arg in args]
        result = build.apply(op, *args)
        plain = Apply(op, tuple(args))
        # `0 * x` still has the axes of `x`: what a text declares does not depend on what can be simplified.
        if len(result.axes) == len(plain.axes):
            return result
        return spread(result, plain.axes) if op == "where" and isinstance(args[0], Const) else plain

    def _check_kind(self, op: str, index: int, arg: Expr, span: Span) -> None:
        condition = op in builtins.LOGICAL or (op == "where" and index == 0)
        if condition:
            if arg.dtype is not DType.BOOL and not isinstance(arg, Const):
                self.context.fail(WrongKind(span, "a condition", builtins.KINDS[arg.dtype]))
            return
        if arg.dtype is DType.REAL or (arg.dtype is DType.COMPLEX and op in builtins.ON_COMPLEX):
            return
        if arg.dtype is DType.COMPLEX and op == "pow" and index == 0:
            return
        wanted = "a real number" if arg.dtype is DType.COMPLEX else "a number"
        self.context.fail(WrongKind(span, wanted, builtins.KINDS[arg.dtype]))

    # --- calls ---

    def call(self, node: tree.Call, expected: Axes | None) -> Expr:
        name = node.callee.name
        if name in self.context.values or node.callee.primed:
            return self.checked_result(node, self.call_value(node))
        if name in builtins.NAMES:
            return self._call_builtin(node, expected)
        return self.checked_result(node, self.call_defined(node, expected))

    def call_value(self, node: tree.Call) -> Expr:
        """A call of a name that is a value: only memories can be called."""
        if isinstance(self.context.values.get(node.callee.name), Broken):
            raise Failed
        self.context.fail(NotAFunction(node.callee.span, node.callee.name))

    def call_defined(self, node: tree.Call, expected: Axes | None) -> Expr:
        """A call of a rule or a block."""
        self.context.fail(UnknownCallee(node.callee.span, node.callee.name, self.callables()))

    def callables(self) -> tuple[str, ...]:
        return builtins.NAMES

    def checked_result(self, node: tree.Call, value: Expr) -> Expr:
        """`-> [d]` behind a call: the result has just these axes."""
        if node.result is not None:
            wanted = self.context.axes(node.result)
            if set(wanted) != set(self.declared(value.axes)):
                self.context.fail(AxesDiffer(node.span, "this result", wanted, self.declared(value.axes)))
        return value

    def _call_builtin(self, node: tree.Call, expected: Axes | None) -> Expr:
        name = node.callee.name
        if name in builtins.CHOICES and len(node.args) == 2 and not node.over:
            result = self._elementwise_call(node, name, 2, None)
        elif name in builtins.REDUCTIONS:
            result = self._reduction(node)
        elif name in builtins.ELEMENTWISE:
            op, arity = builtins.ELEMENTWISE[name]
            result = self._elementwise_call(node, op, arity, expected)
        else:
            return self.call_special(node, expected)
        return self.checked_result(node, result)

    def call_special(self, node: tree.Call, expected: Axes | None) -> Expr:
        match node.callee.name:
            case "softmax":
                return self.checked_result(node, self._softmax(node))
            case "pow":
                return self.checked_result(node, self._elementwise_call(node, "pow", 2, None))
            case "at":
                return self.checked_result(node, self._at(node))
            case "rank":
                return self.checked_result(node, self._rank(node))
            case "concat":
                return concat(self, node, expected)
            case "split":
                self.context.fail(
                    NotAValue(node.span, "split", "several values: give each a name with `let`")
                )
            case other:
                self.context.fail(UnknownCallee(node.callee.span, other, self.callables()))

    def arguments(self, node: tree.Call, count: int, keywords: Sequence[str] = ()) -> None:
        """Check how many arguments a call has, and which keywords."""
        if len(node.args) != count:
            self.context.fail(
                ArgumentCount(node.span, node.callee.name, counted(count, "value"), len(node.args))
            )
        for keyword in node.keywords:
            if keyword.name.text not in keywords:
                self.context.fail(
                    UnknownArgument(keyword.name.span, keyword.name.text, node.callee.name, tuple(keywords))
                )

    def _elementwise_call(self, node: tree.Call, op: str, arity: int, expected: Axes | None) -> Expr:
        self.arguments(node, arity)
        if op in RANDOM and not self.drawing:
            self.context.fail(RandomOutsideParameter(node.span, op))
        if node.over:
            self.context.fail(AxisToName(node.over[0].span, node.callee.name, (), elementwise=True))
        if arity == 1:
            down = self.context.axes(node.result) if node.result is not None else expected
            return self.elementwise(op, [self.value(node.args[0], down)], [node.args[0].span])
        return self.elementwise(op, self.all(node.args), [arg.span for arg in node.args])

    def over(self, node: tree.Call, arg: Expr) -> Axes:
        """The axes in a call's bracket, all of which its argument has."""
        axes: list[str] = []
        for name in node.over:
            if name.text not in arg.axes:
                self.context.axis(name)
                self.context.fail(AxisNotThere(name.span, name.text, self.declared(arg.axes)))
            axes.append(name.text)
        return tuple(dict.fromkeys(axes))

    def one_axis(self, node: tree.Call, arg: Expr) -> str:
        """The axis that a call works along: named, or the only one there is."""
        axes = self.over(node, arg) or self.declared(arg.axes)
        if len(axes) != 1:
            self.context.fail(AxisToName(node.callee.span, node.callee.name, axes))
        return axes[0]

    def _reduction(self, node: tree.Call) -> Expr:
        self.arguments(node, 1)
        arg = self.value(node.args[0])
        name = node.callee.name
        if arg.dtype is DType.COMPLEX and name not in {"sum", "mean", "sumsq", "norm"}:
            self.context.fail(WrongKind(node.args[0].span, "a real number", builtins.KINDS[arg.dtype]))
        if arg.dtype in {DType.BOOL, DType.INT}:
            self.context.fail(WrongKind(node.args[0].span, "a number", builtins.KINDS[arg.dtype]))
        over = self.over(node, arg) if node.over else self.declared(arg.axes)
        if name == "mean" and any(axis not in self.context.sizes for axis in over):
            self.context.fail(WrongKind(node.span, "an axis of fixed length", "the axis of a store"))
        size = math.prod(self.context.sizes.get(axis, 1) for axis in over)
        return builtins.REDUCTIONS[name](over, arg, size)

    def _softmax(self, node: tree.Call) -> Expr:
        self.arguments(node, 1)
        arg = self.value(node.args[0])
        if arg.dtype is not DType.REAL:
            self.context.fail(WrongKind(node.args[0].span, "a real number", builtins.KINDS[arg.dtype]))
        return Softmax((self.one_axis(node, arg),), arg)

    def _at(self, node: tree.Call) -> Expr:
        self.arguments(node, 2)
        arg = self.value(node.args[0])
        axis = self.one_axis(node, arg)
        if self._varies(node.args[1]):
            return self._taken(node, arg, axis)
        position = self.number(node.args[1])
        length = self.context.sizes.get(axis)
        inside = float(position).is_integer() and (length is None or -length <= position < length)
        if not inside and axis not in self.context.made_up and not self.context.unsure(node.args[1]):
            self.context.fail(OutOfRange(node.args[1].span, f"{position:g}", f"a position along `{axis}`"))
        return build.at(arg, axis, int(position))

    def _varies(self, node: tree.Expr) -> bool:
        """Whether an expression is a value and not a number known now."""
        return any(
            isinstance(part, tree.Bracket)
            or (isinstance(part, tree.Name) and (part.primed or part.name in self.context.values))
            or (isinstance(part, tree.Call) and self._is_defined(part.callee.name))
            for part in tree.walk(node)
        )

    def _is_defined(self, name: str) -> bool:
        return name not in builtins.NAMES and self.is_function(name)

    def _taken(self, node: tree.Call, arg: Expr, axis: str) -> Expr:
        """`at[c](x, i)` for a value `i`: it says which entry, token by token."""
        index = self.value(node.args[1])
        if index.dtype is not DType.REAL:
            self.context.fail(WrongKind(node.args[1].span, "a real number", builtins.KINDS[index.dtype]))
        if arg.dtype not in {DType.REAL, DType.COMPLEX}:
            self.context.fail(WrongKind(node.args[0].span, "a number", builtins.KINDS[arg.dtype]))
        if axis in self.context.growing:
            self.context.fail(WrongKind(node.callee.span, "an axis of fixed length", "the axis of a store"))
        return build.take(arg, index, axis)

    def _rank(self, node: tree.Call) -> Expr:
        self.arguments(node, 1)
        arg = self.value(node.args[0])
        if arg.dtype is not DType.REAL:
            self.context.fail(WrongKind(node.args[0].span, "a real number", builtins.KINDS[arg.dtype]))
        return build.rank(arg, self.one_axis(node, arg))

    # --- what a declaration says ---

    def check_declared(self, target: tree.Target, value: Expr, span: Span) -> None:
        """`let u[w] = …`: the value has just the axes that are declared."""
        if target.axes is None:
            return
        wanted = self.context.axes(target.axes)
        if set(wanted) != set(self.declared(value.axes)):
            self.context.fail(AxesDiffer(span, f"`{target.name.text}`", wanted, self.declared(value.axes)))


def spread(x: Expr, axes: Axes) -> Expr:
    """A value with the axes that it might have had, had nothing been simplified."""
    for axis in axes:
        if axis not in x.axes:
            x = Apply("where", (build.apply("ge", Index(axis), build.ZERO), x, x))
    return x
