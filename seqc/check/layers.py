"""Operations with parameters of their own, and those of whole sequences.

A linear map is always `Reduce(sum, in, Apply(mul, (x, W)))` with the axes of `W` in the order (*out, *in), and
`Apply(add, (…, bias))` around it if there is a bias.  An axis on both sides is called `<axis>.in` on the input.

Weights of a linear map start as LeCun normal (standard deviation `1/sqrt(fan_in)`), biases at 0, embeddings as
normal with deviation 0.02, convolutions uniform in `±1/sqrt(width)`; `init = …` says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from seqc.check.builtins import KINDS
from seqc.check.expressions import Elaborator
from seqc.check.parameters import draw
from seqc.diagnostics.axes import AxisNotThere
from seqc.diagnostics.blocks import MissingArgument, OutputAxesNeeded
from seqc.diagnostics.rules import WrongKind
from seqc.diagnostics.settings import OutOfRange
from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import Apply, Axes, Const, Conv, Dropout, DType, Expr, Flip, Gather, Pool, Reduce
from seqc.ir.recurrence import Parameter
from seqc.syntax import tree

EMBEDDING_DEVIATION = 0.02


def instance(elaborator: Elaborator, node: tree.Call, binding: str) -> str:
    """The path of an operation: what `as` says, or its binding and its word."""
    if node.as_name is not None:
        return elaborator.context.instance(node.as_name.text)
    word = node.callee.name
    return elaborator.context.instance(f"{binding}.{word}" if binding else word)


def _initial(elaborator: Elaborator, node: tree.Call, axes: Axes, default: Expr) -> Expr:
    keyword = node.keyword("init")
    return default if keyword is None else draw(elaborator, keyword.value, axes)


def _flag(elaborator: Elaborator, node: tree.Call, name: str) -> bool:
    keyword = node.keyword(name)
    return keyword is not None and bool(elaborator.number(keyword.value))


def _length(elaborator: Elaborator, axes: Axes) -> int:
    return math.prod(elaborator.context.sizes.get(axis, 1) for axis in axes)


def result_axes(elaborator: Elaborator, node: tree.Call, expected: Axes | None) -> Axes:
    """The axes that an operation has to produce: written behind it, or expected of it."""
    if node.result is not None:
        return elaborator.context.fixed_axes(node.result)
    if expected is None:
        elaborator.context.fail(OutputAxesNeeded(node.span, node.callee.name))
    if any(axis in elaborator.context.growing for axis in expected):
        elaborator.context.fail(WrongKind(node.span, "axes of fixed length", "the axis of a store"))
    return elaborator.declared(expected)


def linear(elaborator: Elaborator, node: tree.Call, expected: Axes | None, binding: str) -> Expr:
    """A dense map from all axes of the input to all axes expected; those in the bracket stay block-diagonal."""
    elaborator.arguments(node, 1, ("bias", "init"))
    x = elaborator.value(node.args[0])
    if x.dtype is not DType.REAL:
        elaborator.context.fail(WrongKind(node.args[0].span, "a real number", KINDS[x.dtype]))
    out = result_axes(elaborator, node, expected)
    kept = elaborator.over(node, x)
    for axis, name in zip(kept, node.over, strict=True):
        if axis not in out:
            elaborator.context.fail(AxisNotThere(name.span, axis, out))
    path = instance(elaborator, node, binding)
    into = [axis for axis in elaborator.declared(x.axes) if axis not in kept]
    if any(axis in elaborator.context.growing for axis in (*into, *kept)):
        elaborator.context.fail(WrongKind(node.args[0].span, "axes of fixed length", "the axis of a store"))
    x, into = _apart(elaborator, x, into, out)
    default = build.apply("normal", ZERO, Const(1 / math.sqrt(max(_length(elaborator, tuple(into)), 1))))
    axes = (*out, *into)
    initial = _initial(elaborator, node, axes, default)
    weight = elaborator.context.parameter(Parameter(f"{path}.weight", axes, initial), node.span)
    y: Expr = Apply("mul", (x, weight))
    if into:
        y = Reduce("sum", tuple(into), y)
    if _flag(elaborator, node, "bias"):
        bias = Parameter(f"{path}.bias", out, ZERO, decays=False)
        y = Apply("add", (y, elaborator.context.parameter(bias, node.span)))
    return y


def _apart(elaborator: Elaborator, x: Expr, into: list[str], out: Axes) -> tuple[Expr, list[str]]:
    """Rename the input's axes that also occur in the output."""
    sizes = elaborator.context.sizes
    fresh: dict[str, str] = {}
    for axis in into:
        if axis in out:
            fresh[axis] = f"{axis}.in"
            sizes[fresh[axis]] = sizes[axis]
            if axis in elaborator.context.made_up:
                elaborator.context.made_up.add(fresh[axis])
    return build.rename(x, fresh), [fresh.get(axis, axis) for axis in into]


