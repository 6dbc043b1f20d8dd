"""Rules that are a GRU or an LSTM of PyTorch's, alone and behind the linear maps that make their inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seqc.ir import build
from seqc.ir.build import ZERO
from seqc.ir.expr import Axes, Expr, Invoke, LeafKind, Reduce, Rename
from seqc.ir.plan import Plan
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import leaves, rewrite, walk
from seqc.passes import cells
from seqc.passes.canonical import arguments
from seqc.passes.cells import Gate, is_constant

from .expressions import LINE, Scope
from .layout import split_statement
from .splice import pieces

# The operator of a cell, and its gates in the order in which the operator has them.
OPERATORS = {"GRU": ("gru", (1, 0, 2)), "LSTM": ("lstm", (0, 2, 3, 1))}


@dataclass(frozen=True, slots=True)
class Cell:
    """A use of `torch.gru` or `torch.lstm`; all is in the order of the operator.

    `gates` are the places of the rule's inputs; `weights` and `biases` are those of the state, each weight with its
    axes (out, in).
    """

    kind: str
    carried: tuple[str, ...]
    gates: tuple[int, ...]
    weights: tuple[tuple[Expr, Axes], ...]
    biases: tuple[Expr, ...]

    @property
    def key(self) -> str:
        """A name for the operator that says what is in it."""
        text = "".join(pieces()[name].text for name in ("cell_layer", "cell_operator", "recording"))
        return f"{self.kind}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def find_cell(rec: Recurrence, plan: Plan | None, given: Sequence[str] = ()) -> Cell | None:
    """The operator that a whole rule is; None where it is not, or callers pass parameters in."""
    if plan is None or given or len(plan.stages) != 1:
        return None
    (stage,) = plan.stages
    cell = cells.find_cells(plan).get(stage.name)
    if cell is None or plan.outputs != (stage.reads[0].leaf,) or len(rec.states) != len(cell.states):
        return None
    if cell.op == "GRU" and cell.recalled is None:
        return None
    kind, order = OPERATORS[cell.op]
    gates = [cell.gates[k] for k in order]
    sources = [_source(gate) for gate in gates]
    places = [rec.inputs.index(leaf) if leaf in rec.inputs else -1 for leaf, _ in sources]
    axes = cell.states[0].axes
    if sorted(places) != list(range(len(rec.inputs))) or any(leaf.axes != axes for leaf in rec.inputs):
        return None
    biases = [bias for _, bias in sources]
    if cell.recalled is not None:
        if biases[-1] is not ZERO:
            return None
        biases[-1] = cell.recalled
    weights = tuple((gate.weight, (axes[0], gate.inner)) for gate in gates)
    return Cell(kind, tuple(s.name for s in cell.states), tuple(places), weights, tuple(biases))


def _source(gate: Gate) -> tuple[Expr, Expr]:
    """What a gate is given that varies, and the rest."""
    parts = arguments("add", gate.given)
    moving = [part for part in parts if not is_constant(part)]
    return build.total(moving), build.total(part for part in parts if part not in moving)


def print_recurrent(cell: Cell, scope: Scope) -> list[str]:
    """The method `recurrent`; `scope` knows the parameters, and what there is to be like as `like`."""
    count, axis = len(cell.weights), cell.weights[0][1][:1]
    values = scope.emit([*(weight for weight, _ in cell.weights), *cell.biases])
    pairs = zip(values[:count], cell.weights, strict=True)
    weights = [scope.arranged(value, axes).code.text for value, (_, axes) in pairs]
    biases = [scope.still(value, axis, "like") for value in values[count:]]
    bias = f"torch.cat([{', '.join(biases)}])"
    if all(entry is ZERO for entry in cell.biases):
        bias = f"like.new_zeros({count * scope.sizes[axis[0]]})"
    name = scope.names.fresh("weights")
    return [
        "",
        "    def recurrent(self, like: Tensor) -> tuple[Tensor, Tensor]:",
        *(f"        {line}" for line in scope.lines),
        *split_statement(f"{name} = torch.cat([{', '.join(weights)}])", LINE, 8),
        *split_statement(f"return {name}, {bias}", LINE, 8),
    ]


# --- behind linear maps ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Projected:
    """A cell called with linear maps of one value: the call's arguments are that value, the weights and the biases.

    `maps` are the axes (out, in) of the weights.
    """

    rule: Recurrence
    maps: tuple[Axes, ...]

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def outputs(self) -> tuple[Expr, ...]:
        return self.rule.outputs

    def output_axes(self, index: int) -> Axes:
        return self.rule.output_axes(index)


def with_projections(roots: Sequence[Expr], is_cell: Callable[[Recurrence], bool]) -> tuple[Expr, ...]:
    """`roots` with the calls of cells that get linear maps of one value as calls of `Projected`."""
    calls = [node for node in walk(roots) if isinstance(node, Invoke)]
    if not any(isinstance(call.callee, Recurrence) and is_cell(call.callee) for call in calls):
        return tuple(roots)

    def rule(node: Expr) -> Expr | None:
        if not (isinstance(node, Invoke) and isinstance(node.callee, Recurrence) and is_cell(node.callee)):
            return None
        maps = [found for arg in node.args if (found := _linear_map(arg)) is not None]
        if len(maps) < len(node.args) or len({found.source for found in maps}) > 1:
            return None
        args = (maps[0].source, *(found.weight for found in maps), *(found.bias for found in maps))
        return Invoke(node.name, Projected(node.callee, tuple(found.axes for found in maps)), args)

    return rewrite(roots, rule)


@dataclass(frozen=True, slots=True)
class _Map:
    """`sum[in](weight * source) + bias`; `axes` are (out, in)."""

    source: Expr
    weight: Expr
    bias: Expr
    axes: Axes


def _linear_map(expr: Expr) -> _Map | None:
    while isinstance(expr, Rename):
        expr = expr.arg
    parts = arguments("add", expr)
    moving = [part for part in parts if not _is_weight(part)]
    if len(moving) != 1:
        return None
    match moving[0]:
        case Reduce(op="sum", over=(inner,), arg=arg):
            factors = arguments("mul", arg)
        case _:
            return None
    weight = build.product(factor for factor in factors if _is_weight(factor))
    source = build.product(factor for factor in factors if not _is_weight(factor))
    if source.axes != (inner,) or set(weight.axes) - {inner} != set(expr.axes) or inner not in weight.axes:
        return None
    bias = build.total(part for part in parts if part is not moving[0])
    return _Map(source, weight, bias, (*expr.axes, inner)) if len(expr.axes) == 1 else None


def _is_weight(expr: Expr) -> bool:
    """Whether a value of a block is made of its parameters and numbers only."""
    calls = any(isinstance(node, Invoke) for node in walk([expr]))
    return not calls and all(leaf.kind is LeafKind.PARAM for leaf in leaves([expr]))
