"""The functions of the way back of a stage, as they are written for `chunk.py`: of that in `stage.py`."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .linear import flags, running


@triton.jit
def load_cotangents(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The cotangents of results."""
    at_i = tl.arange(0, 64)
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
    at_j = tl.arange(0, 64)
    at_i = tl.arange(0, 64)
    common0 = tl.load(
        pointers[0] + (place * (tl.cdiv(100, TILE)) + tile) * 4096 + at_i[:, None] * 64 + at_j[None, :]
    )
    common1 = tl.load(pointers[1] + place * 4096 + at_i[:, None] * 64 + at_j[None, :])
    at_n = tl.arange(0, 64)
    common2 = tl.load(
        pointers[2] + (place * (tl.cdiv(100, TILE)) + tile) * 2560 + at_j[:, None] * 40 + at_n[None, :],
        mask=at_n[None, :] < 40,
        other=0.0,
    )
    common3 = tl.load(
        pointers[3] + (place * (tl.cdiv(100, TILE)) + tile) * 2560 + at_i[:, None] * 40 + at_n[None, :],
        mask=at_n[None, :] < 40,
        other=0.0,
    )
    common4 = tl.load(pointers[4] + place * 64 + at_j)
    return (
        common0.to(tl.float32),
        common1.to(tl.float32),
        common2.to(tl.float32),
        common3.to(tl.float32),
        common4.to(tl.float32),
    )


@triton.jit
def store_gradients0(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `alpha`, given those of `alpha_in`."""
    at_i = tl.arange(0, 64)
    begins_2 = flags(inputs[0], batch * time + first + at_i, first + at_i < time)
    tl.store(
        pointers[0] + (tile * tokens + batch * time + first + at_i),
        values[0] * tl.where(begins_2 != 0.0, 0.0, 1.0),
        mask=first + at_i < time,
    )


@triton.jit
def store_gradients1(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `k`."""
    at_i = tl.arange(0, 64)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[0] + (tile * tokens + batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
    )


@triton.jit
def store_gradients2(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `v`."""
    at_i = tl.arange(0, 64)
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
    )


@triton.jit
def store_gradients3(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `q`."""
    at_i = tl.arange(0, 64)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[0] + (tile * tokens + batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
    )


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
    q = given[3]
    d_read0 = known[0]
    at_i = tl.arange(0, 64)
    scanned = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    direct_new = tl.permute(
        tl.dot(
            tl.permute((d_read0 * scanned[:, None]).to(ROUNDED), (1, 0)),
            q.to(ROUNDED),
            input_precision=PRECISION,
        ),
        (1, 0),
    )
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
    d_S = flow[0]
    total = d_S * pre1 + d_S * pre0
    return (total + d_direct,)


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
    k = given[1]
    v = given[2]
    q = given[3]
    d_read0 = known[0]
    d_S = flow[0]
    common0 = tl.dot(d_read0.to(ROUNDED), tl.permute(v.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    at_j = tl.arange(0, 64)
    at_i = tl.arange(0, 64)
    tl.store(
        pointers[0] + (place * (tl.cdiv(100, TILE)) + tile) * 4096 + at_i[:, None] * 64 + at_j[None, :],
        common0,
    )
    common1 = tl.dot(q.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    tl.store(
        pointers[1] + place * 4096 + at_i[:, None] * 64 + at_j[None, :],
        common1,
        mask=at_i[:, None] + tile * 64 < 64,
    )
    common2 = tl.dot(v.to(ROUNDED), tl.permute(d_S.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[2] + (place * (tl.cdiv(100, TILE)) + tile) * 2560 + at_j[:, None] * 40 + at_n[None, :],
        common2,
        mask=at_n[None, :] < 40,
    )
    common3 = tl.dot(d_read0.to(ROUNDED), tl.permute(S.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    tl.store(
        pointers[3] + (place * (tl.cdiv(100, TILE)) + tile) * 2560 + at_i[:, None] * 40 + at_n[None, :],
        common3,
        mask=at_n[None, :] < 40,
    )
    at_i_source = tl.arange(0, 64)
    eq = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) + 1.0)[:, None]
    total = tl.sum(tl.where(eq, alpha_in[None, :], 0.0), 1)
    scanned = running(total, tl.where(at_i.to(tl.float32) == 63.0, 1.0, 0.0), 0, True)
    tl.store(pointers[4] + place * 64 + at_j, scanned, mask=at_j + tile * 64 < 64)


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
    """The cotangents of `alpha_in` in a block."""
    S = state[0]
    alpha_in = given[0]
    k = given[1]
    q = given[3]
    d_S = flow[0]
    common0 = shared[0]
    common1 = shared[1]
    common2 = shared[2]
    common3 = shared[3]
    at_n = tl.arange(0, 64)
    total = tl.sum(tl.where(at_n[None, :] < 40, common2 * k, 0.0), 1)
    at_i = tl.arange(0, 64)
    eq = at_i.to(tl.float32) == 63.0
    total_2 = common0 * common1 + tl.where(eq[:, None], total[None, :], 0.0)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_3 = tl.dot(tl.permute(scanned, (1, 0)).to(ROUNDED), total_2.to(ROUNDED), input_precision=PRECISION)
    at_i_source = tl.arange(0, 64)
    eq_2 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - 1.0)[:, None]
    total_4 = tl.sum(tl.where(eq_2, alpha_in[None, :], 0.0), 1)
    scanned_2 = tl.where(
        at_i[:, None] >= at_j[None, :] + 1,
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :] + 1, total_4[:, None], 1.0), 0),
        0.0,
    )
    total_5 = tl.sum(total_3 * scanned_2, 1)
    eq_3 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - -1.0)[:, None]
    total_6 = tl.sum(tl.where(eq_3, alpha_in[None, :], 0.0), 1)
    eq_4 = at_i.to(tl.float32) == 0.0
    masked = tl.where(eq, running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False), 0.0)
    total_7 = tl.sum(masked, 0)
    gt = total_7 > 0.5
    at_m = tile * TILE + tl.arange(0, TILE)
    total_8 = tl.sum(tl.sum(tl.where((at_n[:, None] < 40) & (at_m[None, :] < 100), d_S * S, 0.0), 1), 0)
    masked_2 = tl.where(gt, total_8, 0.0)
    masked_3 = tl.where(eq_2, running(alpha_in, 1.0 - alpha_in, 0, False)[None, :], 0.0)
    total_9 = tl.sum(masked_3, 1)
    product = running(total_6, tl.where(eq, -masked_2, 0.0), 0, True) * total_9
    total_10 = total_5 + product
    difference = total_10 - running(total_6, tl.where(eq, -masked_2, 0.0), 0, True)
    masked_4 = tl.where(gt, 0.0, total_8)
    total_11 = tl.sum(tl.where(at_n[None, :] < 40, common3 * q, 0.0), 1)
    total_12 = total_11 + tl.where(eq, masked_4, 0.0)
    masked_5 = tl.where(eq_2, running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False)[None, :], 0.0)
    total_13 = tl.sum(masked_5, 1)
    product_2 = running(total_6, total_12, 0, True) * total_13
    total_14 = difference + product_2
    alpha_in_new = total_14 + tl.where(eq_4, running(total_6, total_12, 0, True), 0.0)
    return (alpha_in_new,)


