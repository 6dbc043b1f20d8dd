"""The functions of the way back of a stage, as they are written for `chunk.py`: of that in `stage.py`."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .linear import inverse_upper, nearest, running


@triton.jit
def load_cotangents(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The cotangents of results."""
    at_i = tl.arange(0, 32)
    at_m = tile * TILE + tl.arange(0, TILE)
    read0 = tl.load(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
        other=0.0,
    )
    return (read0.to(tl.float32),)


@triton.jit
def load_later(pointers, place, row, tile, TILE: tl.constexpr):
    """What does not depend on the cotangents of states."""
    at_n = tl.arange(0, 64)
    at_m = tile * TILE + tl.arange(0, TILE)
    direct = tl.load(
        pointers[0] + place * 4000 + at_m[None, :] * 40 + at_n[:, None],
        mask=(at_n[:, None] < 40) & (at_m[None, :] < 100),
        other=0.0,
    )
    return (direct.to(tl.float32),)


@triton.jit
def store_later(pointers, values, place, row, tile, TILE: tl.constexpr):
    """What does not depend on the cotangents of states."""
    at_n = tl.arange(0, 64)
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + place * 4000 + at_m[None, :] * 40 + at_n[:, None],
        values[0],
        mask=(at_n[:, None] < 40) & (at_m[None, :] < 100),
    )


@triton.jit
def load_common(pointers, place, row, tile, TILE: tl.constexpr):
    """What several cotangents need."""
    at_n = tl.arange(0, 64)
    at_i = tl.arange(0, 32)
    common0 = tl.load(
        pointers[0] + (place * (tl.cdiv(100, TILE)) + tile) * 1280 + at_i[:, None] * 40 + at_n[None, :],
        mask=at_n[None, :] < 40,
        other=0.0,
    )
    at_m = tile * TILE + tl.arange(0, TILE)
    common1 = tl.load(
        pointers[1] + place * 3200 + at_i[:, None] * 100 + at_m[None, :], mask=at_m[None, :] < 100, other=0.0
    )
    return (common0.to(tl.float32), common1.to(tl.float32))


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
    alpha_in = given[0]
    k = given[2]
    q = given[4]
    pre2 = made[2]
    d_read0 = known[0]
    total = tl.dot(q.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    at_i = tl.arange(0, 32)
    at_j = tl.arange(0, 32)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_2 = tl.permute(
        tl.dot(
            tl.permute(nearest(d_read0, PRECISION), (1, 0)),
            nearest(scanned * total, PRECISION),
            input_precision=PRECISION,
        ),
        (1, 0),
    )
    total_3 = tl.dot(
        tl.permute(nearest(pre2, PRECISION), (1, 0)), nearest(total_2, PRECISION), input_precision=PRECISION
    )
    scanned_2 = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    total_4 = tl.permute(
        tl.dot(
            tl.permute(nearest(d_read0 * scanned_2[:, None], PRECISION), (1, 0)), q, input_precision=PRECISION
        ),
        (1, 0),
    )
    direct_new = total_3 + total_4
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
    pre2 = made[2]
    pre4 = made[4]
    d_direct = later[0]
    d_S = flow[0]
    at_n = tl.arange(0, 64)
    total = tl.dot(
        nearest(pre4, PRECISION),
        tl.where(at_n[:, None] < 40, nearest(d_S, PRECISION), 0.0),
        input_precision=PRECISION,
    )
    total_2 = tl.dot(
        tl.permute(nearest(pre2, PRECISION), (1, 0)), nearest(total, PRECISION), input_precision=PRECISION
    )
    total_3 = total_2 + d_S * pre1
    total_4 = total_3 + d_S * pre0
    return (total_4 + d_direct,)


@triton.jit
def meet0(
    pointers,
    state,
    given,
    made,
    known,
    flow,
    shared,
    place,
    row,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """What several cotangents need, each value written at once."""
    S = state[0]
    alpha_in = given[0]
    k = given[2]
    q = given[4]
    alpha_in_2 = given[5]
    pre4 = made[4]
    d_read0 = known[0]
    d_S = flow[0]
    total = tl.dot(k.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    at_i_source = tl.arange(0, 32)
    at_i = tl.arange(0, 32)
    eq = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - 1.0)[:, None]
    total_2 = tl.sum(tl.where(eq, alpha_in[None, :], 0.0), 1)
    at_j = tl.arange(0, 32)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :] + 1,
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :] + 1, total_2[:, None], 1.0), 0),
        0.0,
    )
    product_2 = scanned * total
    product_3 = tl.permute(alpha_in_2[:, None] * product_2, (1, 0))
    total_3 = tl.dot(q.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    scanned_2 = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_4 = tl.permute(
        tl.dot(tl.permute(d_read0, (1, 0)), scanned_2 * total_3, input_precision=PRECISION), (1, 0)
    )
    total_5 = tl.dot(pre4, d_S, input_precision=PRECISION)
    total_6 = total_4 + total_5
    at_m = tile * TILE + tl.arange(0, TILE)
    total_7 = tl.permute(
        tl.dot(S, tl.permute(tl.where(at_m[None, :] < 100, total_6, 0.0), (1, 0)), input_precision=PRECISION),
        (1, 0),
    )
    inverse = inverse_upper(product_3, 32)
    common0 = tl.dot(inverse, total_7, input_precision=PRECISION)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[0] + (place * (tl.cdiv(100, TILE)) + tile) * 1280 + at_i[:, None] * 40 + at_n[None, :],
        common0,
        mask=at_n[None, :] < 40,
    )
    common1 = tl.dot(inverse, total_6, input_precision=PRECISION)
    tl.store(
        pointers[1] + place * 3200 + at_i[:, None] * 100 + at_m[None, :], common1, mask=at_m[None, :] < 100
    )