def embed(elaborator: Elaborator, node: tree.Call, expected: Axes | None, binding: str) -> Expr:
    """`embed(tokens, vocab)` with a table of its own, or `embed(tokens, table)` with a declared one."""
    context = elaborator.context
    elaborator.arguments(node, 2, ("init",))
    tokens = elaborator.value(node.args[0])
    if tokens.dtype is not DType.INT:
        context.fail(WrongKind(node.args[0].span, "tokens", "a number"))
    second = node.args[1]
    if isinstance(second, tree.Name) and second.name in context.values:
        table = elaborator.value(second)
        out = elaborator.declared(table.axes) if expected is None and node.result is None else None
        wanted = out[1:] if out is not None else result_axes(elaborator, node, expected)
        looked_up = [axis for axis in table.axes if axis not in wanted]
        if len(looked_up) != 1:
            context.fail(WrongKind(second.span, "a table with one more axis than the result", "a value"))
        return elaborator.checked_result(node, Gather(table, tokens, looked_up[0]))
    wanted = result_axes(elaborator, node, expected)
    size = elaborator.size(second)
    path = instance(elaborator, node, binding)
    if isinstance(second, tree.Name) and second.name in context.settings and second.name not in wanted:
        context.sizes[second.name] = size
        axis = second.name
    else:
        axis = context.fresh_axis(f"{path}.vocab", size, context.unsure(second))
    default = build.apply("normal", ZERO, Const(EMBEDDING_DEVIATION))
    initial = _initial(elaborator, node, (axis, *wanted), default)
    table = context.parameter(Parameter(f"{path}.weight", (axis, *wanted), initial), node.span)
    return Gather(table, tokens, axis)


def causal_conv(elaborator: Elaborator, node: tree.Call, expected: Axes | None, binding: str) -> Expr:
    """A depthwise convolution over the present token and the `width - 1` before it."""
    context = elaborator.context
    elaborator.arguments(node, 1, ("width", "bias", "init"))
    keyword = node.keyword("width")
    if keyword is None:
        context.fail(MissingArgument(node.span, "causal_conv", "width", "width = 4"))
    down = context.axes(node.result) if node.result is not None else expected
    x = elaborator.value(node.args[0], down)
    if x.dtype is not DType.REAL:
        context.fail(WrongKind(node.args[0].span, "a real number", KINDS[x.dtype]))
    width = elaborator.size(keyword.value)
    path = instance(elaborator, node, binding)
    taps = context.fresh_axis(f"{path}.taps", width, context.unsure(keyword.value))
    channels = elaborator.declared(x.axes)
    bound = 1 / math.sqrt(width)
    initial = _initial(
        elaborator, node, (*channels, taps), build.apply("uniform", Const(-bound), Const(bound))
    )
    weight = context.parameter(Parameter(f"{path}.weight", (*channels, taps), initial), node.span)
    bias: Expr | None = None
    if _flag(elaborator, node, "bias"):
        bias = context.parameter(Parameter(f"{path}.bias", channels, ZERO, decays=False), node.span)
    return elaborator.checked_result(node, Conv(path, x, weight, bias, taps))


def dropout(elaborator: Elaborator, node: tree.Call, expected: Axes | None, binding: str) -> Expr:
    elaborator.arguments(node, 1, ("rate",))
    keyword = node.keyword("rate")
    if keyword is None:
        elaborator.context.fail(MissingArgument(node.span, "dropout", "rate", "rate = 0.1"))
    rate = float(elaborator.number(keyword.value))
    if not 0 <= rate < 1 and not elaborator.context.unsure(keyword.value):
        elaborator.context.fail(
            OutOfRange(keyword.value.span, f"{rate:g}", "a rate of dropout, from 0 to below 1")
        )
    x = elaborator.value(node.args[0], expected)
    if not 0 < rate < 1:
        return elaborator.checked_result(node, x)
    return elaborator.checked_result(node, Dropout(instance(elaborator, node, binding), rate, x))


def reverse(elaborator: Elaborator, node: tree.Call, expected: Axes | None, _: str) -> Expr:
    elaborator.arguments(node, 1)
    x = elaborator.value(node.args[0], expected)
    return elaborator.checked_result(node, x.arg if isinstance(x, Flip) else Flip(x))


def _pool(op: str) -> Layer:
    def pool(elaborator: Elaborator, node: tree.Call, expected: Axes | None, _: str) -> Expr:
        elaborator.arguments(node, 1)
        return elaborator.checked_result(node, Pool(op, elaborator.value(node.args[0], expected)))

    return pool


Layer = Callable[[Elaborator, tree.Call, Axes | None, str], Expr]

LAYERS: dict[str, Layer] = {
    "linear": linear,
    "embed": embed,
    "causal_conv": causal_conv,
    "dropout": dropout,
    "reverse": reverse,
    "mean_pool": _pool("mean"),
    "last_pool": _pool("last"),
}