@triton.jit
def gradients1(
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
    """The cotangents of `k` in a block."""
    alpha_in = given[0]
    q = given[3]
    common0 = shared[0]
    common2 = shared[2]
    common4 = shared[4]
    at_i = tl.arange(0, 64)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total = tl.dot(
        tl.permute((common0 * scanned).to(ROUNDED), (1, 0)), q.to(ROUNDED), input_precision=PRECISION
    )
    total_2 = total + common2 * common4[:, None]
    return (total_2,)


@triton.jit
def gradients2(
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
    """The cotangents of `v` in a block."""
    alpha_in = given[0]
    k = given[1]
    d_read0 = known[0]
    d_S = flow[0]
    common1 = shared[1]
    common4 = shared[4]
    at_i = tl.arange(0, 64)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total = tl.dot(
        tl.permute((scanned * common1).to(ROUNDED), (1, 0)), d_read0.to(ROUNDED), input_precision=PRECISION
    )
    at_n = tl.arange(0, 64)
    total_2 = tl.dot(
        tl.where(at_n[None, :] < 40, (common4[:, None] * k).to(ROUNDED), 0.0),
        d_S.to(ROUNDED),
        input_precision=PRECISION,
    )
    total_3 = total + total_2
    return (total_3,)


@triton.jit
def gradients3(
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
    """The cotangents of `q` in a block."""
    alpha_in = given[0]
    k = given[1]
    common0 = shared[0]
    common3 = shared[3]
    at_i = tl.arange(0, 64)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total = tl.dot((common0 * scanned).to(ROUNDED), k.to(ROUNDED), input_precision=PRECISION)
    scanned_2 = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    q_new = total + common3 * scanned_2[:, None]
    return (q_new,)
