"""Causal depthwise convolution: with its window in front, as one grouped `Conv`, or tap by tap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir

from seqc.ir.expr import Conv, DType

from .builder import Builder
from .control import branch
from .stores import Documents
from .tensors import BATCH, TIME, Space, Tensor

TAP = "%window"


def convolve(
    space: Space,
    node: Conv,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Tensor,
    documents: Documents | None,
    reset: Tensor | None,
    native: str | None,
) -> tuple[Tensor, Tensor]:
    """The convolution and the window after it; inputs from before a reset count as 0.

    `native` is the domain of `CausalConvWithState`, which is fast for one token and slow for many.
    """
    if documents is None:
        if native == "com.microsoft" and set(weight.axes) == {*node.arg.axes, node.taps}:
            return _native_step(space, node, x, weight, bias, window, reset)
        return _step(space, node, x, weight, bias, window, reset)
    return _sequence(space, node, x, weight, bias, window, documents, reset)


def _step(
    space: Space,
    node: Conv,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Tensor,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    b, axes = space.builder, node.arg.axes
    width = space.fixed(node.taps)
    assert width is not None
    if reset is not None:
        window = space.elementwise("Where", reset, space.number(0), window, kind=DType.REAL)
    newest = b.op("Unsqueeze", space.expand(x, (BATCH, *axes)).value, b.ints(1))
    order = (BATCH, TAP, *axes)
    value = b.op("Concat", space.transpose(window, order).value, newest, axis=1)
    whole = Tensor(value, (BATCH, node.taps, *axes))
    y = space.contract([whole, weight], [node.taps])
    after = Tensor(b.op("Slice", value, b.ints(1), b.ints(width), b.ints(1)), order)
    return (y if bias is None else space.elementwise("Add", y, bias)), after


def _native_step(
    space: Space,
    node: Conv,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Tensor,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The operator with the channels last, so that its state is our window."""
    b, axes = space.builder, node.arg.axes
    width = space.fixed(node.taps)
    assert width is not None
    channels = math.prod(space.fixed(a) or 0 for a in axes)
    if reset is not None:
        window = space.elementwise("Where", reset, space.number(0), window, kind=DType.REAL)
    newest = b.op("Unsqueeze", space.expand(x, (BATCH, *axes)).value, b.ints(1))
    kernel = b.op("Reshape", space.transpose(weight, (*axes, node.taps)).value, b.ints(channels, 1, width))
    order = (BATCH, TAP, *axes)
    y, after = b.ops(
        "CausalConvWithState",
        newest,
        kernel,
        None if bias is None else b.op("Reshape", space.transpose(bias, axes).value, b.ints(channels)),
        space.transpose(window, order).value,
        count=2,
        domain="com.microsoft",
        channels_last=1,
    )
    for value in (y, after):
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([None] * len(order))
    return Tensor(b.op("Squeeze", y, b.ints(1)), (BATCH, *axes)), Tensor(after, order)


def _sequence(
    space: Space,
    node: Conv,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Tensor,
    documents: Documents,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    b, axes = space.builder, node.arg.axes
    width = space.fixed(node.taps)
    assert width is not None
    time = space.expand(x, (BATCH, TIME, *axes))
    kept = space.transpose(window, (BATCH, TAP, *axes))
    whole = Tensor(b.op("Concat", kept.value, time.value, axis=1), (BATCH, "%long", *axes))
    space.dynamic["%long"] = space.measure(whole, "%long")
    plain = _grouped if set(weight.axes) == {*axes, node.taps} else _tapped

    def cut(inner: Builder, value: ir.Value, start: int) -> ir.Value:
        """`time` entries from `start` on."""
        end = inner.op("Add", space.length(TIME), inner.ints(start))
        return inner.op("Slice", value, inner.ints(start), end, inner.ints(1))

    def fast(inner: Space) -> list[Tensor]:
        after = inner.builder.op(
            "Slice", whole.value, space.length(TIME), space.length("%long"), inner.builder.ints(1)
        )
        return [plain(inner, node, whole, weight, width, cut), Tensor(after, (BATCH, TAP, *axes))]

    def careful(inner: Space) -> list[Tensor]:
        return _with_resets(inner, node, whole, weight, width, documents, cut)

    if reset is None:
        y, after = fast(space)
    else:
        y, after = branch(space, reset, careful, fast)
    return (y if bias is None else space.elementwise("Add", y, bias)), after


Cut = Callable[[Builder, ir.Value, int], ir.Value]


def _grouped(space: Space, node: Conv, whole: Tensor, weight: Tensor, width: int, _: Cut) -> Tensor:
    """One `Conv` with as many groups as channels."""
    b, axes = space.builder, node.arg.axes
    channels = math.prod(space.fixed(a) or 0 for a in axes)
    flat = b.op("Reshape", whole.value, b.ints(0, 0, channels)) if len(axes) != 1 else whole.value
    turned = b.op("Transpose", flat, perm=[0, 2, 1])
    kernel = space.transpose(weight, (*axes, node.taps))
    kernel_value = b.op("Reshape", kernel.value, b.ints(channels, 1, width))
    y = b.op("Conv", turned, kernel_value, group=channels, kernel_shape=[width])
    y = b.op("Transpose", y, perm=[0, 2, 1])
    if len(axes) != 1:
        y = b.op("Reshape", y, b.ints(0, 0, *(space.fixed(a) or 0 for a in axes)))
    return Tensor(y, (BATCH, TIME, *axes))


def _tap(space: Space, node: Conv, weight: Tensor, tap: int) -> Tensor:
    return space.entry(weight, node.taps, tap)


def _tapped(space: Space, node: Conv, whole: Tensor, weight: Tensor, width: int, cut: Cut) -> Tensor:
    """Tap by tap: for a weight with other axes than the input."""
    return _sum(space, [
        space.mul(_window(space, node, cut(space.builder, whole.value, tap)), _tap(space, node, weight, tap))
        for tap in range(width)
    ])  # fmt: skip


def _window(space: Space, node: Conv, value: ir.Value) -> Tensor:
    del space
    return Tensor(value, (BATCH, TIME, *node.arg.axes))


def _sum(space: Space, terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = space.elementwise("Add", total, term)
    return total


def _with_resets(
    space: Space, node: Conv, whole: Tensor, weight: Tensor, width: int, documents: Documents, cut: Cut
) -> list[Tensor]:
    """Tap by tap, with the inputs of earlier documents hidden; those of the window belong to document 0."""
    b = space.builder
    number = space.builder.op("Pad", documents.index.value, b.ints(0, width - 1, 0, 0))
    zero = space.number(0)
    terms: list[Tensor] = []
    for tap in range(width):
        there = Tensor(cut(b, number, tap), (BATCH, TIME), DType.INT)
        same = space.elementwise("Equal", there, documents.index, kind=DType.BOOL)
        taken = _window(space, node, cut(b, whole.value, tap))
        seen = space.elementwise("Where", same, taken, zero, kind=DType.REAL)
        terms.append(space.mul(seen, _tap(space, node, weight, tap)))
    long = Tensor(number, (BATCH, "%long"), DType.INT)
    still = space.elementwise("Equal", long, documents.last, kind=DType.BOOL)
    cleared = space.elementwise("Where", still, whole, zero, kind=DType.REAL)
    order = (BATCH, "%long", *node.arg.axes)
    last = b.op(
        "Slice", space.transpose(cleared, order).value, space.length(TIME), space.length("%long"), b.ints(1)
    )
    return [_sum(space, terms), Tensor(last, (BATCH, TAP, *node.arg.axes))]
