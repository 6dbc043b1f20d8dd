"""What range the inputs of a rule should have, read off the recurrence.

Most rules are meant for some inputs only: a decay above 1, or a key of norm 5 in the delta rule, makes the
state grow without bound, and then nothing can be compared.  So an input is

- a *unit* vector over the axes along which it is summed against a state (a key that is read or erased by);
- a *gate* between 0 and 1 when it multiplies a state and no squashing function lies between, and near 1 when
  it divides one;
- *normal* otherwise.

Where the states still explode, the signs and sizes of the gates are varied until they do not.

A gate that multiplies nothing but functions of a state that are not affine is a *rate*: how far a network that
is a memory moves.  Such a memory may be chaotic, so that a rounding becomes everything, or be forgotten for
good.  Then its rates are drawn small and its other gates near the end that keeps the most, until it is neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from seqc.conformance.compare import distance
from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Leaf, LeafKind, Reduce, Rename, Softmax
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import children, depends_on, leaves, substitute, walk
from seqc.oracle.recurrence import prepare, run
from seqc.passes.canonical import canonical
from seqc.passes.linear import NotAffine, linear_form

SQUASHING = frozenset({"sigmoid", "tanh", "log_sigmoid", "softplus", "erf", "sin", "cos"})

# Numbers are drawn for so many tokens at a time, so that a shorter sequence begins a longer one.
DRAWN = 512

# The largest state that counts as one that did not explode, after so many tokens.
LARGEST, TOKENS = 1e3, 40

# Where every input moves by a small part of itself, the outputs move by less than so many times that part; and they
# are not all smaller than that: after so many tokens.
GROWTH, SMALLEST, LONG = 32.0, 1e-6, 400
MOVE = 1e-7

DIVISOR = 0.9  # the least that a state is divided by; what is divided by less at every token grows too fast
WIDTHS = (0.1, 0.01, 0.001)


@dataclass(frozen=True, slots=True)
class Role:
    """How an input is drawn: a gate from `low` to `high`, a unit vector with norm 1 over `axes`."""

    kind: Literal["normal", "unit", "gate"]
    axes: Axes = ()
    low: float = 0.0
    high: float = 1.0

    def draw(self, shape: tuple[int, ...], dims: tuple[int, ...], generator: torch.Generator) -> Tensor:
        if self.kind == "gate":
            return self.gate(torch.rand(shape, generator=generator, dtype=torch.float64))
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if self.kind == "unit":
            noise = noise / torch.linalg.vector_norm(noise, dim=dims, keepdim=True)
        return noise

    def gate(self, share: Tensor) -> Tensor:
        """Gates that lie a share of the way from `low` to `high`."""
        return self.low + (self.high - self.low) * share


def roles_of(recurrence: Recurrence, parameters: Mapping[str, Tensor]) -> dict[str, Role]:
    """A role for every input under which the states stay bounded, if there is one."""
    roles = structural_roles(recurrence)
    gates = [name for name, role in roles.items() if role.kind == "gate"]
    candidates = _variations(roles, gates)
    bounded = next((each for each in candidates if _is_bounded(recurrence, parameters, each)), roles)
    rates, keeping = rates_of(recurrence, roles)
    narrowed = _narrowed(bounded, rates, keeping) if rates else ()
    return next((each for each in narrowed if _is_settled(recurrence, parameters, each)), bounded)


def structural_roles(recurrence: Recurrence) -> dict[str, Role]:
    """What the structure alone says."""
    carrying = _carrying(recurrence)
    unit: dict[Leaf, Axes] = {}
    gate: set[Leaf] = set()
    divisors: set[Leaf] = set()
    for node in walk(recurrence.updates):
        if isinstance(node, Reduce) and node.arg in carrying:
            for leaf, axes in _summed(node, carrying):
                unit.setdefault(leaf, axes)
        if isinstance(node, Apply) and node.op == "div" and node.args[0] in carrying:
            divisors.update(leaf for leaf in [node.args[1]] if isinstance(leaf, Leaf))
        for coefficient, _ in _products(node, carrying):
            gate.update(_bare_inputs(coefficient))

    def role(leaf: Leaf) -> Role:
        if leaf in unit:
            return Role("unit", unit[leaf])
        return Role("gate", low=DIVISOR if leaf in divisors else 0.0) if leaf in gate else Role("normal")

    return {leaf.name: role(leaf) for leaf in recurrence.inputs}


def rates_of(recurrence: Recurrence, roles: Mapping[str, Role]) -> tuple[list[str], dict[str, bool]]:
    """The gates that multiply functions of a state, but no affine one; for the others, whether 1 keeps more than 0."""
    carrying = _carrying(recurrence)
    targets = {leaf for state in recurrence.states for leaf in (state.leaf, state.next)}
    steps: set[str] = set()
    keeping: dict[str, bool] = {}
    for node in walk(recurrence.updates):
        for coefficient, factor in _products(node, carrying):
            for leaf in _bare_inputs(coefficient):
                if roles[leaf.name].kind != "gate":
                    continue
                if _is_affine(factor, targets):
                    keeping.setdefault(leaf.name, _rises(coefficient, leaf))
                else:
                    steps.add(leaf.name)
    return [name for name in roles if name in steps and name not in keeping], keeping


def _rises(coefficient: Expr, gate: Leaf) -> bool:
    """Whether a coefficient is at least as large where a gate is 1 as where it is 0, if that can be told."""
    others: dict[Expr, Expr] = {leaf: Const(0.5) for leaf in leaves([coefficient]) if leaf is not gate}
    zero, one = (canonical(*substitute([coefficient], {**others, gate: end})) for end in (ZERO, ONE))
    return not (isinstance(zero, Const) and isinstance(one, Const)) or abs(one.value) >= abs(zero.value)


def _carrying(recurrence: Recurrence) -> set[Expr]:
    states: set[Expr] = {leaf for state in recurrence.states for leaf in (state.leaf, state.next)}
    return depends_on(recurrence.updates, states)


def _products(node: Expr, carrying: set[Expr]) -> Iterator[tuple[Expr, Expr]]:
    """(what has no state, what has one) of a product or a quotient."""
    if isinstance(node, Apply) and node.op in ("mul", "div"):
        for arg in node.args:
            yield from ((arg, factor) for factor in node.args if arg not in carrying and factor in carrying)


def _is_affine(expr: Expr, states: set[Leaf]) -> bool:
    try:
        linear_form(expr, states)
    except NotAffine:
        return False
    return True


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
                name: replace(roles[name], low=roles[name].low * s, high=size * s)
                for name, s in zip(gates, sign, strict=False)
            }
            yield {**roles, **changed}


def _narrowed(
    roles: dict[str, Role], rates: list[str], keeping: Mapping[str, bool]
) -> Iterator[dict[str, Role]]:
    """The roles as they are, then with ever smaller rates, and other gates that keep ever more."""
    yield roles
    for width in WIDTHS:
        slow = {name: Role("gate", high=width) for name in rates}
        kept = {
            name: Role("gate", low=1 - width) if one else Role("gate", high=width)
            for name, one in keeping.items()
        }
        yield {**roles, **slow, **kept}


def _is_bounded(recurrence: Recurrence, parameters: Mapping[str, Tensor], roles: Mapping[str, Role]) -> bool:
    inputs = draw(recurrence.inputs, recurrence.sizes, roles, 1, TOKENS, seed=0)
    with torch.no_grad():
        outputs, after = run(prepare(recurrence), inputs, parameters, {}, None, (1, TOKENS))
    return all(_largest([x]) < LARGEST for x in (*outputs, *after.values()))


def _is_settled(recurrence: Recurrence, parameters: Mapping[str, Tensor], roles: Mapping[str, Role]) -> bool:
    """Whether states stay bounded, are not forgotten for good, and do not make much of little."""
    if not _is_bounded(recurrence, parameters, roles):
        return False
    inputs = draw(recurrence.inputs, recurrence.sizes, roles, 1, LONG, seed=0)
    generator = torch.Generator().manual_seed(0)
    pairs = {name: torch.cat([x, _moved(x, generator)]) for name, x in inputs.items()}
    with torch.no_grad():
        outputs, after = run(prepare(recurrence), pairs, parameters, {}, None, (2, LONG))
    late = [x[:, -LONG // 4 :] for x in outputs if x.numel()]
    alive = all(_largest([x]) > SMALLEST for x in late) and _largest(after.values()) < LARGEST
    return alive and all(distance(x[1], x[0]) < GROWTH * MOVE for x in late)


def _largest(tensors: Iterable[Tensor]) -> float:
    return max((float(x.abs().max()) for x in tensors if x.numel()), default=0.0)


def _moved(x: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return x * (1 + MOVE * noise) if x.is_floating_point() else x


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
