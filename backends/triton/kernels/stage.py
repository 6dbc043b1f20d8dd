"""The functions of a stage, as they are written for `chunk.py`: here S' = a·S + k ⊗ v, read by q."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic

import triton
import triton.language as tl

from .linear import running


@triton.jit
def locate(program, TILE: tl.constexpr):
    """The batch, the row and the tile of a program."""
    tiles = tl.cdiv(100, TILE)
    return program // (1 * tiles), program // tiles % 1, program % tiles


@triton.jit
def load_inputs(pointers, batch, first, time, row, tile, TILE: tl.constexpr):
    """The inputs of a block."""
    at_i = tl.arange(0, 64)
    alpha_in = tl.load(pointers[0] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    at_n = tl.arange(0, 64)
    k = tl.load(
        pointers[1] + (batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
        other=0.0,
    )
    at_m = tile * TILE + tl.arange(0, TILE)
    v = tl.load(
        pointers[2] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
        other=0.0,
    )
    q = tl.load(
        pointers[3] + (batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
        other=0.0,
    )
    return (
        tl.where(first + at_i < time, alpha_in.to(tl.float32), 1.0),
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
def store_gradients(pointers, values, batch, first, tokens, time, row, tile, TILE: tl.constexpr):
    """The cotangents of inputs."""
    at_i = tl.arange(0, 64)
    tl.store(pointers[0] + (tile * tokens + batch * time + first + at_i), values[0], mask=first + at_i < time)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[1] + (tile * tokens + batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        values[1],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
    )
    at_m = tile * TILE + tl.arange(0, TILE)
    tl.store(
        pointers[2] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[2],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
    )
    tl.store(
        pointers[3] + (tile * tokens + batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        values[3],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
    )


@triton.jit
def update(state, given, tile, TILE: tl.constexpr, PRECISION: tl.constexpr):
    """The states after a block."""
    S = state[0]
    alpha_in = given[0]
    k = given[1]
    v = given[2]
    at_i = tl.arange(0, 64)
    eq = at_i.to(tl.float32) == 63.0
    scanned = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    total = tl.sum(tl.where(eq, scanned, 0.0), 0)
    gt = total > 0.5
    masked = tl.where(eq, running(alpha_in, 1.0 - alpha_in, 0, False), 0.0)
    total_2 = tl.sum(masked, 0)
    total_3 = tl.where(gt, 1.0, 0.0) * S + tl.where(gt, -total_2, total) * S
    at_i_source = tl.arange(0, 64)
    eq_2 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) + 1.0)[:, None]
    total_4 = tl.sum(tl.where(eq_2, alpha_in[None, :], 0.0), 1)
    total_5 = tl.permute(
        tl.dot(
            tl.permute(v * running(total_4, tl.where(eq, 1.0, 0.0), 0, True)[:, None], (1, 0)),
            k,
            input_precision=PRECISION,
        ),
        (1, 0),
    )
    return (total_3 + total_5,)


@triton.jit
def reads(state, given, tile, TILE: tl.constexpr, PRECISION: tl.constexpr):
    """The results of a block."""
    S = state[0]
    alpha_in = given[0]
    k = given[1]
    v = given[2]
    q = given[3]
    at_i = tl.arange(0, 64)
    scanned = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    at_n = tl.arange(0, 64)
    total = tl.dot(
        tl.where(at_n[None, :] < 40, q * scanned[:, None], 0.0),
        tl.where(at_n[:, None] < 40, S, 0.0),
        input_precision=PRECISION,
    )
    at_j = tl.arange(0, 64)
    masked = tl.where(at_i.to(tl.float32)[:, None] == at_j.to(tl.float32)[None, :], 1.0, 0.0)
    scanned_2 = running(alpha_in[:, None] + tl.full((64, 64), 0.0, tl.float32), masked, 0, False)
    total_2 = tl.dot(
        tl.where(at_n[None, :] < 40, q, 0.0),
        tl.permute(tl.where(at_n[None, :] < 40, k, 0.0), (1, 0)),
        input_precision=PRECISION,
    )
    total_3 = tl.dot(scanned_2 * total_2, v, input_precision=PRECISION)
    return (total + total_3,)


@triton.jit
def back(state, given, known, flow, tile, TILE: tl.constexpr, PRECISION: tl.constexpr):
    """The cotangents of the states before a block."""
    alpha_in = given[0]
    q = given[3]
    d_read0 = known[0]
    d_S = flow[0]
    at_i = tl.arange(0, 64)
    eq = at_i.to(tl.float32) == 63.0
    scanned = running(alpha_in, tl.where(at_i.to(tl.float32) == 0.0, alpha_in, 0.0), 0, False)
    total = tl.sum(tl.where(eq, scanned, 0.0), 0)
    gt = total > 0.5
    masked = tl.where(eq, running(alpha_in, 1.0 - alpha_in, 0, False), 0.0)
    total_2 = tl.sum(masked, 0)
    total_3 = d_S * tl.where(gt, -total_2, total) + d_S * tl.where(gt, 1.0, 0.0)
    total_4 = tl.permute(
        tl.dot(tl.permute(d_read0 * scanned[:, None], (1, 0)), q, input_precision=PRECISION), (1, 0)
    )
    return (total_3 + total_4,)


@triton.jit
def gradients(state, given, known, flow, tile, TILE: tl.constexpr, PRECISION: tl.constexpr):
    """The cotangents of the inputs of a block."""
    S = state[0]
    alpha_in = given[0]
    k = given[1]
    v = given[2]
    q = given[3]
    d_read0 = known[0]
    d_S = flow[0]
    at_i_source = tl.arange(0, 64)
    at_i = tl.arange(0, 64)
    eq = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - -1.0)[:, None]
    total = tl.sum(tl.where(eq, alpha_in[None, :], 0.0), 1)
    at_m = tile * TILE + tl.arange(0, TILE)
    total_2 = tl.dot(
        tl.where(at_m[None, :] < 100, d_read0, 0.0),
        tl.permute(tl.where(at_m[None, :] < 100, v, 0.0), (1, 0)),
        input_precision=PRECISION,
    )
    at_n = tl.arange(0, 64)
    total_3 = tl.dot(
        tl.where(at_n[None, :] < 40, q, 0.0),
        tl.permute(tl.where(at_n[None, :] < 40, k, 0.0), (1, 0)),
        input_precision=PRECISION,
    )
    eq_2 = at_i.to(tl.float32) == 63.0
    total_4 = tl.dot(
        tl.where(at_m[None, :] < 100, v, 0.0),
        tl.permute(tl.where(at_m[None, :] < 100, d_S, 0.0), (1, 0)),
        input_precision=PRECISION,
    )
    total_5 = tl.sum(tl.where(at_n[None, :] < 40, total_4 * k, 0.0), 1)
    total_6 = total_2 * total_3 + tl.where(eq_2[:, None], total_5[None, :], 0.0)
    scanned = running(total[:, None] + tl.full((64, 64), 0.0, tl.float32), total_6, 0, True)
    eq_3 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) - 1.0)[:, None]
    at_j = tl.arange(0, 64)
    masked = tl.where(at_i.to(tl.float32)[:, None] == at_j.to(tl.float32)[None, :], 1.0, 0.0)
    scanned_2 = running(alpha_in[:, None] + tl.full((64, 64), 0.0, tl.float32), masked, 0, False)
    total_7 = tl.dot(tl.where(eq_3, 1.0, 0.0), scanned_2, input_precision=PRECISION)
    total_8 = tl.sum(scanned * total_7, 1)
    eq_4 = at_i.to(tl.float32) == 0.0
    masked_2 = tl.where(eq_2, running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False), 0.0)
    total_9 = tl.sum(masked_2, 0)
    gt = total_9 > 0.5
    total_10 = tl.sum(tl.sum(tl.where((at_n[:, None] < 40) & (at_m[None, :] < 100), d_S * S, 0.0), 1), 0)
    scanned_3 = running(total, tl.where(eq_2, -tl.where(gt, total_10, 0.0), 0.0), 0, True)
    masked_3 = tl.where(eq_3, running(alpha_in, 1.0 - alpha_in, 0, False)[None, :], 0.0)
    total_11 = tl.sum(masked_3, 1)
    total_12 = tl.dot(
        tl.where(at_m[None, :] < 100, d_read0, 0.0),
        tl.permute(tl.where(at_m[None, :] < 100, S, 0.0), (1, 0)),
        input_precision=PRECISION,
    )
    total_13 = tl.sum(tl.where(at_n[None, :] < 40, total_12 * q, 0.0), 1)
    scanned_4 = running(total, total_13 + tl.where(eq_2, tl.where(gt, 0.0, total_10), 0.0), 0, True)
    masked_4 = tl.where(eq_3, running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False)[None, :], 0.0)
    total_14 = tl.sum(masked_4, 1)
    total_15 = total_8 + scanned_3 * total_11 - scanned_3 + scanned_4 * total_14
    total_16 = tl.dot(tl.permute(total_2 * scanned_2, (1, 0)), q, input_precision=PRECISION)
    eq_5 = at_i_source.to(tl.float32)[None, :] == (at_i.to(tl.float32) + 1.0)[:, None]
    total_17 = tl.sum(tl.where(eq_5, alpha_in[None, :], 0.0), 1)
    scanned_5 = running(total_17, tl.where(eq_2, 1.0, 0.0), 0, True)
    total_18 = tl.dot(tl.permute(scanned_2 * total_3, (1, 0)), d_read0, input_precision=PRECISION)
    total_19 = tl.dot(
        tl.where(at_n[None, :] < 40, scanned_5[:, None] * k, 0.0),
        tl.where(at_n[:, None] < 40, d_S, 0.0),
        input_precision=PRECISION,
    )
    total_20 = tl.dot(total_2 * scanned_2, k, input_precision=PRECISION)
    product = total_12 * running(alpha_in, tl.where(eq_4, alpha_in, 0.0), 0, False)[:, None]
    return (
        total_15 + tl.where(eq_4, scanned_4, 0.0),
        total_16 + total_4 * scanned_5[:, None],
        total_18 + total_19,
        total_20 + product,
    )
