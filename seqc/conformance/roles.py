"""What range the inputs of a rule should have, read off the recurrence.

Most rules are meant for some inputs only: a decay above 1, or a key of norm 5 in the delta rule, makes the
state grow without bound, and then nothing can be compared.  So an input is

- a *unit* vector over the axes along which it is summed against a state (a key that is read or erased by);
- a *gate* between 0 and 1 when it multiplies a state and no squashing function lies between;
- *normal* otherwise.

Where the states still explode, the signs and sizes of the gates are varied until they do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from seqc.ir.expr import (
    Apply,
    Axes,
    DType,
    Expr,
    Leaf,
    LeafKind,
    Reduce,
    Rename,
    Softmax,
    children,
    depends_on,
    walk,
)
from seqc.ir.recurrence import Recurrence
from seqc.oracle.recurrence import prepare, run

SQUASHING = frozenset({"sigmoid", "tanh", "log_sigmoid", "softplus", "erf", "sin", "cos"})

# Numbers are drawn for so many tokens at a time, so that a shorter sequence begins a longer one.
DRAWN = 512

# The largest state that counts as one that did not explode, after so many tokens.
LARGEST, TOKENS = 1e3, 40


@dataclass(frozen=True, slots=True)
class Role:
    """How an input is drawn; `axes` are those over which a unit vector has norm 1."""

    kind: Literal["normal", "unit", "gate"]
    axes: Axes = ()
    scale: float = 1.0

    def draw(self, shape: tuple[int, ...], dims: tuple[int, ...], generator: torch.Generator) -> Tensor:
        if self.kind == "gate":
            return self.scale * torch.rand(shape, generator=generator, dtype=torch.float64)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if self.kind == "unit":
            noise = noise / torch.linalg.vector_norm(noise, dim=dims, keepdim=True)
        return self.scale * noise


def roles_of(recurrence: Recurrence, parameters: Mapping[str, Tensor]) -> dict[str, Role]:
    """A role for every input under which the states stay bounded, if there is one."""
    roles = structural_roles(recurrence)
    gates = [name for name, role in roles.items() if role.kind == "gate"]
    candidates = _variations(roles, gates)
    return next((each for each in candidates if _is_bounded(recurrence, parameters, each)), roles)


def structural_roles(recurrence: Recurrence) -> dict[str, Role]:
    """What the structure alone says."""
    states: set[Expr] = {leaf for state in recurrence.states for leaf in (state.leaf, state.next)}
    carrying = depends_on(recurrence.updates, states)
    unit: dict[Leaf, Axes] = {}
    gate: set[Leaf] = set()
    for node in walk(recurrence.updates):
        if isinstance(node, Reduce) and node.arg in carrying:
            for leaf, axes in _summed(node, carrying):
                unit.setdefault(leaf, axes)
        if isinstance(node, Apply) and node.op in ("mul", "div") and node in carrying:
            for arg in node.args:
                if arg not in carrying:
                    gate.update(_bare_inputs(arg))
    return {
        leaf.name: Role("unit", unit[leaf]) if leaf in unit else Role("gate" if leaf in gate else "normal")
        for leaf in recurrence.inputs
    }


def _summed(node: Reduce, carrying: set[Expr]) -> Iterator[tuple[Leaf, Axes]]:
    """Inputs that are summed against a state, with the axes of the sum as the input calls them."""
    stack: list[tuple[Expr, dict[str, str]]] = [(node.arg, {axis: axis for axis in node.over})]
    while stack:
        here, names = stack.pop()
        match here:
            case Apply(op="mul" | "neg"):
                stack.extend((arg, names) for arg in here.args)
            case Rename():
                back = {new: old for old, new in here.pairs}
                stack.append((here.arg, {axis: back.get(own, own) for axis, own in names.items()}))
            case Leaf(kind=LeafKind.INPUT):
                axes = tuple(own for own in names.values() if own in here.axes)
                if axes and here.dtype is DType.REAL and here not in carrying:
                    yield here, axes
            case _:
                pass


def _bare_inputs(coefficient: Expr) -> Iterator[Leaf]:
    """The inputs in a coefficient that reach it without being squashed."""
    stack, seen = [coefficient], set[Expr]()
    while stack:
        node = stack.pop()
        if node in seen or isinstance(node, Softmax) or (isinstance(node, Apply) and node.op in SQUASHING):
            continue
        seen.add(node)
        if isinstance(node, Leaf) and node.kind is LeafKind.INPUT:
            yield node
        stack.extend(children(node))


def _variations(roles: dict[str, Role], gates: list[str]) -> Iterator[dict[str, Role]]:
    """The roles as they are, then with gates of other signs and sizes, the fewest changes first."""
    for size in (1.0, 0.1, 0.01):
        signs = sorted(product((1.0, -1.0), repeat=min(len(gates), 4)), key=lambda each: each.count(-1.0))
        for sign in signs:
            changed = {
                name: replace(roles[name], scale=size * s) for name, s in zip(gates, sign, strict=False)
            }
            yield {**roles, **changed}


def _is_bounded(recurrence: Recurrence, parameters: Mapping[str, Tensor], roles: Mapping[str, Role]) -> bool:
    inputs = draw(recurrence.inputs, recurrence.sizes, roles, 1, TOKENS, seed=0)
    with torch.no_grad():
        outputs, after = run(prepare(recurrence), inputs, parameters, {}, None, (1, TOKENS))
    values = [*outputs, *(after[state.name] for state in recurrence.states)]
    return all(not x.numel() or float(x.abs().max()) < LARGEST for x in values)


def draw(
    inputs: Iterable[Leaf],
    sizes: Mapping[str, int],
    roles: Mapping[str, Role],
    batch: int,
    time: int,
    seed: int,
) -> dict[str, Tensor]:
    """Inputs `[batch, time, *axes]`; fewer tokens are the first of more."""
    whole = -(-time // DRAWN) * DRAWN
    made: dict[str, Tensor] = {}
    for number, leaf in enumerate(inputs):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        role = roles[leaf.name]
        shape = (whole, batch, *(sizes[axis] for axis in leaf.axes))
        dims = tuple(2 + leaf.axes.index(axis) for axis in role.axes)
        made[leaf.name] = role.draw(shape, dims, generator)[:time].transpose(0, 1).contiguous()
    return made
