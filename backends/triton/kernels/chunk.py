"""A stage of a rule in blocks of tokens: the states go from block to block, all else is done for all blocks at once.

`sweep` and `sweep_back` are the sequential parts: a program has one sequence of the batch, one `row` and one `tile`,
and goes through its blocks.  The other kernels have a program for every block: `prepare` makes what does not depend on
the states, `answer` the results, `prepare_back` what does not depend on the cotangents of states, a `combine` or
several what the cotangents of several inputs have in common, and a `differentiate` for each input, or for several, the
cotangents of what they are computed from.  What is imported from `.stage`, `.adjoint` and `.gradients` belongs to a
rule, here the gated delta rule; a unit holds its own stage's functions in their place.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .adjoint import (
    back,
    before_back,
    load_common,
    load_cotangents,
    load_later,
    store_later,
)
from .adjoint import (
    meet0 as meet,
)
from .gradients import gradients0 as gradients
from .gradients import store_gradients0 as store_gradients
from .stage import (
    before,
    load_inputs,
    load_made,
    load_states,
    locate,
    reads,
    store_made,
    store_outputs,
    store_states,
    update,
)


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


@triton.jit
def sweep(
    inputs,
    made,
    carried,
    starts,
    finals,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The states before each block, [batch, blocks, …], and those after the last."""
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    blocks = (time + BLOCK - 1) // BLOCK
    state = load_states(carried, batch, row, tile, TILE)
    for block in range(blocks):
        place = batch * blocks + block
        store_states(starts, state, place, row, tile, TILE)
        given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
        state = update(
            state, given, load_made(made, place, row, tile, TILE), tile, TILE, PRECISION, GIVEN, ROUNDED
        )
    store_states(finals, state, batch, row, tile, TILE)


@triton.jit
def answer(
    inputs,
    made,
    starts,
    outputs,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The results at all tokens, given the states before each block."""
    blocks = (time + BLOCK - 1) // BLOCK
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    batch, row, tile = locate(program // blocks, TILE)
    place = batch * blocks + block
    state = load_states(starts, place, row, tile, TILE)
    given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
    results = reads(
        state, given, load_made(made, place, row, tile, TILE), tile, TILE, PRECISION, GIVEN, ROUNDED
    )
    store_outputs(outputs, results, batch, block * BLOCK, time, row, tile, TILE)


@triton.jit
def prepare_back(
    inputs,
    made,
    starts,
    d_outputs,
    later,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """What the cotangents of states need besides themselves, [batch, blocks, …]."""
    blocks = (time + BLOCK - 1) // BLOCK
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    batch, row, tile = locate(program // blocks, TILE)
    place = batch * blocks + block
    state = load_states(starts, place, row, tile, TILE)
    given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
    known = load_cotangents(d_outputs, batch, block * BLOCK, time, row, tile, TILE)
    found = before_back(
        state, given, load_made(made, place, row, tile, TILE), known, tile, TILE, PRECISION, GIVEN, ROUNDED
    )
    store_later(later, found, place, row, tile, TILE)


@triton.jit
def sweep_back(
    inputs,
    made,
    later,
    d_finals,
    flows,
    d_carried,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of the states after each block, [batch, blocks, …], and of those before the first."""
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    blocks = (time + BLOCK - 1) // BLOCK
    flow = load_states(d_finals, batch, row, tile, TILE)
    for done in range(blocks):
        block = blocks - 1 - done
        place = batch * blocks + block
        store_states(flows, flow, place, row, tile, TILE)
        given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
        prepared = load_made(made, place, row, tile, TILE)
        flow = back(
            given,
            prepared,
            load_later(later, place, row, tile, TILE),
            flow,
            tile,
            TILE,
            PRECISION,
            GIVEN,
            ROUNDED,
        )
    store_states(d_carried, flow, batch, row, tile, TILE)


@triton.jit
def combine(
    inputs,
    made,
    starts,
    d_outputs,
    flows,
    common,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """Some of what the cotangents of several inputs have in common, [batch, blocks, …], given what is known of it."""
    blocks = (time + BLOCK - 1) // BLOCK
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    batch, row, tile = locate(program // blocks, TILE)
    place = batch * blocks + block
    state = load_states(starts, place, row, tile, TILE)
    given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
    known = load_cotangents(d_outputs, batch, block * BLOCK, time, row, tile, TILE)
    flow = load_states(flows, place, row, tile, TILE)
    prepared = load_made(made, place, row, tile, TILE)
    shared = load_common(common, place, row, tile, TILE)
    meet(
        common, state, given, prepared, known, flow, shared, place, row, tile, TILE, PRECISION, GIVEN, ROUNDED
    )


@triton.jit
def differentiate(
    inputs,
    made,
    starts,
    d_outputs,
    flows,
    common,
    d_sources,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of what inputs are computed from, at all tokens; programs that share one write their parts."""
    blocks = (time + BLOCK - 1) // BLOCK
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    batch, row, tile = locate(program // blocks, TILE)
    place = batch * blocks + block
    state = load_states(starts, place, row, tile, TILE)
    given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
    known = load_cotangents(d_outputs, batch, block * BLOCK, time, row, tile, TILE)
    flow = load_states(flows, place, row, tile, TILE)
    prepared = load_made(made, place, row, tile, TILE)
    shared = load_common(common, place, row, tile, TILE)
    found = gradients(state, given, prepared, known, flow, shared, tile, TILE, PRECISION, GIVEN, ROUNDED)
    store_gradients(d_sources, found, inputs, batch, block * BLOCK, tokens, time, row, tile, TILE)
