"""The functions of a rule, as they are written for `attention.py`: here attention with forget gates."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .math import larger


@triton.jit
def locate(program, TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr):
    """The batch, the row and the tile of a program."""
    return program // 1, program % 1, 0


@triton.jit
def load_queries(
    pointers, batch, first, time, row, tile, TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr
):
    """What some tokens ask with."""
    at_i = tl.arange(0, QUERIES)
    after = tl.load(pointers[0] + (batch * time + tl.minimum(first + at_i, time - 1)))
    at_n = tl.arange(0, 64)
    q = tl.load(
        pointers[1] + (batch * time + tl.minimum(first + at_i[:, None], time - 1)) * 40 + at_n[None, :],
        mask=at_n[None, :] < 40,
        other=0.0,
    )
    return (after.to(tl.float32), q.to(tl.float32))


@triton.jit
def load_found(
    pointers, batch, first, time, row, tile, TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr
):
    """The numbers that the results of some queries are made of."""
    at_i = tl.arange(0, QUERIES)
    x0 = tl.load(pointers[0] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    x0_2 = tl.load(pointers[1] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    at_m = tl.arange(0, 128)
    x1 = tl.load(
        pointers[2] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
        other=0.0,
    )
    return (x0.to(tl.float32), x0_2.to(tl.float32), x1.to(tl.float32))


@triton.jit
def load_flow(
    pointers, batch, first, time, row, tile, TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr
):
    """The cotangents of the sums of some queries."""
    at_i = tl.arange(0, QUERIES)
    x0 = tl.load(pointers[0] + (batch * time + first + at_i), mask=first + at_i < time, other=0.0)
    at_m = tl.arange(0, 128)
    x1 = tl.load(
        pointers[1] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
        other=0.0,
    )
    return (x0.to(tl.float32), x1.to(tl.float32))


@triton.jit
def load_cotangents(
    pointers, batch, first, time, row, tile, TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr
):
    """The cotangents of the results of some queries."""
    at_i = tl.arange(0, QUERIES)
    at_m = tl.arange(0, 128)
    out0 = tl.load(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
        other=0.0,
    )
    return (out0.to(tl.float32),)


@triton.jit
def load_entries(
    pointers, batch, first, time, row, tile, TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr
):
    """Some entries."""
    at_i = tl.arange(0, ENTRIES)
    at_n = tl.arange(0, 64)
    K = tl.load(
        pointers[0] + (batch * time + tl.minimum(first + at_i[:, None], time - 1)) * 40 + at_n[None, :],
        mask=at_n[None, :] < 40,
        other=0.0,
    )
    at_m = tl.arange(0, 128)
    V = tl.load(
        pointers[1] + (batch * time + tl.minimum(first + at_i[:, None], time - 1)) * 100 + at_m[None, :],
        mask=at_m[None, :] < 100,
        other=0.0,
    )
    G = tl.load(pointers[2] + (batch * time + tl.minimum(first + at_i, time - 1)))
    return (K.to(tl.float32), V.to(tl.float32), G.to(tl.float32))


@triton.jit
def store_found(
    pointers,
    values,
    batch,
    first,
    time,
    row,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """The numbers that results are made of."""
    at_i = tl.arange(0, QUERIES)
    tl.store(pointers[0] + (batch * time + first + at_i), values[0], mask=first + at_i < time)
    tl.store(pointers[1] + (batch * time + first + at_i), values[1], mask=first + at_i < time)
    at_m = tl.arange(0, 128)
    tl.store(
        pointers[2] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[2],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
    )


@triton.jit
def store_flow(
    pointers,
    values,
    batch,
    first,
    time,
    row,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """The cotangents of sums."""
    at_i = tl.arange(0, QUERIES)
    tl.store(pointers[0] + (batch * time + first + at_i), values[0], mask=first + at_i < time)
    at_m = tl.arange(0, 128)
    tl.store(
        pointers[1] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[1],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
    )


@triton.jit
def store_outputs(
    pointers,
    values,
    batch,
    first,
    time,
    row,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """The results of some queries."""
    at_i = tl.arange(0, QUERIES)
    at_m = tl.arange(0, 128)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
    )


@triton.jit
def store_queries(
    pointers,
    values,
    batch,
    first,
    tokens,
    time,
    row,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """The cotangents of some queries."""
    at_i = tl.arange(0, QUERIES)
    tl.store(pointers[0] + (batch * time + first + at_i), values[0], mask=first + at_i < time)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[1] + (batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        values[1],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
    )


@triton.jit
def store_entries(
    pointers,
    values,
    batch,
    first,
    tokens,
    time,
    row,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """The cotangents of some entries."""
    at_i = tl.arange(0, ENTRIES)
    at_n = tl.arange(0, 64)
    tl.store(
        pointers[0] + (batch * time + first + at_i[:, None]) * 40 + at_n[None, :],
        values[0],
        mask=(first + at_i[:, None] < time) & (at_n[None, :] < 40),
    )
    at_m = tl.arange(0, 128)
    tl.store(
        pointers[1] + (batch * time + first + at_i[:, None]) * 100 + at_m[None, :],
        values[1],
        mask=(first + at_i[:, None] < time) & (at_m[None, :] < 100),
    )
    tl.store(pointers[2] + (batch * time + first + at_i), values[2], mask=first + at_i < time)


@triton.jit
def empty(TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr):
    """What no entry gives."""
    return (
        tl.full((QUERIES,), float("-inf"), tl.float32),
        tl.full((QUERIES,), 0.0, tl.float32),
        tl.full((QUERIES, 128), 0.0, tl.float32),
    )


@triton.jit
def zero_entries(TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr):
    """Zeros."""
    return (
        tl.full((ENTRIES, 64), 0.0, tl.float32),
        tl.full((ENTRIES, 128), 0.0, tl.float32),
        tl.full((ENTRIES,), 0.0, tl.float32),
    )


@triton.jit
def add_queries(x, y, TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr):
    """A sum."""
    return (x[0] + y[0], x[1] + y[1])


@triton.jit
def add_entries(x, y, TILE: tl.constexpr, QUERIES: tl.constexpr, ENTRIES: tl.constexpr):
    """A sum."""
    return (x[0] + y[0], x[1] + y[1], x[2] + y[2])


@triton.jit
def gather(
    found,
    asked,
    known,
    sees,
    age,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """Once more entries are seen."""
    top0 = found[0]
    sum0 = found[1]
    sum1 = found[2]
    after = asked[0]
    q = asked[1]
    K = known[0]
    V = known[1]
    G = known[2]
    total_2 = tl.dot(q.to(GIVEN), tl.permute(K.to(GIVEN), (1, 0)), input_precision=PRECISION)
    difference = 0.15811388300841897 * total_2 + after[:, None] - G[None, :]
    top = tl.max(tl.where(sees, difference, float("-inf")), 1)
    top0_new = larger(top0, top)
    masked = tl.where(top0_new > -1e38, top0_new, 0.0)
    decay = tl.exp(top0 - masked)
    difference_2 = difference - masked[:, None]
    decay_2 = tl.exp(tl.where(sees, difference_2, float("-inf")))
    total_3 = tl.sum(decay_2, 1)
    sum0_new = sum0 * decay + total_3
    total_4 = tl.dot(decay_2.to(GIVEN), V.to(GIVEN), input_precision=PRECISION)
    sum1_new = sum1 * decay[:, None] + total_4
    return (top0_new, sum0_new, sum1_new)


@triton.jit
def answers(
    found,
    asked,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The results of some queries."""
    sum0 = found[1]
    sum1 = found[2]
    return (sum1 * (1.0 / sum0)[:, None],)


