"""What a program does with time: whether an output has a value a token, and whether anything looks ahead."""

from __future__ import annotations

from collections.abc import Sequence

from seqc.ir.expr import Conv, Expr, Flip, Invoke, Item, Leaf, LeafKind, Pool
from seqc.ir.program import Function, Model, Repeat
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import children, walk


def varying_outputs(
    callee: Recurrence | Function | Repeat, inputs: Sequence[bool] | None = None
) -> tuple[bool, ...]:
    """For each output, whether it has a value a token; if not, it has one a sequence (a `Pool` and what
    follows).

    `inputs` says the same of the inputs; by default all of them vary.
    """
    varying = tuple(inputs) if inputs is not None else (True,) * len(callee.inputs)
    match callee:
        case Recurrence():
            return (True,) * len(callee.outputs)
        case Repeat():
            for body in callee.bodies:
                results = varying_outputs(body, varying)
                varying = (*results, *varying[len(results) :])
            return varying[: len(callee.outputs)]
        case Function():
            return _function(callee, varying)


def _function(function: Function, inputs: tuple[bool, ...]) -> tuple[bool, ...]:
    found: dict[Expr, bool] = dict(zip(function.inputs, inputs, strict=True))
    calls: dict[Expr, tuple[bool, ...]] = {}
    for node in walk(function.outputs):
        match node:
            case Leaf():
                found.setdefault(node, node.kind is not LeafKind.PARAM)
            case Invoke():
                calls[node] = varying_outputs(node.callee, [found[arg] for arg in node.args])
                found[node] = False
            case Item():
                found[node] = calls[node.call][node.index]
            case Pool():
                found[node] = False
            case Conv():
                found[node] = True
            case _:
                found[node] = any(found[child] for child in children(node))
    return tuple(found[out] for out in function.outputs)


def reads_future(whole: Recurrence | Function | Repeat | Model) -> bool:
    """Whether anything in it reverses time or sums a sequence up: such a program has no step."""
    pending: list[Recurrence | Function | Repeat] = [whole.body if isinstance(whole, Model) else whole]
    seen: set[object] = set()
    while pending:
        callee = pending.pop()
        if callee in seen:
            continue
        seen.add(callee)
        match callee:
            case Recurrence():
                continue
            case Repeat():
                pending.extend(callee.bodies)
            case Function():
                nodes = list(walk(callee.outputs))
                if any(isinstance(node, Flip | Pool) for node in nodes):
                    return True
                pending.extend(node.callee for node in nodes if isinstance(node, Invoke))
    return False
