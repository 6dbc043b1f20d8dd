"""A stage at all tokens of a block at once, by Newton's iteration (DEER, arXiv 2309.12252; ParaRNN, arXiv 2510.21450).

A program has one sequence of the batch, one `row` and one `tile`, and goes from block to block.  The states after all
tokens of a block are guessed; what the rule makes of them shows what is missing, and a scan of the linearised rule adds
it.  A token is settled where that is no more than a few roundings and all tokens before it are; with each correction
one more is at least, for what follows from a settled token is exact.  Entries meet in no state, so that a program
settles by itself.

The cotangents of the states are the same scan in reverse, which is linear: one correction, and more only where products
of slopes overflow.  What is imported from `.tangent` belongs to a rule, here `h' = tanh(a·h + x)`; a unit holds its own
stage's functions in their place.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .tangent import (
    agreeing,
    corrected,
    gradients,
    last,
    load_begins,
    load_cotangents,
    load_inputs,
    load_states,
    locate,
    moved,
    reads,
    reverse,
    spread,
    step,
    store_begins,
    store_gradients,
    store_outputs,
    store_states,
    tangent,
)


@triton.jit
def solve(
    inputs,
    carried,
    starts,
    finals,
    outputs,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """The results, the states before each token, [batch, time, …], and those after the last."""
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    state = load_states(carried, batch, row, tile, TILE)
    for first in range(0, time, BLOCK):
        count = tl.minimum(time - first, BLOCK)
        given = load_inputs(inputs, batch, first, time, row, tile, TILE)
        guess = spread(state, TILE)
        after, slopes = tangent(guess, given, tile, TILE)
        settled = agreeing(guess, after, tile, TILE, False)
        while settled < count:
            guess = corrected(guess, after, slopes, settled, TILE, False)
            after, slopes = tangent(moved(guess, state, TILE, False), given, tile, TILE)
            settled = tl.maximum(agreeing(guess, after, tile, TILE, False), settled + 1)
        begin = moved(guess, state, TILE, False)
        store_begins(starts, begin, batch, first, time, row, tile, TILE)
        store_outputs(outputs, reads(begin, given, tile, TILE), batch, first, time, row, tile, TILE)
        state = last(guess, count - 1, TILE)
    store_states(finals, state, batch, row, tile, TILE)


@triton.jit
def solve_back(
    inputs,
    starts,
    d_outputs,
    d_finals,
    d_inputs,
    d_carried,
    tokens,
    time,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """The cotangents of inputs and initial states; where programs share one, each of them writes its part."""
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    flow = load_states(d_finals, batch, row, tile, TILE)
    blocks = (time + BLOCK - 1) // BLOCK
    for done in range(blocks):
        first = (blocks - 1 - done) * BLOCK
        count = time - first
        given = load_inputs(inputs, batch, first, time, row, tile, TILE)
        begin = load_begins(starts, batch, first, time, row, tile, TILE)
        known = load_cotangents(d_outputs, batch, first, time, row, tile, TILE)
        own, slopes = reverse(begin, given, known, count, tile, TILE)
        guess = own
        before = step(own, slopes, moved(guess, flow, TILE, True), TILE)
        settled = agreeing(guess, before, tile, TILE, True)
        while settled < BLOCK:
            guess = corrected(guess, before, slopes, settled, TILE, True)
            before = step(own, slopes, moved(guess, flow, TILE, True), TILE)
            settled = tl.maximum(agreeing(guess, before, tile, TILE, True), settled + 1)
        found = gradients(begin, given, known, moved(guess, flow, TILE, True), count, tile, TILE)
        store_gradients(d_inputs, found, batch, first, tokens, time, row, tile, TILE)
        flow = last(guess, 0, TILE)
    store_states(d_carried, flow, batch, row, tile, TILE)
