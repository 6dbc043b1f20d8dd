"""A stage without products of matrices in one pass: a program goes through the blocks of a sequence, `row` and `tile`.

Inputs are read once, where the kernels of `chunk.py` read them again after `sweep`: that is quicker as soon as there
are as many programs as a GPU has multiprocessors.  Values that stay in registers are cleared beyond the axes, as those
are that are loaded.  What is imported from `.scan` belongs to a rule, here `s' = a·s + b`.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .scan import (
    back,
    before,
    before_back,
    clear_later,
    clear_made,
    clear_states,
    load_cotangents,
    load_inputs,
    load_states,
    locate,
    reads,
    store_outputs,
    store_states,
    update,
)
from .scan import (
    gradients0 as gradients,
)
from .scan import (
    store_gradients0 as store_gradients,
)


@triton.jit
def fused(
    inputs,
    carried,
    starts,
    finals,
    outputs,
    time,
    KEEPS: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The results at all tokens and the states after the last; with `KEEPS` also those before each block."""
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    blocks = (time + BLOCK - 1) // BLOCK
    state = load_states(carried, batch, row, tile, TILE)
    for block in range(blocks):
        if KEEPS:
            store_states(starts, state, batch * blocks + block, row, tile, TILE)
        given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
        made = clear_made(before(given, tile, TILE, PRECISION, GIVEN, ROUNDED), row, tile, TILE)
        results = reads(state, given, made, tile, TILE, PRECISION, GIVEN, ROUNDED)
        store_outputs(outputs, results, batch, block * BLOCK, time, row, tile, TILE)
        after = update(state, given, made, tile, TILE, PRECISION, GIVEN, ROUNDED)
        state = clear_states(after, row, tile, TILE)
    store_states(finals, state, batch, row, tile, TILE)


@triton.jit
def fused_back(
    inputs,
    starts,
    d_outputs,
    d_finals,
    d_sources,
    d_carried,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of what all inputs are computed from and of the states before the first token."""
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    blocks = (time + BLOCK - 1) // BLOCK
    flow = load_states(d_finals, batch, row, tile, TILE)
    for done in range(blocks):
        block = blocks - 1 - done
        state = load_states(starts, batch * blocks + block, row, tile, TILE)
        given = load_inputs(inputs, batch, block * BLOCK, time, row, tile, TILE)
        known = load_cotangents(d_outputs, batch, block * BLOCK, time, row, tile, TILE)
        made = clear_made(before(given, tile, TILE, PRECISION, GIVEN, ROUNDED), row, tile, TILE)
        found = gradients(state, given, made, known, flow, (), tile, TILE, PRECISION, GIVEN, ROUNDED)
        store_gradients(d_sources, found, inputs, batch, block * BLOCK, tokens, time, row, tile, TILE)
        later = before_back(state, given, made, known, tile, TILE, PRECISION, GIVEN, ROUNDED)
        later = clear_later(later, row, tile, TILE)
        flow = back(given, made, later, flow, tile, TILE, PRECISION, GIVEN, ROUNDED)
        flow = clear_states(flow, row, tile, TILE)
    store_states(d_carried, flow, batch, row, tile, TILE)
