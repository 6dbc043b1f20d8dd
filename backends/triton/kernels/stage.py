"""The functions of a stage, as they are written for `chunk.py`: here S' = a·S + k ⊗ v, read by q.

Where a sequence begins anew, a is 0.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .linear import flags, running


@triton.jit
def locate(program, TILE: tl.constexpr):
    """The batch, the row and the tile of a program."""
    tiles = tl.cdiv(100, TILE)
    return program // (1 * tiles), program // tiles % 1, program % tiles


@triton.jit
def load_inputs(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The inputs of a block."""
    at_i = tl.arange(0, 64)
    begins_2 = flags(pointers[0], batch * time + first + at_i, first + at_i < time)
    alpha = tl.load(pointers[1] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    alpha = alpha.to(tl.float32)
    at_n = tl.arange(0, 64)
    k = tl.load(
        pointers[2] + (batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
        other=0.0,
    )
    at_m = tile * TILE + tl.arange(0, TILE)
    v = tl.load(
        pointers[3] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
        other=0.0,
    )
    q = tl.load(
        pointers[4] + (batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
        other=0.0,
    )
    return (
        tl.where(first + at_i < time, tl.where(begins_2 != 0.0, 0.0, 1.0) * alpha, 1.0),
        k.to(tl.float32),
        v.to(tl.float32),
        q.to(tl.float32),
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
    at_m = tile * TILE + tl.arange(0, TILE)
    pre2 = tl.load(
        pointers[2] + place * 4000 + at_m[None, :] * 40 + at_n[:, None],
        mask=(at_n[:, None] < 40) & (at_m[None, :] < 100),
        other=0.0,
    )
    return (pre0.to(tl.float32), pre1.to(tl.float32), pre2.to(tl.float32))


@triton.jit
def store_made(pointers, values, place, row, tile, TILE: tl.constexpr):
    """What does not depend on the states."""
    tl.store(pointers[0] + place, values[0])
    tl.store(pointers[1] + place, values[1])
    at_n = tl.arange(0, 64)
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[2] + place * 4000 + at_m[None, :] * 40 + at_n[:, None],
        values[2],
        mask=(at_n[:, None] < 40) & (at_m[None, :] < 100),
    )


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
def store_outputs(pointers, values, batch, first, time, row, tile, TILE: tl.constexpr):
    """The results of a block."""
    at_i = tl.arange(0, 64)
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
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
def before(
    given, tile, TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):
    """What does not depend on the states."""
    alpha_in = given[0]
    k = given[1]
    v = given[2]
    at_i = tl.arange(0, 64)
    scanned = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    eq = at_i.to(tl.float32) == 63.0
    total = tl.sum(tl.where(eq, scanned, 0.0), 0)
    gt = total > 0.5
    masked = tl.where(eq, running(alpha_in, 1.0 - alpha_in, 0, False), 0.0)
    total_2 = tl.sum(masked, 0)
    pre1_new = tl.where(gt, -total_2, total)
    at_i_source = tl.arange(0, 64)
    eq_2 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) + 1.0)[:, None]
    total_3 = tl.sum(tl.where(eq_2, alpha_in[None, :], 0.0), 1)
    pre2_new = tl.permute(
        tl.dot(
            tl.permute((v * running(total_3, tl.where(eq, 1.0, 0.0), 0, True)[:, None]).to(ROUNDED), (1, 0)),
            k.to(ROUNDED),
            input_precision=PRECISION,
        ),
        (1, 0),
    )
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
    S = state[0]
    pre0 = made[0]
    pre1 = made[1]
    pre2 = made[2]
    total = pre0 * S + pre1 * S
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
    S = state[0]
    alpha_in = given[0]
    k = given[1]
    v = given[2]
    q = given[3]
    total = tl.dot(q.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    at_i = tl.arange(0, 64)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_2 = tl.permute(
        tl.dot(
            tl.permute(v.to(ROUNDED), (1, 0)),
            tl.permute((scanned * total).to(ROUNDED), (1, 0)),
            input_precision=PRECISION,
        ),
        (1, 0),
    )
    scanned_2 = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    at_n = tl.arange(0, 64)
    total_3 = tl.dot(
        tl.where(at_n[None, :] < 40, (q * scanned_2[:, None]).to(ROUNDED), 0.0),
        S.to(ROUNDED),
        input_precision=PRECISION,
    )
    read0_new = total_3 + total_2
    return (read0_new,)


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
def gradients0(
    state,
    given,
    made,
    known,
    flow,
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
    v = given[2]
    q = given[3]
    d_read0 = known[0]
    d_S = flow[0]
    total = tl.dot(q.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    total_2 = tl.dot(d_read0.to(ROUNDED), tl.permute(v.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    product = total_2 * total
    total_3 = tl.dot(v.to(ROUNDED), tl.permute(d_S.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    at_n = tl.arange(0, 64)
    total_4 = tl.sum(tl.where(at_n[None, :] < 40, total_3 * k, 0.0), 1)
    at_i = tl.arange(0, 64)
    eq = at_i.to(tl.float32) == 63.0
    total_5 = product + tl.where(eq[:, None], total_4[None, :], 0.0)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_6 = tl.dot(tl.permute(scanned, (1, 0)).to(ROUNDED), total_5.to(ROUNDED), input_precision=PRECISION)
    at_i_source = tl.arange(0, 64)
    eq_2 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - 1.0)[:, None]
    total_7 = tl.dot(tl.where(eq_2, 1.0, 0.0), scanned, input_precision=PRECISION)
    total_8 = tl.sum(total_6 * total_7, 1)
    eq_3 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - -1.0)[:, None]
    total_9 = tl.sum(tl.where(eq_3, alpha_in[None, :], 0.0), 1)
    eq_4 = at_i.to(tl.float32) == 0.0
    masked = tl.where(eq, running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False), 0.0)
    total_10 = tl.sum(masked, 0)
    gt = total_10 > 0.5
    at_m = tile * TILE + tl.arange(0, TILE)
    total_11 = tl.sum(tl.sum(tl.where((at_n[:, None] < 40) & (at_m[None, :] < 100), d_S * S, 0.0), 1), 0)
    masked_2 = tl.where(gt, total_11, 0.0)
    masked_3 = tl.where(eq_2, running(alpha_in, 1.0 - alpha_in, 0, False)[None, :], 0.0)
    total_12 = tl.sum(masked_3, 1)
    product_2 = running(total_9, tl.where(eq, -masked_2, 0.0), 0, True) * total_12
    total_13 = total_8 + product_2
    difference = total_13 - running(total_9, tl.where(eq, -masked_2, 0.0), 0, True)
    total_14 = tl.dot(d_read0.to(ROUNDED), tl.permute(S.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    total_15 = tl.sum(tl.where(at_n[None, :] < 40, total_14 * q, 0.0), 1)
    masked_4 = tl.where(gt, 0.0, total_11)
    total_16 = total_15 + tl.where(eq, masked_4, 0.0)
    masked_5 = tl.where(eq_2, running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False)[None, :], 0.0)
    total_17 = tl.sum(masked_5, 1)
    product_3 = running(total_9, total_16, 0, True) * total_17
    total_18 = difference + product_3
    alpha_in_new = total_18 + tl.where(eq_4, running(total_9, total_16, 0, True), 0.0)
    return (alpha_in_new,)


@triton.jit
def gradients1(
    state,
    given,
    made,
    known,
    flow,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of `k` in a block."""
    alpha_in = given[0]
    v = given[2]
    q = given[3]
    d_read0 = known[0]
    d_S = flow[0]
    total = tl.dot(d_read0.to(ROUNDED), tl.permute(v.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    at_i = tl.arange(0, 64)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_2 = tl.permute(
        tl.dot(tl.permute(q.to(ROUNDED), (1, 0)), (total * scanned).to(ROUNDED), input_precision=PRECISION),
        (1, 0),
    )
    at_i_source = tl.arange(0, 64)
    eq = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) + 1.0)[:, None]
    total_3 = tl.sum(tl.where(eq, alpha_in[None, :], 0.0), 1)
    scanned_2 = running(total_3, tl.where(at_i.to(tl.float32) == 63.0, 1.0, 0.0), 0, True)
    total_4 = tl.dot(v.to(ROUNDED), tl.permute(d_S.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    product = total_4 * scanned_2[:, None]
    total_5 = total_2 + product
    return (total_5,)


@triton.jit
def gradients2(
    state,
    given,
    made,
    known,
    flow,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of `v` in a block."""
    alpha_in = given[0]
    k = given[1]
    q = given[3]
    d_read0 = known[0]
    d_S = flow[0]
    total = tl.dot(q.to(GIVEN), tl.permute(k.to(GIVEN), (1, 0)), input_precision=PRECISION)
    at_i = tl.arange(0, 64)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_2 = tl.permute(
        tl.dot(
            tl.permute(d_read0.to(ROUNDED), (1, 0)), (scanned * total).to(ROUNDED), input_precision=PRECISION
        ),
        (1, 0),
    )
    at_i_source = tl.arange(0, 64)
    eq = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) + 1.0)[:, None]
    total_3 = tl.sum(tl.where(eq, alpha_in[None, :], 0.0), 1)
    scanned_2 = running(total_3, tl.where(at_i.to(tl.float32) == 63.0, 1.0, 0.0), 0, True)
    at_n = tl.arange(0, 64)
    total_4 = tl.dot(
        tl.where(at_n[None, :] < 40, (scanned_2[:, None] * k).to(ROUNDED), 0.0),
        d_S.to(ROUNDED),
        input_precision=PRECISION,
    )
    total_5 = total_2 + total_4
    return (total_5,)


@triton.jit
def gradients3(
    state,
    given,
    made,
    known,
    flow,
    tile,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of `q` in a block."""
    S = state[0]
    alpha_in = given[0]
    k = given[1]
    v = given[2]
    d_read0 = known[0]
    total = tl.dot(d_read0.to(ROUNDED), tl.permute(v.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    at_i = tl.arange(0, 64)
    at_j = tl.arange(0, 64)
    scanned = tl.where(
        at_i[:, None] >= at_j[None, :],
        tl.cumprod(tl.where(at_i[:, None] > at_j[None, :], alpha_in[:, None], 1.0), 0),
        0.0,
    )
    total_2 = tl.permute(
        tl.dot(
            tl.permute(k.to(ROUNDED), (1, 0)),
            tl.permute((total * scanned).to(ROUNDED), (1, 0)),
            input_precision=PRECISION,
        ),
        (1, 0),
    )
    scanned_2 = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    total_3 = tl.dot(d_read0.to(ROUNDED), tl.permute(S.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    product = total_3 * scanned_2[:, None]
    q_new = total_2 + product
    return (q_new,)


@triton.jit
def prepare(
    inputs,
    made,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """What does not depend on the states, [batch, blocks, …]."""
    blocks = (time + BLOCK - 1) // BLOCK
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    batch, row, tile = locate(program // blocks, TILE)
    given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
    store_made(
        made, before(given, tile, TILE, PRECISION, GIVEN, ROUNDED), batch * blocks + block, row, tile, TILE
    )
