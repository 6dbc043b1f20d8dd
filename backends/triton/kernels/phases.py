"""The functions of a stage, as they are written for `stream.py`: here a long matrix, held for 16 tokens."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# ruff: noqa: SIM300
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def locate(program, TILE: tl.constexpr):
    """The batch, the row and the tile of a program."""
    tiles = 1
    return program // (1 * tiles), program // tiles % 1, program % tiles


@triton.jit
def before(
    inputs, made, scratch, zero, slot, batch, first, place, tokens, time, row,
    TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):  # fmt: skip
    """What does not depend on the states."""
    origin = tl.multiple_of(tl.load(zero, volatile=True), 16)
    at_i = origin + tl.arange(0, 16)
    valid = tl.load(inputs[3] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    top = tl.max(valid, 0)
    tl.store(made[0] + place, tl.where(top > 0.0, 1.0, 0.0))
    origin_2 = tl.multiple_of(tl.load(zero, volatile=True), 16)
    at_i_2 = origin_2 + tl.arange(0, 16)
    reset_ = tl.load(inputs[4] + (batch * time + first + at_i_2), mask=first + at_i_2 < time, other=0.0)
    total = tl.sum(tl.where(at_i_2.to(tl.float32) == 0.0, reset_, 0.0), 0)
    tl.store(made[1] + place, tl.where(total > 0.0, 1.0, 0.0))
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        origin_3 = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_i_3 = origin_3 + tl.arange(0, 16)
        at_n = origin_3 + tile * TILE + tl.arange(0, TILE)
        k = tl.load(
            inputs[0] + (batch * time + first + at_i_3[:, None]) * 1100 + at_n[None, :],
            mask=(first + at_i_3[:, None] < time) & (at_n[None, :] < 1100),
            other=0.0,
        )
        at_j = origin_3 + tl.arange(0, 16)
        at_m = origin_3 + tl.arange(0, 16)
        v = tl.load(
            inputs[1] + (batch * time + first + at_i_3[:, None]) * 3 + at_m[None, :],
            mask=(first + at_i_3[:, None] < time) & (at_m[None, :] < 3),
            other=0.0,
        )
        total_2 = tl.dot(
            tl.permute((tl.where(15.0 >= at_j.to(tl.float32), 1.0, 0.0)[:, None] * v).to(ROUNDED), (1, 0)),
            k.to(ROUNDED),
            input_precision=PRECISION,
        )
        tl.store(
            made[2] + place * 3300 + at_n[None, :] * 3 + at_m[:, None],
            total_2,
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
        )
    origin_4 = tl.multiple_of(tl.load(zero, volatile=True), 16)
    at_i_4 = origin_4 + tl.arange(0, 16)
    valid_2 = tl.load(inputs[3] + (batch * time + first + at_i_4), mask=first + at_i_4 < time, other=0.0)
    total_3 = tl.sum(tl.where(at_i_4.to(tl.float32) == 0.0, valid_2, 0.0), 0)
    tl.store(made[3] + place, tl.where(total_3 > 0.0, 1.0, 0.0))


@triton.jit
def update(
    inputs, made, starts, scratch, zero, slot, batch, first, place, tokens, time, row,
    TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):  # fmt: skip
    """The states after a block."""
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        active = tl.load(made[0] + place)
        pre1 = tl.load(made[1] + place)
        origin = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_n = origin + tile * TILE + tl.arange(0, TILE)
        at_m = origin + tl.arange(0, 16)
        M = tl.load(
            starts[0] + place * 3300 + at_m[:, None] * 1100 + at_n[None, :],
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
            other=0.0,
        )
        pre2 = tl.load(
            made[2] + place * 3300 + at_n[None, :] * 3 + at_m[:, None],
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
            other=0.0,
        )
        masked = tl.where(active != 0.0, tl.where(pre1 != 0.0, 0.0, M) + pre2, M)
        tl.store(
            starts[0] + (place + 1) * 3300 + at_m[:, None] * 1100 + at_n[None, :],
            masked,
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
        )
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        active_2 = tl.load(made[0] + place)
        pre3 = tl.load(made[3] + place)
        pre1_2 = tl.load(made[1] + place)
        origin_2 = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_n_2 = origin_2 + tile * TILE + tl.arange(0, TILE)
        at_m_2 = origin_2 + tl.arange(0, 16)
        M_2 = tl.load(
            starts[0] + place * 3300 + at_m_2[:, None] * 1100 + at_n_2[None, :],
            mask=(at_m_2[:, None] < 3) & (at_n_2[None, :] < 1100),
            other=0.0,
        )
        held = tl.load(
            starts[1] + place * 3300 + at_m_2[:, None] * 1100 + at_n_2[None, :],
            mask=(at_m_2[:, None] < 3) & (at_n_2[None, :] < 1100),
            other=0.0,
        )
        masked_2 = tl.where(pre3 != 0.0, tl.where(pre1_2 != 0.0, 0.0, M_2), held)
        tl.store(
            starts[1] + (place + 1) * 3300 + at_m_2[:, None] * 1100 + at_n_2[None, :],
            tl.where(active_2 != 0.0, masked_2, held),
            mask=(at_m_2[:, None] < 3) & (at_n_2[None, :] < 1100),
        )


@triton.jit
def reads(
    inputs, made, starts, outputs, scratch, zero, slot, batch, first, place, tokens, time, row,
    TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):  # fmt: skip
    """The results of a block."""
    total = tl.full((16, 16), 0.0, tl.float32)
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        origin = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_i = origin + tl.arange(0, 16)
        at_n = origin + tile * TILE + tl.arange(0, TILE)
        q = tl.load(
            inputs[2] + (batch * time + first + at_i[:, None]) * 1100 + at_n[None, :],
            mask=(first + at_i[:, None] < time) & (at_n[None, :] < 1100),
            other=0.0,
        )
        k = tl.load(
            inputs[0] + (batch * time + first + at_i[:, None]) * 1100 + at_n[None, :],
            mask=(first + at_i[:, None] < time) & (at_n[None, :] < 1100),
            other=0.0,
        )
        total_2 = tl.dot(q.to(ROUNDED), tl.permute(k.to(ROUNDED), (1, 0)), input_precision=PRECISION)
        total = total + total_2
    origin_2 = tl.multiple_of(tl.load(zero, volatile=True), 16)
    at_j = origin_2 + tl.arange(0, 16)
    at_i_2 = origin_2 + tl.arange(0, 16)
    tl.store(scratch + slot * 256 + at_i_2[:, None] * 16 + at_j[None, :], total)
    tl.debug_barrier()
    total_3 = tl.full((16, 16), 0.0, tl.float32)
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        origin_3 = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_i_3 = origin_3 + tl.arange(0, 16)
        at_n_2 = origin_3 + tile * TILE + tl.arange(0, TILE)
        q_2 = tl.load(
            inputs[2] + (batch * time + first + at_i_3[:, None]) * 1100 + at_n_2[None, :],
            mask=(first + at_i_3[:, None] < time) & (at_n_2[None, :] < 1100),
            other=0.0,
        )
        pre1 = tl.load(made[1] + place)
        at_m = origin_3 + tl.arange(0, 16)
        M = tl.load(
            starts[0] + place * 3300 + at_m[:, None] * 1100 + at_n_2[None, :],
            mask=(at_m[:, None] < 3) & (at_n_2[None, :] < 1100),
            other=0.0,
        )
        total_4 = tl.dot(
            q_2.to(ROUNDED),
            tl.permute(
                tl.where(at_n_2[None, :] < 1100, tl.where(pre1 != 0.0, 0.0, M).to(ROUNDED), 0.0), (1, 0)
            ),
            input_precision=PRECISION,
        )
        total_3 = total_3 + total_4
    origin_4 = tl.multiple_of(tl.load(zero, volatile=True), 16)
    at_i_4 = origin_4 + tl.arange(0, 16)
    at_m_2 = origin_4 + tl.arange(0, 16)
    v = tl.load(
        inputs[1] + (batch * time + first + at_i_4[:, None]) * 3 + at_m_2[None, :],
        mask=(first + at_i_4[:, None] < time) & (at_m_2[None, :] < 3),
        other=0.0,
    )
    at_j_2 = origin_4 + tl.arange(0, 16)
    ge = at_i_4.to(tl.float32)[:, None] >= at_j_2.to(tl.float32)[None, :]
    total0 = tl.load(scratch + slot * 256 + at_i_4[:, None] * 16 + at_j_2[None, :])
    total_5 = tl.dot((tl.where(ge, 1.0, 0.0) * total0).to(ROUNDED), v.to(ROUNDED), input_precision=PRECISION)
    tl.store(
        outputs[0] + (batch * time + first + at_i_4[:, None]) * 3 + at_m_2[None, :],
        total_3 + total_5,
        mask=(first + at_i_4[:, None] < time) & (at_m_2[None, :] < 3),
    )


@triton.jit
def before_back(
    inputs, made, starts, d_outputs, later, scratch, zero, slot, batch, first, place, tokens, time, row,
    TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):  # fmt: skip
    """What does not depend on the cotangents of states."""
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        pre1 = tl.load(made[1] + place)
        origin = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_i = origin + tl.arange(0, 16)
        at_m = origin + tl.arange(0, 16)
        d_out0 = tl.load(
            d_outputs[0] + (batch * time + first + at_i[:, None]) * 3 + at_m[None, :],
            mask=(first + at_i[:, None] < time) & (at_m[None, :] < 3),
            other=0.0,
        )
        at_n = origin + tile * TILE + tl.arange(0, TILE)
        q = tl.load(
            inputs[2] + (batch * time + first + at_i[:, None]) * 1100 + at_n[None, :],
            mask=(first + at_i[:, None] < time) & (at_n[None, :] < 1100),
            other=0.0,
        )
        total = tl.dot(tl.permute(d_out0.to(ROUNDED), (1, 0)), q.to(ROUNDED), input_precision=PRECISION)
        tl.store(
            later[0] + place * 3300 + at_m[:, None] * 1100 + at_n[None, :],
            tl.where(pre1 != 0.0, 0.0, total),
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
        )


@triton.jit
def back(
    inputs, made, later, flows, scratch, zero, slot, batch, first, place, tokens, time, row,
    TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):  # fmt: skip
    """The cotangents of the states before a block."""
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        active = tl.load(made[0] + place)
        pre1 = tl.load(made[1] + place)
        pre3 = tl.load(made[3] + place)
        origin = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_n = origin + tile * TILE + tl.arange(0, TILE)
        at_m = origin + tl.arange(0, 16)
        d_held = tl.load(
            flows[1] + (place + 1) * 3300 + at_m[:, None] * 1100 + at_n[None, :],
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
            other=0.0,
        )
        d_M = tl.load(
            flows[0] + (place + 1) * 3300 + at_m[:, None] * 1100 + at_n[None, :],
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
            other=0.0,
        )
        masked = tl.where(pre1 != 0.0, 0.0, tl.where(pre3 != 0.0, d_held, 0.0) + d_M)
        d_direct = tl.load(
            later[0] + place * 3300 + at_m[:, None] * 1100 + at_n[None, :],
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
            other=0.0,
        )
        tl.store(
            flows[0] + place * 3300 + at_m[:, None] * 1100 + at_n[None, :],
            tl.where(active != 0.0, masked, d_M) + d_direct,
            mask=(at_m[:, None] < 3) & (at_n[None, :] < 1100),
        )
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        active_2 = tl.load(made[0] + place)
        pre3_2 = tl.load(made[3] + place)
        origin_2 = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_n_2 = origin_2 + tile * TILE + tl.arange(0, TILE)
        at_m_2 = origin_2 + tl.arange(0, 16)
        d_held_2 = tl.load(
            flows[1] + (place + 1) * 3300 + at_m_2[:, None] * 1100 + at_n_2[None, :],
            mask=(at_m_2[:, None] < 3) & (at_n_2[None, :] < 1100),
            other=0.0,
        )
        masked_2 = tl.where(active_2 != 0.0, tl.where(pre3_2 != 0.0, 0.0, d_held_2), d_held_2)
        tl.store(
            flows[1] + place * 3300 + at_m_2[:, None] * 1100 + at_n_2[None, :],
            masked_2,
            mask=(at_m_2[:, None] < 3) & (at_n_2[None, :] < 1100),
        )


@triton.jit
def gradients0(
    inputs, made, starts, d_outputs, flows, d_sources, scratch, zero, slot, batch, first, place, tokens, time, row,
    TILE: tl.constexpr, PRECISION: tl.constexpr, GIVEN: tl.constexpr, ROUNDED: tl.constexpr
):  # fmt: skip
    """The cotangents of `k`, `v`, `q` in a block."""
    origin = tl.multiple_of(tl.load(zero, volatile=True), 16)
    at_i = origin + tl.arange(0, 16)
    at_m = origin + tl.arange(0, 16)
    d_out0 = tl.load(
        d_outputs[0] + (batch * time + first + at_i[:, None]) * 3 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 3),
        other=0.0,
    )
    v = tl.load(
        inputs[1] + (batch * time + first + at_i[:, None]) * 3 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 3),
        other=0.0,
    )
    total = tl.dot(d_out0.to(ROUNDED), tl.permute(v.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    at_j = origin + tl.arange(0, 16)
    tl.store(scratch + slot * 512 + at_i[:, None] * 16 + at_j[None, :], total)
    total_2 = tl.full((16, 16), 0.0, tl.float32)
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        origin_2 = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_i_2 = origin_2 + tl.arange(0, 16)
        at_n = origin_2 + tile * TILE + tl.arange(0, TILE)
        q = tl.load(
            inputs[2] + (batch * time + first + at_i_2[:, None]) * 1100 + at_n[None, :],
            mask=(first + at_i_2[:, None] < time) & (at_n[None, :] < 1100),
            other=0.0,
        )
        k = tl.load(
            inputs[0] + (batch * time + first + at_i_2[:, None]) * 1100 + at_n[None, :],
            mask=(first + at_i_2[:, None] < time) & (at_n[None, :] < 1100),
            other=0.0,
        )
        total_3 = tl.dot(q.to(ROUNDED), tl.permute(k.to(ROUNDED), (1, 0)), input_precision=PRECISION)
        total_2 = total_2 + total_3
    origin_3 = tl.multiple_of(tl.load(zero, volatile=True), 16)
    at_j_2 = origin_3 + tl.arange(0, 16)
    at_i_3 = origin_3 + tl.arange(0, 16)
    tl.store(scratch + slot * 512 + 256 + at_i_3[:, None] * 16 + at_j_2[None, :], total_2)
    tl.debug_barrier()
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        origin_4 = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_j_3 = origin_4 + tl.arange(0, 16)
        at_i_4 = origin_4 + tl.arange(0, 16)
        total0 = tl.load(scratch + slot * 512 + at_i_4[:, None] * 16 + at_j_3[None, :])
        ge = at_i_4.to(tl.float32)[:, None] >= at_j_3.to(tl.float32)[None, :]
        at_n_2 = origin_4 + tile * TILE + tl.arange(0, TILE)
        q_2 = tl.load(
            inputs[2] + (batch * time + first + at_i_4[:, None]) * 1100 + at_n_2[None, :],
            mask=(first + at_i_4[:, None] < time) & (at_n_2[None, :] < 1100),
            other=0.0,
        )
        total_4 = tl.dot(
            tl.permute((total0 * tl.where(ge, 1.0, 0.0)).to(ROUNDED), (1, 0)),
            q_2.to(ROUNDED),
            input_precision=PRECISION,
        )
        active = tl.load(made[0] + place)
        at_m_2 = origin_4 + tl.arange(0, 16)
        d_M = tl.load(
            flows[0] + (place + 1) * 3300 + at_m_2[:, None] * 1100 + at_n_2[None, :],
            mask=(at_m_2[:, None] < 3) & (at_n_2[None, :] < 1100),
            other=0.0,
        )
        v_2 = tl.load(
            inputs[1] + (batch * time + first + at_i_4[:, None]) * 3 + at_m_2[None, :],
            mask=(first + at_i_4[:, None] < time) & (at_m_2[None, :] < 3),
            other=0.0,
        )
        total_5 = tl.dot(
            tl.where(
                at_m_2[None, :] < 3,
                (tl.where(15.0 >= at_j_3.to(tl.float32), 1.0, 0.0)[:, None] * v_2).to(ROUNDED),
                0.0,
            ),
            tl.where(at_m_2[:, None] < 3, tl.where(active != 0.0, d_M, 0.0).to(ROUNDED), 0.0),
            input_precision=PRECISION,
        )
        tl.store(
            d_sources[0] + (batch * time + first + at_i_4[:, None]) * 1100 + at_n_2[None, :],
            total_4 + total_5,
            mask=(first + at_i_4[:, None] < time) & (at_n_2[None, :] < 1100),
        )
    total_6 = tl.full((16, 16), 0.0, tl.float32)
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        active_2 = tl.load(made[0] + place)
        origin_5 = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_n_3 = origin_5 + tile * TILE + tl.arange(0, TILE)
        at_m_3 = origin_5 + tl.arange(0, 16)
        d_M_2 = tl.load(
            flows[0] + (place + 1) * 3300 + at_m_3[:, None] * 1100 + at_n_3[None, :],
            mask=(at_m_3[:, None] < 3) & (at_n_3[None, :] < 1100),
            other=0.0,
        )
        at_i_5 = origin_5 + tl.arange(0, 16)
        k_2 = tl.load(
            inputs[0] + (batch * time + first + at_i_5[:, None]) * 1100 + at_n_3[None, :],
            mask=(first + at_i_5[:, None] < time) & (at_n_3[None, :] < 1100),
            other=0.0,
        )
        total_7 = tl.dot(
            k_2.to(ROUNDED),
            tl.permute(
                tl.where(at_n_3[None, :] < 1100, tl.where(active_2 != 0.0, d_M_2, 0.0).to(ROUNDED), 0.0),
                (1, 0),
            ),
            input_precision=PRECISION,
        )
        total_6 = total_6 + total_7
    origin_6 = tl.multiple_of(tl.load(zero, volatile=True), 16)
    at_i_6 = origin_6 + tl.arange(0, 16)
    at_m_4 = origin_6 + tl.arange(0, 16)
    d_out0_2 = tl.load(
        d_outputs[0] + (batch * time + first + at_i_6[:, None]) * 3 + at_m_4[None, :],
        mask=(first + at_i_6[:, None] < time) & (at_m_4[None, :] < 3),
        other=0.0,
    )
    at_j_4 = origin_6 + tl.arange(0, 16)
    ge_2 = at_i_6.to(tl.float32)[:, None] >= at_j_4.to(tl.float32)[None, :]
    total1 = tl.load(scratch + slot * 512 + 256 + at_i_6[:, None] * 16 + at_j_4[None, :])
    total_8 = tl.dot(
        tl.permute((tl.where(ge_2, 1.0, 0.0) * total1).to(ROUNDED), (1, 0)),
        d_out0_2.to(ROUNDED),
        input_precision=PRECISION,
    )
    product_2 = total_6 * tl.where(15.0 >= at_j_4.to(tl.float32), 1.0, 0.0)[:, None]
    tl.store(
        d_sources[1] + (batch * time + first + at_i_6[:, None]) * 3 + at_m_4[None, :],
        total_8 + product_2,
        mask=(first + at_i_6[:, None] < time) & (at_m_4[None, :] < 3),
    )
    for tile in tl.range(tl.cdiv(1100, TILE), num_stages=1, disable_licm=True):
        origin_7 = tl.multiple_of(tl.load(zero, volatile=True), 16)
        at_j_5 = origin_7 + tl.arange(0, 16)
        at_i_7 = origin_7 + tl.arange(0, 16)
        total0_2 = tl.load(scratch + slot * 512 + at_i_7[:, None] * 16 + at_j_5[None, :])
        ge_3 = at_i_7.to(tl.float32)[:, None] >= at_j_5.to(tl.float32)[None, :]
        at_n_4 = origin_7 + tile * TILE + tl.arange(0, TILE)
        k_3 = tl.load(
            inputs[0] + (batch * time + first + at_i_7[:, None]) * 1100 + at_n_4[None, :],
            mask=(first + at_i_7[:, None] < time) & (at_n_4[None, :] < 1100),
            other=0.0,
        )
        total_9 = tl.dot(
            (total0_2 * tl.where(ge_3, 1.0, 0.0)).to(ROUNDED), k_3.to(ROUNDED), input_precision=PRECISION
        )
        at_m_5 = origin_7 + tl.arange(0, 16)
        d_out0_3 = tl.load(
            d_outputs[0] + (batch * time + first + at_i_7[:, None]) * 3 + at_m_5[None, :],
            mask=(first + at_i_7[:, None] < time) & (at_m_5[None, :] < 3),
            other=0.0,
        )
        pre1 = tl.load(made[1] + place)
        M = tl.load(
            starts[0] + place * 3300 + at_m_5[:, None] * 1100 + at_n_4[None, :],
            mask=(at_m_5[:, None] < 3) & (at_n_4[None, :] < 1100),
            other=0.0,
        )
        total_10 = tl.dot(
            d_out0_3.to(ROUNDED),
            tl.where(at_m_5[:, None] < 3, tl.where(pre1 != 0.0, 0.0, M).to(ROUNDED), 0.0),
            input_precision=PRECISION,
        )
        tl.store(
            d_sources[2] + (batch * time + first + at_i_7[:, None]) * 1100 + at_n_4[None, :],
            total_9 + total_10,
            mask=(first + at_i_7[:, None] < time) & (at_n_4[None, :] < 1100),
        )