@triton.jit
def slopes(
    found,
    asked,
    d_out,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of sums, and those of queries but for what entries give."""
    sum0 = found[1]
    sum1 = found[2]
    d_out0 = d_out[0]
    at_m = tl.arange(0, 128)
    total_2 = tl.sum(tl.where(at_m[None, :] < 100, d_out0 * sum1, 0.0), 1)
    ratio = 1.0 / sum0
    product = total_2 * ratio
    return (-(product / sum0), d_out0 * ratio[:, None]), (
        tl.full((QUERIES,), 0.0, tl.float32),
        tl.full((QUERIES, 64), 0.0, tl.float32),
    )


@triton.jit
def flow_queries(
    found,
    flow,
    asked,
    known,
    sees,
    age,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """What entries add to those of queries."""
    top0 = found[0]
    d_sum0 = flow[0]
    d_sum1 = flow[1]
    after = asked[0]
    q = asked[1]
    K = known[0]
    V = known[1]
    G = known[2]
    total_2 = tl.dot(q.to(GIVEN), tl.permute(K.to(GIVEN), (1, 0)), input_precision=PRECISION)
    difference = (
        0.15811388300841897 * total_2
        + after[:, None]
        - G[None, :]
        - tl.where(top0 > -1e38, top0, 0.0)[:, None]
    )
    at_m = tl.arange(0, 128)
    total_3 = tl.dot(
        tl.where(at_m[None, :] < 100, d_sum1.to(ROUNDED), 0.0),
        tl.permute(V.to(ROUNDED), (1, 0)),
        input_precision=PRECISION,
    )
    product = (total_3 + d_sum0[:, None]) * tl.exp(tl.where(sees, difference, float("-inf")))
    masked = tl.where(sees, product, 0.0)
    after_new = tl.sum(masked, 1)
    q_new = tl.dot((masked * 0.15811388300841897).to(ROUNDED), K.to(ROUNDED), input_precision=PRECISION)
    return (after_new, q_new)


@triton.jit
def flow_entries(
    found,
    flow,
    asked,
    known,
    sees,
    age,
    tile,
    TILE: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """What queries add to those of entries."""
    top0 = found[0]
    d_sum0 = flow[0]
    d_sum1 = flow[1]
    after = asked[0]
    q = asked[1]
    K = known[0]
    V = known[1]
    G = known[2]
    total_2 = tl.dot(K.to(GIVEN), tl.permute(q.to(GIVEN), (1, 0)), input_precision=PRECISION)
    difference = (
        0.15811388300841897 * total_2
        + after[None, :]
        - G[:, None]
        - tl.where(top0 > -1e38, top0, 0.0)[None, :]
    )
    decay = tl.exp(tl.where(sees, difference, float("-inf")))
    total_3 = tl.dot(V.to(ROUNDED), tl.permute(d_sum1.to(ROUNDED), (1, 0)), input_precision=PRECISION)
    product = (total_3 + d_sum0[None, :]) * decay
    masked = tl.where(sees, product, 0.0)
    K_new = tl.dot((masked * 0.15811388300841897).to(ROUNDED), q.to(ROUNDED), input_precision=PRECISION)
    V_new = tl.dot(decay.to(ROUNDED), d_sum1.to(ROUNDED), input_precision=PRECISION)
    total_4 = tl.sum(masked, 1)
    return (K_new, V_new, -total_4)
