"""The functions of the cotangents of what a stage reads, as they are written for `chunk.py`: of that in `stage.py`."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .linear import flags, running


@triton.jit
def store_gradients0(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `alpha`, given those of `alpha_in`."""
    at_i = tl.arange(0, 32)
    begins_2 = flags(inputs[0], batch * time + first + at_i, first + at_i < time)
    tl.store(
        pointers[0] + (tile * tokens + batch * time + first + at_i),
        values[0] * tl.where(begins_2 != 0.0, 0.0, 1.0),
        mask=first + at_i < time,
    )


@triton.jit
def store_gradients1(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `beta`."""
    at_i = tl.arange(0, 32)
    tl.store(pointers[0] + (tile * tokens + batch * time + first + at_i), values[0], mask=first + at_i < time)


@triton.jit
def store_gradients2(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `k`."""
    at_i = tl.arange(0, 32)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[0] + (tile * tokens + batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
    )


@triton.jit
def store_gradients3(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `v`."""
    at_i = tl.arange(0, 32)
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
    )


@triton.jit
def store_gradients4(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `q`."""
    at_i = tl.arange(0, 32)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[0] + (tile * tokens + batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
    )


@triton.jit
def store_gradients5(pointers, values, inputs, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of `alpha`, `beta`, given those of `alpha_in`."""
    at_i = tl.arange(0, 32)
    begins_2 = flags(inputs[0], batch * time + first + at_i, first + at_i < time)
    alpha = tl.load(inputs[1] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    alpha = alpha.to(tl.float32)
    beta = tl.load(inputs[2] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    beta = beta.to(tl.float32)
    masked = tl.where(begins_2 != 0.0, 0.0, 1.0)
    tl.store(
        pointers[0] + (tile * tokens + batch * time + first + at_i),
        -(values[0] * beta * masked),
        mask=first + at_i < time,
    )
    tl.store(
        pointers[1] + (tile * tokens + batch * time + first + at_i),
        -(values[0] * (masked * alpha)),
        mask=first + at_i < time,
    )


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
    k = given[2]
    q = given[4]
    alpha_in_2 = given[5]
    pre2 = made[2]
    pre3 = made[3]
    d_read0 = known[0]
    d_S = flow[0]
    common0 = shared[0]
    common1 = shared[1]
    total = tl.dot(pre2, S, input_precision=PRECISION)
    total_2 = pre3 + total
    at_m = tile * TILE + tl.arange(0, TILE)
    total_3 = tl.permute(
        tl.dot(
            d_S, tl.permute(tl.where(at_m[None, :] < 100, total_2, 0.0), (1, 0)), input_precision=PRECISION
        ),
        (1, 0),
    )
    at_n = tl.arange(0, 64)
    total_4 = tl.sum(tl.where(at_n[None, :] < 40, total_3 * k, 0.0), 1)
    at_i = tl.arange(0, 32)
    eq = at_i.to(tl.float32) == 31.0
    total_5 = tl.dot(q.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    total_6 = tl.dot(
        d_read0, tl.permute(tl.where(at_m[None, :] < 100, total_2, 0.0), (1, 0)), input_precision=PRECISION
    )
    product_2 = total_6 * total_5
    total_7 = product_2 + tl.where(eq[:, None], total_4[None, :], 0.0)
    total_8 = tl.dot(common0, tl.permute(pre2, (1, 0)), input_precision=PRECISION)
    total_9 = tl.dot(common1, tl.permute(pre3, (1, 0)), input_precision=PRECISION)
    total_10 = total_8 + total_9
    total_11 = tl.dot(k.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    product_3 = total_10 * alpha_in_2[:, None] * total_11
    at_i_source = tl.arange(0, 32)
    eq_2 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - -1.0)[:, None]
    total_12 = tl.dot(tl.where(eq_2, 1.0, 0.0), product_3, input_precision=PRECISION)
    total_13 = total_7 + total_12
    at_j = tl.arange(0, 32)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_14 = tl.dot(tl.permute(scanned, (1, 0)), total_13, input_precision=PRECISION)
    eq_3 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - 1.0)[:, None]
    total_15 = tl.sum(tl.where(eq_3, alpha_in[None, :], 0.0), 1)
    scanned_2 = tl.where(
        at_i[:, None] >= at_j[None, :] + 1,
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :] + 1, total_15[:, None], 1.0), 0),
        0.0,
    )
    total_16 = tl.sum(total_14 * scanned_2, 1)
    total_17 = tl.sum(tl.where(eq_2, alpha_in[None, :], 0.0), 1)
    eq_4 = at_i.to(tl.float32) == 0.0
    masked = tl.where(eq, running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False), 0.0)
    total_18 = tl.sum(masked, 0)
    gt = total_18 > 0.5
    total_19 = tl.sum(tl.sum(tl.where((at_n[:, None] < 40) & (at_m[None, :] < 100), d_S * S, 0.0), 1), 0)
    masked_2 = tl.where(gt, total_19, 0.0)
    masked_3 = tl.where(eq_3, running(alpha_in, 1.0 - alpha_in, 0, False)[None, :], 0.0)
    total_20 = tl.sum(masked_3, 1)
    product_4 = running(total_17, tl.where(eq, -masked_2, 0.0), 0, True) * total_20
    total_21 = total_16 + product_4
    difference = total_21 - running(total_17, tl.where(eq, -masked_2, 0.0), 0, True)
    total_22 = tl.dot(d_read0, tl.permute(S, (1, 0)), input_precision=PRECISION)
    total_23 = tl.sum(tl.where(at_n[None, :] < 40, total_22 * q, 0.0), 1)
    total_24 = tl.sum(tl.where(at_n[None, :] < 40, common0 * alpha_in_2[:, None] * k, 0.0), 1)
    total_25 = tl.sum(tl.where(eq_2, tl.where(eq_4, 0.0, total_24)[None, :], 0.0), 1)
    total_26 = total_23 + total_25
    masked_4 = tl.where(gt, 0.0, total_19)
    total_27 = total_26 + tl.where(eq, masked_4, 0.0)
    masked_5 = tl.where(eq_3, running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False)[None, :], 0.0)
    total_28 = tl.sum(masked_5, 1)
    product_5 = running(total_17, total_27, 0, True) * total_28
    total_29 = difference + product_5
    alpha_in_new = total_29 + tl.where(eq_4, running(total_17, total_27, 0, True), 0.0)
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
    """The cotangents of `beta` in a block."""
    v = given[3]
    common1 = shared[1]
    at_m = tile * TILE + tl.arange(0, TILE)
    beta_new = tl.sum(tl.where(at_m[None, :] < 100, common1 * v, 0.0), 1)
    return (beta_new,)


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
    """The cotangents of `k` in a block."""
    S = state[0]
    alpha_in = given[0]
    k = given[2]
    q = given[4]
    alpha_in_2 = given[5]
    pre2 = made[2]
    pre3 = made[3]
    d_read0 = known[0]
    d_S = flow[0]
    common0 = shared[0]
    common1 = shared[1]
    total = tl.dot(common0, tl.permute(pre2, (1, 0)), input_precision=PRECISION)
    total_2 = tl.dot(common1, tl.permute(pre3, (1, 0)), input_precision=PRECISION)
    total_3 = total + total_2
    at_i_source = tl.arange(0, 32)
    at_i = tl.arange(0, 32)
    eq = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - 1.0)[:, None]
    total_4 = tl.sum(tl.where(eq, alpha_in[None, :], 0.0), 1)
    at_j = tl.arange(0, 32)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :] + 1,
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :] + 1, total_4[:, None], 1.0), 0),
        0.0,
    )
    total_5 = tl.dot(total_3 * alpha_in_2[:, None] * scanned, k, input_precision=PRECISION)
    eq_2 = at_i.to(tl.float32) == 0.0
    masked = tl.where(eq, running(alpha_in, tl.where(eq_2, alpha_in, 0.0), 0, False)[None, :], 0.0)
    total_6 = tl.sum(masked, 1)
    product_2 = common0 * alpha_in_2[:, None] * tl.where(eq_2, 1.0, total_6)[:, None]
    total_7 = product_2 + total_5
    total_8 = tl.dot(pre2, S, input_precision=PRECISION)
    total_9 = pre3 + total_8
    at_m = tile * TILE + tl.arange(0, TILE)
    total_10 = tl.permute(
        tl.dot(
            d_S, tl.permute(tl.where(at_m[None, :] < 100, total_9, 0.0), (1, 0)), input_precision=PRECISION
        ),
        (1, 0),
    )
    eq_3 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) + 1.0)[:, None]
    total_11 = tl.sum(tl.where(eq_3, alpha_in[None, :], 0.0), 1)
    scanned_2 = running(total_11, tl.where(at_i.to(tl.float32) == 31.0, 1.0, 0.0), 0, True)
    product_3 = total_10 * scanned_2[:, None]
    total_12 = tl.dot(
        d_read0, tl.permute(tl.where(at_m[None, :] < 100, total_9, 0.0), (1, 0)), input_precision=PRECISION
    )
    scanned_3 = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_13 = tl.permute(
        tl.dot(tl.permute(q, (1, 0)), total_12 * scanned_3, input_precision=PRECISION), (1, 0)
    )
    total_14 = total_13 + product_3
    total_15 = tl.dot(
        tl.permute(total_3 * alpha_in_2[:, None] * scanned, (1, 0)), k, input_precision=PRECISION
    )
    total_16 = total_14 + total_15
    k_new = total_7 + total_16
    return (k_new,)


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
    """The cotangents of `v` in a block."""
    beta = given[1]
    common1 = shared[1]
    return (common1 * beta[:, None],)


@triton.jit
def gradients4(
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
    S = state[0]
    alpha_in = given[0]
    k = given[2]
    pre2 = made[2]
    pre3 = made[3]
    d_read0 = known[0]
    total = tl.dot(pre2, S, input_precision=PRECISION)
    at_m = tile * TILE + tl.arange(0, TILE)
    total_2 = tl.dot(
        d_read0,
        tl.permute(tl.where(at_m[None, :] < 100, pre3 + total, 0.0), (1, 0)),
        input_precision=PRECISION,
    )
    at_i = tl.arange(0, 32)
    at_j = tl.arange(0, 32)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_3 = tl.permute(
        tl.dot(tl.permute(k, (1, 0)), tl.permute(total_2 * scanned, (1, 0)), input_precision=PRECISION),
        (1, 0),
    )
    scanned_2 = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    total_4 = tl.dot(d_read0, tl.permute(S, (1, 0)), input_precision=PRECISION)
    product_2 = total_4 * scanned_2[:, None]
    q_new = total_3 + product_2
    return (q_new,)


@triton.jit
def gradients5(
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
    alpha_in = given[0]
    k = given[2]
    pre2 = made[2]
    pre3 = made[3]
    common0 = shared[0]
    common1 = shared[1]
    total = tl.dot(common0, tl.permute(pre2, (1, 0)), input_precision=PRECISION)
    total_2 = tl.dot(common1, tl.permute(pre3, (1, 0)), input_precision=PRECISION)
    total_3 = total + total_2
    total_4 = tl.dot(k.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    at_i_source = tl.arange(0, 32)
    at_i = tl.arange(0, 32)
    eq = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - 1.0)[:, None]
    total_5 = tl.sum(tl.where(eq, alpha_in[None, :], 0.0), 1)
    at_j = tl.arange(0, 32)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :] + 1,
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :] + 1, total_5[:, None], 1.0), 0),
        0.0,
    )
    total_6 = tl.sum(total_3 * scanned * total_4, 1)
    eq_2 = at_i.to(tl.float32) == 0.0
    masked = tl.where(eq, running(alpha_in, tl.where(eq_2, alpha_in, 0.0), 0, False)[None, :], 0.0)
    total_7 = tl.sum(masked, 1)
    at_n = tl.arange(0, 64)
    total_8 = tl.sum(
        tl.where(at_n[None, :] < 40, common0 * k * tl.where(eq_2, 1.0, total_7)[:, None], 0.0), 1
    )
    alpha_in_new = total_8 + total_6
    return (alpha_in_new,)
