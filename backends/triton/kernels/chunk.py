"""A stage of a rule in blocks of tokens: the states go from block to block, all else is done for all blocks at once.

`sweep` and `sweep_back` are the sequential parts: a program has one sequence of the batch, one `row` and one `tile`,
and goes through its blocks.  `answer` and `differentiate` have a program for every block; each input has a kernel
`differentiate`.  What is imported from `.stage` belongs to a rule, here `S' = a·S + k ⊗ v` read by `q`; a unit holds
its own stage's functions in their place.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic

import triton
import triton.language as tl

from .stage import (
    back,
    load_cotangents,
    load_inputs,
    load_states,
    locate,
    reads,
    store_outputs,
    store_states,
    update,
)
from .stage import (
    gradients0 as gradients,
)
from .stage import (
    store_gradients0 as store_gradients,
)


@triton.jit
def sweep(
    inputs, carried, starts, finals, time, BLOCK: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr
):
    """The states before each block, [batch, blocks, …], and those after the last."""
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    blocks = (time + BLOCK - 1) // BLOCK
    state = load_states(carried, batch, row, tile, TILE)
    for block in range(blocks):
        store_states(starts, state, batch * blocks + block, row, tile, TILE)
        given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
        state = update(state, given, tile, TILE, PRECISION)
    store_states(finals, state, batch, row, tile, TILE)


@triton.jit
def answer(inputs, starts, outputs, time, BLOCK: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr):
    """The results at all tokens, given the states before each block."""
    blocks = (time + BLOCK - 1) // BLOCK
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    batch, row, tile = locate(program // blocks, TILE)
    state = load_states(starts, batch * blocks + block, row, tile, TILE)
    given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
    results = reads(state, given, tile, TILE, PRECISION)
    store_outputs(outputs, results, batch, block * BLOCK, time, row, tile, TILE)


@triton.jit
def sweep_back(
    inputs,
    starts,
    d_outputs,
    d_finals,
    flows,
    d_carried,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The cotangents of the states after each block, [batch, blocks, …], and of those before the first."""
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    blocks = (time + BLOCK - 1) // BLOCK
    flow = load_states(d_finals, batch, row, tile, TILE)
    for done in range(blocks):
        block = blocks - 1 - done
        store_states(flows, flow, batch * blocks + block, row, tile, TILE)
        state = load_states(starts, batch * blocks + block, row, tile, TILE)
        given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
        known = load_cotangents(d_outputs, batch, block * BLOCK, time, row, tile, TILE)
        flow = back(state, given, known, flow, tile, TILE, PRECISION)
    store_states(d_carried, flow, batch, row, tile, TILE)


@triton.jit
def differentiate(
    inputs,
    starts,
    d_outputs,
    flows,
    d_input,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The cotangents of an input at all tokens; where programs share it, each of them writes its part."""
    blocks = (time + BLOCK - 1) // BLOCK
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    batch, row, tile = locate(program // blocks, TILE)
    state = load_states(starts, batch * blocks + block, row, tile, TILE)
    given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
    known = load_cotangents(d_outputs, batch, block * BLOCK, time, row, tile, TILE)
    flow = load_states(flows, batch * blocks + block, row, tile, TILE)
    found = gradients(state, given, known, flow, tile, TILE, PRECISION)
    store_gradients(d_input, found, batch, block * BLOCK, tokens, time, row, tile, TILE)
