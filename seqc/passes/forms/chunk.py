"""Matrix states that are read through contractions only: a block as products of matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqc.ir.expr import Axes, Expr
from seqc.ir.plan import Adjoint, Stage
from seqc.passes.canonical import poly
from seqc.passes.forms.kernels import Sequences, volume
from seqc.passes.forms.problem import Build, Problem, finish
from seqc.passes.linear import Affine, separate_source
from seqc.passes.reads import Query, Read

MODE = "chunk"
SCALAR_BLOCK = 64  # tokens a block where a gate is one number a head
VECTOR_BLOCK = 16  # where a gate differs along an axis of the state
MANY = 8  # kernels to one matrix of scores


def find(problem: Problem) -> Build | None:
    affine = problem.triangular
    shape = None if affine is None else chunk_shape(affine, problem.reads, problem.sizes)
    if affine is None or shape is None:
        return None
    return lambda: _stage(problem, affine, shape)


def _stage(problem: Problem, affine: Affine, shape: ChunkShape) -> tuple[Stage, Adjoint]:
    block = problem.block or shape.block
    builder = problem.builder(block)
    sequences = Sequences(affine, builder.lift, block, dict(builder.sizes))
    for target, pairs in shape.sources.items():
        for key, value in pairs:
            sequences.write(target, key, value, shape.keys)
    return finish(problem, builder, sequences)


@dataclass(frozen=True, slots=True)
class ChunkShape:
    """How a chunked form sees the axes of a group: contracted `keys`, and `columns` that ride along."""

    keys: Axes
    columns: Axes
    block: int
    sources: Mapping[str, list[tuple[Expr, Expr]]]


def chunk_shape(affine: Affine, reads: Sequence[Read], sizes: Mapping[str, int]) -> ChunkShape | None:
    """The chunked form of an affine group, or None where it would write the states out anyway."""
    queries = [query for read in reads for query in read.queries]
    axes = affine.states[0].axes
    if any(query.whole for query in queries) or any(state.axes != axes for state in affine.states):
        return None
    keys = _keys(affine, queries)
    if keys is None:
        return None
    batch = _batch_axes(affine, keys)
    columns = tuple(a for a in axes if a not in keys and a not in batch)
    if not columns and not affine.rank_ones and set(keys) != set(axes):
        return None
    sources: dict[str, list[tuple[Expr, Expr]]] = {}
    for name, source in affine.sources.items():
        separated = separate_source(source, keys, columns)
        if separated is None:
            return None
        sources[name] = separated
    gates = {axis for decay in affine.diagonal.values() for axis in decay.axes}
    if not affine.rank_ones and gates >= set(axes):
        return None
    wide = bool(gates & {*keys, *columns}) or _spread(affine, gates, sizes) > MANY
    return ChunkShape(keys, columns, VECTOR_BLOCK if wide else SCALAR_BLOCK, sources)


def _keys(affine: Affine, queries: Sequence[Query]) -> Axes | None:
    if affine.rank_ones:
        found = {term.keys for term in affine.rank_ones}
        return next(iter(found)) if len(found) == 1 else None
    return next((query.over for query in queries), None)


def _batch_axes(affine: Affine, keys: Axes) -> set[str]:
    """Axes that the key side depends on besides the keys: every entry along them has kernels of its own."""
    exprs = [*affine.sources.values(), *affine.diagonal.values()]
    atoms = [atom for expr in exprs for monomial in poly(expr) for atom, _ in monomial]
    atoms += [side for term in affine.rank_ones for side in (term.write, term.read)]
    linked = {axis for atom in atoms if set(atom.axes) & set(keys) for axis in atom.axes}
    gates = {axis for decay in affine.diagonal.values() for axis in decay.axes}
    return (linked | gates) - set(keys)


def _spread(affine: Affine, gates: set[str], sizes: Mapping[str, int]) -> int:
    """How many kernels there are to one matrix of scores: gates may have axes that the keys do not have.

    An axis of open length is one that a rule is mapped over, and counts as short.
    """
    if affine.rank_ones:
        sides = [set(term.read.axes) for term in affine.rank_ones]
    else:
        sides = [set(source.axes) for source in affine.sources.values()]
    shared = set.intersection(*sides) if sides else set[str]()
    return volume((axis for axis in gates - shared if axis in sizes), sizes)
