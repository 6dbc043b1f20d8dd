"""The functions of a stage, as they are written for `fused.py`: here s' = a·s + b, for 100 channels.

Where a sequence begins anew, a is 0.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .linear import flags, following, moved, running


@triton.jit
def locate(program, TILE: tl.constexpr):
    """The batch, the row and the tile of a program."""
    tiles = tl.cdiv(100, TILE)
    return program // (1 * tiles), program // tiles % 1, program % tiles


@triton.jit
def load_inputs(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The inputs of a block."""
    at_i = tl.arange(0, 32)
    begins_2 = flags(pointers[0], batch * time + first + at_i, first + at_i < time)
    at_d = tile * TILE + tl.arange(0, TILE)
    a_2 = tl.load(
        pointers[1] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
        other=0.0,
    )
    a_2 = a_2.to(tl.float32)
    b = tl.load(
        pointers[2] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
        other=0.0,
    )
    return (
        tl.where(first + at_i[:, None] < time, tl.where(begins_2 != 0.0, 0.0, 1.0)[:, None] * a_2, 1.0),
        b.to(tl.float32),
    )


@triton.jit
def load_states(pointers, place, row, tile, TILE: tl.constexpr):
    """States."""
    at_d = tile * TILE + tl.arange(0, TILE)
    h_2 = tl.load(pointers[0] + place * 100 + at_d, mask=at_d < 100, other=0.0)
    return (h_2.to(tl.float32),)


@triton.jit
def load_cotangents(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The cotangents of results."""
    at_i = tl.arange(0, 32)
    at_d = tile * TILE + tl.arange(0, TILE)
    after_2 = tl.load(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
        other=0.0,
    )
    return (after_2.to(tl.float32),)


@triton.jit
def store_states(pointers, values, place, row, tile, TILE: tl.constexpr):
    """States."""
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(pointers[0] + place * 100 + at_d, values[0], mask=at_d < 100)


@triton.jit
def store_outputs(pointers, values, batch, first, time, row, tile, TILE: tl.constexpr):
    """The results of a block."""
    at_i = tl.arange(0, 32)
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
    )


@triton.jit
def store_gradients0(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `a`, `b`, given those of `a_in`."""
    at_i = tl.arange(0, 32)
    begins_2 = flags(inputs[0], batch * time + first + at_i, first + at_i < time)
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        values[0] * tl.where(begins_2 != 0.0, 0.0, 1.0)[:, None],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
    )
    tl.store(
        pointers[1] + (batch * time + first + at_i[:, None]) * 100 + at_d[None, :],
        values[1],
        mask=(first + at_i[:, None] < time) & (at_d[None, :] < 100),
    )


@triton.jit
def before(
    given, tile, TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):
    """What does not depend on the states."""
    a_in = given[0]
    b = given[1]
    scanned = following(a_in, b, 0, False)
    at_i = tl.arange(0, 32)
    eq = at_i.to(tl.float32) == 31.0
    total = tl.sum(tl.where(eq[:, None], scanned[0], 0.0), 0)
    gt = total > 0.5
    masked = tl.where(eq[:, None], running(a_in, 1.0 - a_in, 0, False), 0.0)
    total_2 = tl.sum(masked, 0)
    pre1_new = tl.where(gt, -total_2, total)
    pre2_new = tl.sum(tl.where(eq[:, None], scanned[1], 0.0), 0)
    return (tl.where(gt, 1.0, 0.0), pre1_new, pre2_new)


@triton.jit
def update(
    state,
    given,
    made,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The states after a block."""
    h_2 = state[0]
    pre0 = made[0]
    pre1 = made[1]
    pre2 = made[2]
    total = pre0 * h_2 + pre1 * h_2
    return (total + pre2,)


@triton.jit
def reads(
    state,
    given,
    made,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The results of a block."""
    h_2 = state[0]
    a_in = given[0]
    b = given[1]
    scanned = following(a_in, b, 0, False)
    after_new = scanned[0] * h_2[None, :] + scanned[1]
    return (after_new,)


@triton.jit
def before_back(
    state,
    given,
    made,
    known,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """What does not depend on the cotangents of states."""
    a_in = given[0]
    d_after = known[0]
    at_i = tl.arange(0, 32)
    scanned = running(a_in, tl.where((at_i.to(tl.float32) == 0.0)[:, None], a_in, 0.0), 0, False)
    direct_new = tl.sum(d_after * scanned, 0)
    return (direct_new,)


@triton.jit
def back(
    given,
    made,
    later,
    flow,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of the states before a block."""
    pre0 = made[0]
    pre1 = made[1]
    d_direct = later[0]
    d_h = flow[0]
    total = d_h * pre1 + d_h * pre0
    return (total + d_direct,)


@triton.jit
def gradients0(
    state,
    given,
    made,
    known,
    flow,
    shared,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of `a_in`, `b` in a block."""
    h_2 = state[0]
    a_in = given[0]
    b = given[1]
    d_after = known[0]
    d_h = flow[0]
    at_i = tl.arange(0, 32)
    eq = at_i.to(tl.float32) == 31.0
    b_new = running(
        moved(a_in, at_i[:, None], -1, 32, 0), d_after + tl.where(eq[:, None], d_h[None, :], 0.0), 0, True
    )
    product_2 = b_new * moved(running(a_in, b, 0, False), at_i[:, None], 1, 32, 0)
    scanned = following(a_in, 1.0 - a_in, 0, False)
    total = tl.sum(tl.where(eq[:, None], scanned[0], 0.0), 0)
    gt = total > 0.5
    product_3 = d_h * h_2
    masked = tl.where(gt, product_3, 0.0)
    scanned_2 = running(
        moved(a_in, at_i[:, None], -1, 32, 0),
        tl.where(eq, -1.0, 0.0)[:, None] + tl.full((32, TILE), 0.0, tl.float32),
        0,
        True,
    )
    product_4 = masked[None, :] * scanned_2
    product_5 = product_4 * moved(scanned[1], at_i[:, None], 1, 32, 0)
    total_2 = product_2 + product_5
    difference = total_2 - product_4
    masked_2 = tl.where(gt, 0.0, product_3)
    total_3 = d_after * h_2[None, :] + tl.where(eq[:, None], masked_2[None, :], 0.0)
    scanned_3 = running(moved(a_in, at_i[:, None], -1, 32, 0), total_3, 0, True)
    product_6 = scanned_3 * moved(scanned[0], at_i[:, None], 1, 32, 0)
    total_4 = difference + product_6
    masked_3 = tl.where((at_i.to(tl.float32) == 0.0)[:, None], scanned_3, 0.0)
    a_in_new = total_4 + masked_3
    return (a_in_new, b_new)


@triton.jit
def clear_states(values, row, tile, TILE: tl.constexpr):
    """The same with 0 beyond the axes."""
    at_d = tile * TILE + tl.arange(0, TILE)
    return (tl.where(at_d < 100, values[0], 0.0),)


@triton.jit
def clear_made(values, row, tile, TILE: tl.constexpr):
    """The same with 0 beyond the axes."""
    at_d = tile * TILE + tl.arange(0, TILE)
    return (
        tl.where(at_d < 100, values[0], 0.0),
        tl.where(at_d < 100, values[1], 0.0),
        tl.where(at_d < 100, values[2], 0.0),
    )


@triton.jit
def clear_later(values, row, tile, TILE: tl.constexpr):
    """The same with 0 beyond the axes."""
    at_d = tile * TILE + tl.arange(0, TILE)
    return (tl.where(at_d < 100, values[0], 0.0),)
