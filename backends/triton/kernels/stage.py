"""The functions of a stage, as they are written for `chunk.py`: here of the gated delta rule.

With R = a·S, the state is S' = R - β (R k - v) ⊗ k, read by q. Where a sequence begins anew, a is 0.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .linear import flags, inverse_lower, nearest, running


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
    alpha = tl.load(pointers[1] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    alpha = alpha.to(tl.float32)
    beta = tl.load(pointers[2] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    beta = beta.to(tl.float32)
    at_n = tl.arange(0, 64)
    k = tl.load(
        pointers[3] + (batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
        other=0.0,
    )
    at_m = tile * TILE + tl.arange(0, TILE)
    v = tl.load(
        pointers[4] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
        other=0.0,
    )
    q = tl.load(
        pointers[5] + (batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
        other=0.0,
    )
    alpha_in = tl.where(begins_2 != 0.0, 0.0, 1.0) * alpha
    return (
        tl.where(first + at_i < time, alpha_in, 1.0),
        beta,
        k.to(tl.float32),
        v.to(tl.float32),
        q.to(tl.float32),
        tl.where(first + at_i < time, -(alpha_in * beta), 0.0),
    )


@triton.jit
def load_states(pointers, place, row, tile, TILE: tl.constexpr):
    """States."""
    at_n = tl.arange(0, 64)
    at_m = tile * TILE + tl.arange(0, TILE)
    S = tl.load(
        pointers[0] + place * 4000 + at_m[None, :] * 40 + at_n[:, None],
        mask=(at_n[:, None] < 40) & (at_m[None, :] < 100),
        other=0.0,
    )
    return (S.to(tl.float32),)


@triton.jit
def store_states(pointers, values, place, row, tile, TILE: tl.constexpr):
    """States."""
    at_n = tl.arange(0, 64)
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + place * 4000 + at_m[None, :] * 40 + at_n[:, None],
        values[0],
        mask=(at_n[:, None] < 40) & (at_m[None, :] < 100),
    )


@triton.jit
def load_made(pointers, place, row, tile, TILE: tl.constexpr):
    """What does not depend on the states."""
    pre0 = tl.load(pointers[0] + place)
    pre1 = tl.load(pointers[1] + place)
    at_n = tl.arange(0, 64)
    at_i = tl.arange(0, 32)
    pre2 = tl.load(
        pointers[2] + place * 1280 + at_i[:, None] * 40 + at_n[None, :], mask=at_n[None, :] < 40, other=0.0
    )
    at_m = tile * TILE + tl.arange(0, TILE)
    pre3 = tl.load(
        pointers[3] + place * 3200 + at_i[:, None] * 100 + at_m[None, :], mask=at_m[None, :] < 100, other=0.0
    )
    at_j = tl.arange(0, 32)
    pre4 = tl.load(
        pointers[4] + place * 1280 + at_j[:, None] * 40 + at_n[None, :], mask=at_n[None, :] < 40, other=0.0
    )
    return (
        pre0.to(tl.float32),
        pre1.to(tl.float32),
        pre2.to(tl.float32),
        pre3.to(tl.float32),
        pre4.to(tl.float32),
    )


@triton.jit
def store_made(pointers, values, place, row, tile, TILE: tl.constexpr):
    """What does not depend on the states."""
    tl.store(pointers[0] + place, values[0])
    tl.store(pointers[1] + place, values[1])
    at_n = tl.arange(0, 64)
    at_i = tl.arange(0, 32)
    tl.store(
        pointers[2] + place * 1280 + at_i[:, None] * 40 + at_n[None, :],
        values[2],
        mask=(at_i[:, None] + tile * 32 < 32) & (at_n[None, :] < 40),
    )
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[3] + place * 3200 + at_i[:, None] * 100 + at_m[None, :], values[3], mask=at_m[None, :] < 100
    )
    at_j = tl.arange(0, 32)
    tl.store(
        pointers[4] + place * 1280 + at_j[:, None] * 40 + at_n[None, :],
        values[4],
        mask=(at_j[:, None] + tile * 32 < 32) & (at_n[None, :] < 40),
    )


@triton.jit
def store_outputs(pointers, values, batch, first, time, row, tile, TILE: tl.constexpr):
    """The results of a block."""
    at_i = tl.arange(0, 32)
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
    )


@triton.jit
def before(
    given, tile, TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):
    """What does not depend on the states."""
    alpha_in = given[0]
    beta = given[1]
    k = given[2]
    v = given[3]
    alpha_in_2 = given[5]
    at_i = tl.arange(0, 32)
    eq = at_i.to(tl.float32) == 0.0
    eq_2 = at_i.to(tl.float32) == 31.0
    masked = tl.where(eq_2, running(alpha_in, tl.where(eq, alpha_in, 0.0), 0, False), 0.0)
    total = tl.sum(masked, 0)
    gt = total > 0.5
    masked_2 = tl.where(eq_2, running(alpha_in, 1.0 - alpha_in, 0, False), 0.0)
    total_2 = tl.sum(masked_2, 0)
    pre1_new = tl.where(gt, -total_2, total)
    total_3 = tl.dot(k.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    at_i_source = tl.arange(0, 32)
    eq_3 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - 1.0)[:, None]
    total_4 = tl.sum(tl.where(eq_3, alpha_in[None, :], 0.0), 1)
    at_j = tl.arange(0, 32)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :] + 1,
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :] + 1, total_4[:, None], 1.0), 0),
        0.0,
    )
    product_2 = scanned * total_3
    product_3 = alpha_in_2[:, None] * product_2
    masked_3 = tl.where(eq_3, running(alpha_in, tl.where(eq, alpha_in, 0.0), 0, False)[None, :], 0.0)
    total_5 = tl.sum(masked_3, 1)
    product_4 = alpha_in_2[:, None] * (k * tl.where(eq, 1.0, total_5)[:, None])
    inverse = inverse_lower(product_3, 32)
    pre2_new = tl.dot(nearest(inverse, PRECISION), nearest(product_4, PRECISION), input_precision=PRECISION)
    pre3_new = tl.dot(
        nearest(inverse, PRECISION), nearest(beta[:, None] * v, PRECISION), input_precision=PRECISION
    )
    eq_4 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) + 1.0)[:, None]
    total_6 = tl.sum(tl.where(eq_4, alpha_in[None, :], 0.0), 1)
    pre4_new = running(total_6, tl.where(eq_2, 1.0, 0.0), 0, True)[:, None] * k
    return (tl.where(gt, 1.0, 0.0), pre1_new, pre2_new, pre3_new, pre4_new)


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
    S = state[0]
    pre0 = made[0]
    pre1 = made[1]
    pre2 = made[2]
    pre3 = made[3]
    pre4 = made[4]
    total = pre0 * S + pre1 * S
    at_n = tl.arange(0, 64)
    total_2 = tl.dot(
        nearest(pre2, PRECISION),
        tl.where(at_n[:, None] < 40, nearest(S, PRECISION), 0.0),
        input_precision=PRECISION,
    )
    total_3 = tl.dot(
        tl.permute(nearest(pre4, PRECISION), (1, 0)),
        nearest(pre3 + total_2, PRECISION),
        input_precision=PRECISION,
    )
    S_new = total + total_3
    return (S_new,)


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
    S = state[0]
    alpha_in = given[0]
    k = given[2]
    q = given[4]
    pre2 = made[2]
    pre3 = made[3]
    total = tl.dot(q.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    total_2 = tl.dot(pre2, S, input_precision=PRECISION)
    at_i = tl.arange(0, 32)
    at_j = tl.arange(0, 32)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_3 = tl.dot(scanned * total, pre3 + total_2, input_precision=PRECISION)
    scanned_2 = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    at_n = tl.arange(0, 64)
    total_4 = tl.dot(tl.where(at_n[None, :] < 40, q * scanned_2[:, None], 0.0), S, input_precision=PRECISION)
    read0_new = total_4 + total_3
    return (read0_new,)
