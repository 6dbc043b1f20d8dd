"""The values that parameters begin with."""

from __future__ import annotations

import torch
from torch import Tensor

from seqc.ir.expr import Apply, Expr, Leaf, LeafKind
from seqc.ir.ops import RANDOM
from seqc.ir.paths import Instance, instances, parameter_table
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Parameter, Recurrence
from seqc.ir.traverse import rewrite
from seqc.oracle.evaluate import Frame, evaluate, order, spread
from seqc.oracle.primitives import REAL


def initial_parameters(whole: Recurrence | Function | Model, seed: int = 0) -> dict[str, Tensor]:
    """Every parameter `[*axes]` by its full name, drawn as its initialiser says.

    A draw has one number for each entry of the parameter.  What is drawn depends on the seed and on the order
    of the parameters; a backend has its own generator, so its parameters differ from these.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for instance in instances(whole):
        local: dict[Expr, Tensor] = {}
        for name, parameter in instance.parameters():
            if name not in found:
                found[name] = draw(parameter, instance, local, generator)
            local[parameter.leaf] = found[name][None]
    return {name: found[name] for name in parameter_table(whole)}


def draw(
    parameter: Parameter, instance: Instance, known: dict[Expr, Tensor], generator: torch.Generator
) -> Tensor:
    """One parameter's initial value."""
    sizes = instance.owner.sizes
    shape = tuple(sizes[axis] for axis in parameter.axes)
    leaves = dict(known)
    draws: dict[Expr, tuple[str, Expr, Expr]] = {}

    def take(node: Expr) -> Expr | None:
        if not isinstance(node, Apply) or node.op not in RANDOM:
            return None
        leaf = Leaf(LeafKind.READ, f"%draw{len(draws)}", parameter.axes)
        draws[leaf] = (node.op, *node.args)  # type: ignore[assignment]  # every random draw has two arguments
        return leaf

    (value,) = rewrite([parameter.initial], take)
    for leaf, (op, low, high) in draws.items():
        standard = _DRAWS[op](shape, generator)[None]
        frame = Frame((1,), sizes, leaves)
        bounds = evaluate(order([low, high]), frame)
        a, b = (spread(bounds[x], x.axes, parameter.axes, frame) for x in (low, high))
        leaves[leaf] = a + (b - a if op == "uniform" else b) * standard
    frame = Frame((1,), sizes, leaves)
    result = evaluate(order([value]), frame)[value]
    return spread(result, value.axes, parameter.axes, frame)[0].clone()


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=REAL)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=REAL)


def _truncated_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Normal, conditioned on lying within two standard deviations, by its inverse distribution function."""
    edge = torch.special.ndtr(torch.tensor(-2.0, dtype=REAL))
    result: Tensor = torch.special.ndtri(edge + (1 - 2 * edge) * _uniform(shape, generator))
    return result


_DRAWS = {"uniform": _uniform, "normal": _normal, "truncated_normal": _truncated_normal}
