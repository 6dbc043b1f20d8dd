"""Counting what a rule does on a CPU, as a fused loop and in PyTorch; `runtime/cost.py` makes times of the counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod
from typing import NamedTuple

from seqc.ir.expr import Apply, DType, Expr, Leaf, LeafKind, Rank, Reduce, Scan, Softmax, Solve
from seqc.ir.plan import TOKEN, Adjoint, Plan, Stage
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import children, walk
from seqc.passes.cost import RANK, Sizes
from seqc.passes.forms.chunk import MODE as CHUNK

from .effort import shares
from .layout import NARROWEST, mixed_axes
from .runtime.cost import Loop, Part, Work

FUNCTIONS = frozenset(
    {
        "exp", "expm1", "log", "log1p", "tanh", "sigmoid", "log_sigmoid", "softplus", "inv_softplus", "silu", "gelu",
        "gelu_tanh", "erf", "sin", "cos", "pow", "polar",
    }
)  # fmt: skip
FREE = frozenset({"real", "imag", "conj", "complex", "stop_gradient"})
SOLVE = 4  # calls
LONGEST = 2048  # tokens for which a stage that takes the whole sequence as one block is counted


class Counts(NamedTuple):
    """Operations, and the numbers that they make: by arithmetic, elementary functions and sums of products."""

    operations: float = 0.0
    numbers: float = 0.0
    functions: float = 0.0
    products: float = 0.0

    def plus(self, other: Counts, factor: float = 1.0) -> Counts:
        return Counts(*(a + factor * b for a, b in zip(self, other, strict=True)))


def counted(roots: Iterable[Expr], sizes: Mapping[str, int], added: Collection[Expr] = ()) -> Counts:
    """The operations below `roots` that depend on more than parameters, common parts once.

    Roots that are `added` up over the tokens are contractions if they are products.
    """
    found, varies, lengths = Counts(), dict[Expr, bool](), Sizes(sizes)
    nodes = list(walk(roots))
    summed = {node.arg for node in nodes if isinstance(node, Reduce) and _is_product(node.op, node.arg)}
    for node in nodes:
        varies[node] = _is_given(node) or any(varies[child] for child in children(node))
        if varies[node] and node in added and _is_product("sum", node):
            found = found.plus(Counts(1, products=lengths.volume(node.axes).fixed))
        elif varies[node] and node not in summed:
            found = found.plus(_own(node, lengths))
    return found


def _is_given(node: Expr) -> bool:
    return isinstance(node, Leaf) and node.kind is not LeafKind.PARAM


def _is_product(op: str, arg: Expr) -> bool:
    """A contraction, of which the product is never made."""
    return op == "sum" and isinstance(arg, Apply) and arg.op == "mul"


def _own(node: Expr, sizes: Sizes) -> Counts:
    weight = 4.0 if node.dtype is DType.COMPLEX else 1.0

    def volume(*axes: str) -> float:
        return weight * sizes.volume(dict.fromkeys(axes)).fixed

    match node:
        case Apply():
            if node.op in FREE:
                return Counts()
            count = volume(*node.axes)
            return Counts(1, functions=count) if node.op in FUNCTIONS else Counts(1, count)
        case Reduce():
            if _is_product(node.op, node.arg):
                return Counts(1, volume(*node.axes), products=volume(*node.arg.axes))
            return Counts(1, volume(*node.arg.axes))
        case Softmax():
            return Counts(1, volume(*node.axes), functions=volume(*node.axes))
        case Rank():
            return Counts(1, RANK * volume(*node.axes))
        case Scan():
            columns = () if node.columns is None else (node.columns[1],)
            return Counts(sizes.length(node.axis), volume(*node.axes, *columns))
        case Solve():
            return Counts(SOLVE, volume(*node.axes), products=volume(*node.matrix.axes, *node.rhs.axes))
        case _:
            return Counts()


def work(plan: Plan) -> Work:
    """The counts of a rule in single precision; `plan` is how PyTorch schedules it."""
    rule = plan.recurrence
    token = counted((*rule.updates, *rule.outputs), rule.sizes)
    forward = _forward(plan)
    return Work(
        _loop(rule, token, shares(rule) if plan.mode == CHUNK else ()),
        forward,
        _backward(plan, forward[0]),
        [_part(1, Counts(), token, token, _weights(rule))],
    )


def region_work(recurrence: Recurrence) -> Work:
    """The counts of operations that PyTorch does one by one, as a loop and by themselves."""
    token = counted((*recurrence.updates, *recurrence.outputs), recurrence.sizes)
    around = _part(1, token, Counts(), token, 0.0)
    return Work(_loop(recurrence, token, ()), [around], [_twice(around)], [])


def _twice(part: Part) -> Part:
    return Part(1, *(2 * count for count in part[1:]))


def _loop(recurrence: Recurrence, token: Counts, shares: Sequence[float]) -> Loop:
    sizes = recurrence.sizes
    inputs = [leaf.axes for leaf in recurrence.inputs]
    moved = sum(_volume(axes, sizes) for axes in (*inputs, *recurrence.returns))
    states = sum(_volume(state.axes, sizes) for state in recurrence.states)
    tensors = len(inputs) + len(recurrence.returns) + len(recurrence.states) + len(recurrence.parameters)
    return Loop(*token, moved, _weights(recurrence), _pieces(recurrence), tensors, states, *shares)


def _volume(axes: Iterable[str], sizes: Mapping[str, int]) -> int:
    return prod(sizes[axis] for axis in axes)


def _pieces(recurrence: Recurrence) -> int:
    """How many parts of a token never meet, those along a single axis not too small to be worth a loop."""
    both = [set(state.axes) for state in recurrence.states] + [set(axes) for axes in recurrence.returns]
    apart = (
        set.intersection(*both) - mixed_axes((*recurrence.updates, *recurrence.outputs))
        if both
        else set[str]()
    )
    return max(1, _volume(apart, recurrence.sizes) // NARROWEST)


def _part(block: int, once: Counts, steps: Counts, total: Counts, weights: float) -> Part:
    """`once` and `steps` say how often operations are called, `total` what they handle for a token."""
    return Part(block, once.operations, steps.operations, *total[1:], weights=weights)


def _weights(recurrence: Recurrence) -> int:
    return sum(_volume(parameter.axes, recurrence.sizes) for parameter in recurrence.parameters)


def _forward(plan: Plan) -> list[Part]:
    sizes = plan.recurrence.sizes
    values = (given.value for stage in plan.stages for given in stage.inputs)
    token = counted((*plan.outputs, *values), sizes)
    return [
        _part(1, token, Counts(), token, 0.0),
        *(
            _staged(
                stage,
                [*(value for _, value in stage.pre), *(read.value for read in stage.reads)],
                stage.updates,
                plan.recurrence,
            )
            for stage in plan.stages
        ),
    ]


def _backward(plan: Plan, around: Part) -> list[Part]:
    """The reverse of the stages; that of the operations `around` them is taken for twice as much as they are."""
    twice = _twice(around)
    if not plan.adjoints:
        return [twice]
    pairs = zip(plan.stages, plan.adjoints, strict=True)
    return [twice, *(_reverse(stage, adjoint, plan.recurrence) for stage, adjoint in pairs)]


def _reverse(stage: Stage, adjoint: Adjoint, recurrence: Recurrence) -> Part:
    once = [*(value for _, value in (*stage.pre, *adjoint.pre)), *adjoint.direct, *adjoint.inputs]
    pairs = zip(stage.inputs, adjoint.inputs, strict=True)
    return _staged(
        stage, once, adjoint.steps, recurrence, {value for given, value in pairs if given.constant}
    )


def _staged(
    stage: Stage,
    once: Iterable[Expr],
    steps: Iterable[Expr],
    recurrence: Recurrence,
    added: Collection[Expr] = (),
) -> Part:
    block = stage.block or LONGEST
    sizes = {**stage.sizes, TOKEN: block}
    apart, turns = counted(once, sizes, added), counted(steps, sizes)
    total = Counts(*(count / block for count in apart.plus(turns)))
    return _part(stage.block, apart, turns, total, _weights(recurrence) if stage.block == 1 else 0.0)
