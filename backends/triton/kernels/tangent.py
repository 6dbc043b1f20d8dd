"""The functions of a stage, as they are written for `newton.py`: here h' = tanh(a·h + x) over d, of 100."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .guess import beside, close, gap, improved
from .math import tanh


@triton.jit
def locate(program, TILE: tl.constexpr):
    """The batch, the row and the tile of a program."""
    tiles = tl.cdiv(100, TILE)
    return program // (1 * tiles), program // tiles % 1, program % tiles


@triton.jit
def load_inputs(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The inputs of a block."""
    at_d = tile * TILE + tl.arange(0, TILE)
    a_2 = tl.load(pointers[0] + at_d, mask=at_d < 100, other=0.0)
    at_i = tl.arange(0, 64)
    reset_ = tl.load(pointers[1] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    x_2 = tl.load(
        pointers[2] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
        other=0.0,
    )
    return (a_2.to(tl.float32), reset_.to(tl.float32), x_2.to(tl.float32))


@triton.jit
def load_states(pointers, place, row, tile, TILE: tl.constexpr):
    """States."""
    at_d = tile * TILE + tl.arange(0, TILE)
    h = tl.load(pointers[0] + place * 100 + at_d, mask=at_d < 100, other=0.0)
    return (h.to(tl.float32),)


@triton.jit
def store_states(pointers, values, place, row, tile, TILE: tl.constexpr):
    """States."""
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(pointers[0] + place * 100 + at_d, values[0], mask=at_d < 100)


@triton.jit
def load_begins(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The states before the tokens of a block."""
    at_i = tl.arange(0, 64)
    at_d = tile * TILE + tl.arange(0, TILE)
    h = tl.load(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
        other=0.0,
    )
    return (h.to(tl.float32),)


@triton.jit
def store_begins(pointers, values, batch, first, time, row, tile, TILE: tl.constexpr):
    """The states before the tokens of a block."""
    at_i = tl.arange(0, 64)
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
    )


@triton.jit
def load_cotangents(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The cotangents of results."""
    at_i = tl.arange(0, 64)
    at_d = tile * TILE + tl.arange(0, TILE)
    after_2 = tl.load(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
        other=0.0,
    )
    return (after_2.to(tl.float32),)


@triton.jit
def store_outputs(pointers, values, batch, first, time, row, tile, TILE: tl.constexpr):
    """The results of a block."""
    at_i = tl.arange(0, 64)
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
    )


@triton.jit
def store_gradients(pointers, values, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of inputs."""
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + ((batch * tl.cdiv(time, 64) + first // 64) * (1) + 0) * 100 + at_d,
        values[0],
        mask=at_d < 100,
    )
    at_i = tl.arange(0, 64)
    tl.store(
        pointers[1] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        values[1],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
    )


@triton.jit
def tangent(begin, given, tile, TILE: tl.constexpr):
    """The states after tokens, and their derivatives by those before: row by row."""
    h = begin[0]
    a_2 = given[0]
    reset_ = given[1]
    x_2 = given[2]
    total = a_2[None, :] * tl.where(reset_[:, None] != 0.0, 0.0, h) + x_2
    tangent_new = tanh(total)
    tangent_new_2 = (
        tl.where(reset_ != 0.0, 0.0, 1.0)[:, None] * a_2[None, :] * (1.0 - tangent_new * tangent_new)
    )
    return (tangent_new,), (tangent_new_2,)


@triton.jit
def reads(begin, given, tile, TILE: tl.constexpr):
    """The results of a block."""
    h = begin[0]
    a_2 = given[0]
    reset_ = given[1]
    x_2 = given[2]
    total = a_2[None, :] * tl.where(reset_[:, None] != 0.0, 0.0, h) + x_2
    return (tanh(total),)


@triton.jit
def reverse(begin, given, known, count, tile, TILE: tl.constexpr):
    """The cotangents of the states before tokens: what results add, and factors of those after."""
    h = begin[0]
    a_2 = given[0]
    reset_ = given[1]
    x_2 = given[2]
    d_after = known[0]
    at_i = tl.arange(0, 64)
    total = a_2[None, :] * tl.where(reset_[:, None] != 0.0, 0.0, h) + x_2
    squashed = tanh(total)
    difference = 1.0 - squashed * squashed
    masked = tl.where(reset_[:, None] != 0.0, 0.0, d_after * difference * a_2[None, :])
    product = tl.where(reset_ != 0.0, 0.0, 1.0)[:, None] * a_2[None, :] * difference
    return (tl.where((at_i < count)[:, None], masked, 0.0),), (
        tl.where((at_i < count)[:, None], product, 1.0),
    )


@triton.jit
def gradients(begin, given, known, flow, count, tile, TILE: tl.constexpr):
    """The cotangents of the inputs of a block."""
    h = begin[0]
    a_2 = given[0]
    reset_ = given[1]
    x_2 = given[2]
    d_after = known[0]
    d_h = flow[0]
    at_i = tl.arange(0, 64)
    masked = tl.where(reset_[:, None] != 0.0, 0.0, h)
    squashed = tanh(a_2[None, :] * masked + x_2)
    gradients_new = (d_h + d_after) * (1.0 - squashed * squashed)
    masked_2 = tl.where((at_i < count)[:, None], gradients_new * masked, 0.0)
    gradients_new_2 = tl.sum(masked_2, 0)
    return (gradients_new_2, gradients_new)


@triton.jit
def spread(x, TILE: tl.constexpr):
    """The same at all tokens of a block."""
    return (x[0] + tl.full((64, TILE), 0.0, tl.float32),)


@triton.jit
def moved(x, end, TILE: tl.constexpr, REVERSE: tl.constexpr):
    """What stands before each token; see `beside`."""
    place = tl.arange(0, 64)[:, None]
    return (beside(x[0], end[0], place, 64, REVERSE),)


@triton.jit
def last(x, at, TILE: tl.constexpr):
    """The values at a token."""
    place = tl.arange(0, 64)[:, None]
    return (tl.sum(tl.where(place == at, x[0], 0.0), 0),)


@triton.jit
def step(own, slopes, flow, TILE: tl.constexpr):
    """The cotangents before tokens, from those after."""
    return (own[0] + slopes[0] * flow[0],)


@triton.jit
def follow(a00, b0, c00, d0):
    """Two steps of the linearised rule as one."""
    return (c00 * a00, c00 * b0 + d0)


@triton.jit
def corrected(guess, exact, slopes, settled, TILE: tl.constexpr, REVERSE: tl.constexpr):
    """A better guess: what is missing goes on as the slopes say."""
    place = tl.arange(0, 64)[:, None]
    order = 63 - place if REVERSE else place
    missing0 = tl.where(order < settled, 0.0, exact[0] - guess[0])
    found = tl.associative_scan((slopes[0], missing0), 0, follow, reverse=REVERSE)
    return (improved(guess[0], exact[0], found[1], order, settled),)


@triton.jit
def agreeing(guess, exact, tile, TILE: tl.constexpr, REVERSE: tl.constexpr):
    """For how many tokens, one after another, a guess is what follows from it."""
    at_d = tile * TILE + tl.arange(0, TILE)
    place = tl.arange(0, 64)
    order = 63 - place if REVERSE else place
    settled = close(
        tl.max(tl.where(at_d[None, :] < 100, gap(exact[0], guess[0]), float("-inf")), 1),
        tl.max(tl.where(at_d[None, :] < 100, tl.abs(exact[0]), float("-inf")), 1),
        8,
        REVERSE,
    )
    return tl.min(tl.where(settled, 64, order), 0)
