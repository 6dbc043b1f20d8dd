"""A stage of a rule in blocks of tokens whose states do not fit into registers: they lie in memory.

The kernels are those of `chunk.py`.  States and their cotangents lie as [batch, blocks + 1, …]: before each block, and
after the last.  What a function computes on its way lies in `scratch`, of which every program has a part; the threads
of a program wait for each other before they read it.  So that it takes little, a launch has no more programs than keep
a GPU busy, those from `start` on.

Functions compute one value after another.  Each counts positions from 0 as it reads it from `zero`: a compiler that
knew that all have the same positions would keep them in registers.  What is imported from `.phases` belongs to a rule,
here a long matrix that is read by `q`; a unit holds its own stage's functions in their place.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .phases import back, before, before_back, locate, reads, update
from .phases import gradients0 as gradients


@triton.jit
def prepare(
    inputs,
    made,
    scratch,
    zero,
    start,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """What does not depend on the states."""
    slot = tl.program_id(0).to(tl.int64)
    blocks = (time + BLOCK - 1) // BLOCK
    batch, row, _ = locate((start + slot) // blocks, TILE)
    block = (start + slot) % blocks
    first, place = block * BLOCK, batch * (blocks + 1) + block
    before(
        inputs,
        made,
        scratch,
        zero,
        slot,
        batch,
        first,
        place,
        tokens,
        time,
        row,
        TILE,
        PRECISION,
        GIVEN,
        ROUNDED,
    )


@triton.jit
def sweep(
    inputs,
    made,
    starts,
    scratch,
    zero,
    start,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The states before each block but the first, and those after the last."""
    slot = tl.program_id(0).to(tl.int64)
    blocks = (time + BLOCK - 1) // BLOCK
    batch, row, _ = locate(start + slot, TILE)
    for block in tl.range(blocks, num_stages=1, disable_licm=True):
        tl.debug_barrier()
        first, place = block * BLOCK, batch * (blocks + 1) + block
        update(
            inputs,
            made,
            starts,
            scratch,
            zero,
            slot,
            batch,
            first,
            place,
            tokens,
            time,
            row,
            TILE,
            PRECISION,
            GIVEN,
            ROUNDED,
        )


@triton.jit
def answer(
    inputs,
    made,
    starts,
    outputs,
    scratch,
    zero,
    start,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The results at all tokens, given the states before each block."""
    slot = tl.program_id(0).to(tl.int64)
    blocks = (time + BLOCK - 1) // BLOCK
    batch, row, _ = locate((start + slot) // blocks, TILE)
    block = (start + slot) % blocks
    first, place = block * BLOCK, batch * (blocks + 1) + block
    reads(
        inputs,
        made,
        starts,
        outputs,
        scratch,
        zero,
        slot,
        batch,
        first,
        place,
        tokens,
        time,
        row,
        TILE,
        PRECISION,
        GIVEN,
        ROUNDED,
    )


@triton.jit
def prepare_back(
    inputs,
    made,
    starts,
    d_outputs,
    later,
    scratch,
    zero,
    start,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """What the cotangents of states need besides themselves."""
    slot = tl.program_id(0).to(tl.int64)
    blocks = (time + BLOCK - 1) // BLOCK
    batch, row, _ = locate((start + slot) // blocks, TILE)
    block = (start + slot) % blocks
    first, place = block * BLOCK, batch * (blocks + 1) + block
    before_back(
        inputs,
        made,
        starts,
        d_outputs,
        later,
        scratch,
        zero,
        slot,
        batch,
        first,
        place,
        tokens,
        time,
        row,
        TILE,
        PRECISION,
        GIVEN,
        ROUNDED,
    )


@triton.jit
def sweep_back(
    inputs,
    made,
    later,
    flows,
    scratch,
    zero,
    start,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of the states before each block, given those after the last."""
    slot = tl.program_id(0).to(tl.int64)
    blocks = (time + BLOCK - 1) // BLOCK
    batch, row, _ = locate(start + slot, TILE)
    for done in tl.range(blocks, num_stages=1, disable_licm=True):
        tl.debug_barrier()
        block = blocks - 1 - done
        first, place = block * BLOCK, batch * (blocks + 1) + block
        back(
            inputs,
            made,
            later,
            flows,
            scratch,
            zero,
            slot,
            batch,
            first,
            place,
            tokens,
            time,
            row,
            TILE,
            PRECISION,
            GIVEN,
            ROUNDED,
        )


@triton.jit
def differentiate(
    inputs,
    made,
    starts,
    d_outputs,
    flows,
    d_sources,
    scratch,
    zero,
    start,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of all inputs, at all tokens; programs that share one write their parts."""
    slot = tl.program_id(0).to(tl.int64)
    blocks = (time + BLOCK - 1) // BLOCK
    batch, row, _ = locate((start + slot) // blocks, TILE)
    block = (start + slot) % blocks
    first, place = block * BLOCK, batch * (blocks + 1) + block
    gradients(
        inputs,
        made,
        starts,
        d_outputs,
        flows,
        d_sources,
        scratch,
        zero,
        slot,
        batch,
        first,
        place,
        tokens,
        time,
        row,
        TILE,
        PRECISION,
        GIVEN,
        ROUNDED,
    )
