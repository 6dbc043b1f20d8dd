"""Moving outliers out of what is rounded (SmoothQuant, Xiao et al. 2023; for recurrent models Mamba-PTQ, 2024).

Channels that are large for some tokens are divided by a factor where they are made, in the norm or the linear before,
and the matrix that takes them is multiplied by it. How far outliers go is different in every layer, so the exponent is
chosen by what a product of the format loses on inputs that were seen. Where nothing before can take the factor, the
layer is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..builder import Array
from .matrices import Matrix, array_of, digest, is_constant

EXPONENTS = (0.25, 0.5, 0.75)
NORMS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})

Product = Callable[[Array, Array], Array]  # rows and a matrix, as a format multiplies them


@dataclass(frozen=True, slots=True)
class Group:
    """The matrices that take one value, and the constants that its channels can be divided by."""

    input: ir.Value
    matrices: tuple[Matrix, ...]
    sources: tuple[ir.Value, ...]

    @property
    def key(self) -> frozenset[bytes]:
        return frozenset(digest(matrix.weight) for matrix in self.matrices)


def find_groups(matrices: Sequence[Matrix]) -> list[Group]:
    """Those whose outliers can be moved."""
    takers: dict[ir.Value, list[Matrix]] = {}
    for matrix in matrices:
        takers.setdefault(matrix.input, []).append(matrix)
    found: list[Group] = []
    for value, own in takers.items():
        alone = all(_uses(matrix.weight) == 1 for matrix in own)
        if not alone or _uses(value) != len(own) or value.is_graph_output():
            continue
        sources = _sources_of(value, len(own[0].array()))
        if sources:
            found.append(Group(value, tuple(own), tuple(sources)))
    return found


def choose_factors(group: Group, rows: Array, product: Product) -> Array | None:
    """The factors `[channels]` with which the products of `rows` lose least; None where that is without any."""
    weights = [matrix.array() for matrix in group.matrices]
    exact = [rows @ weight for weight in weights]

    def lost(factors: Array) -> float:
        return sum(
            float(np.square(product(rows / factors, weight * factors[:, None]) - right).sum())
            for weight, right in zip(weights, exact, strict=True)
        )

    reach = np.abs(rows).max(0)
    width = np.max([np.abs(weight).max(1) for weight in weights], axis=0)
    candidates = [np.ones_like(reach), *(_factors(reach, width, exponent) for exponent in EXPONENTS)]
    best = min(range(len(candidates)), key=lambda i: lost(candidates[i]))
    return candidates[best] if best else None


def apply_factors(groups: Sequence[Group], factors: Mapping[frozenset[bytes], Array]) -> set[str]:
    """Divide the sources and multiply the matrices of every group that has factors; the names of what changed."""
    chosen = [(group, factors[group.key]) for group in groups if group.key in factors]
    for group, factor in chosen:
        for source in group.sources:
            _set(source, array_of(source) / factor)
        for matrix in group.matrices:
            _set(matrix.weight, matrix.array() * factor[:, None])
    changed = [
        value for group, _ in chosen for value in (*group.sources, *(each.weight for each in group.matrices))
    ]
    return {str(value.name) for value in changed}


def _factors(reach: Array, width: Array, exponent: float) -> Array:
    """max |input| ^ exponent / max |weight| ^ (1 - exponent), with a geometric mean of 1; dead channels are left."""
    alive = (reach > 0) & (width > 0)
    factors = np.ones_like(reach)
    factors[alive] = reach[alive] ** exponent / width[alive] ** (1 - exponent)
    factors[alive] /= np.exp(np.log(factors[alive]).mean()) if alive.any() else 1
    return factors


def _sources_of(value: ir.Value, channels: int) -> list[ir.Value]:
    """The constants to divide so that a value comes out divided, channel by channel; none where that is impossible."""
    node = value.producer()
    if node is None or not node.inputs:
        return []
    first, *others = node.inputs
    if node.op_type in NORMS:
        learned = [other for other in others if other is not None]
        return learned if all(_is_source(other, channels) for other in learned) else []
    if node.op_type == "MatMul":
        (second,) = others
        return [second] if second is not None and _is_source(second, channels) else []
    if node.op_type == "Mul":
        return next((found for each in node.inputs if each and (found := _through(each, channels))), [])
    if node.op_type in ("Div", "Relu"):
        return _through(first, channels) if first is not None else []
    if node.op_type == "Add":
        sides = [_through(each, channels) for each in node.inputs if each is not None]
        return [source for side in sides for source in side] if all(sides) else []
    return []


def _through(value: ir.Value, channels: int) -> list[ir.Value]:
    if is_constant(value):
        return [value] if _is_source(value, channels) else []
    return _sources_of(value, channels) if _uses(value) == 1 and not value.is_graph_output() else []


def _is_source(value: ir.Value, channels: int) -> bool:
    """A constant that is used once and has one number, or one column, a channel."""
    if not is_constant(value) or _uses(value) != 1:
        return False
    shape = array_of(value).shape
    return bool(shape) and shape[-1] == channels


def _uses(value: ir.Value) -> int:
    return len(list(value.uses()))


def _set(value: ir.Value, array: Array) -> None:
    value.const_value = ir.tensor(np.asarray(array, np.float32), name=value.name)
