"""A rule as a loop over time: each program keeps its part of the states in registers from the first token to the last.

A program has one sequence of the batch, one `row` (an entry of the axes along which nothing is mixed) and one `tile` of
the vector axis.  What is imported from `.rule` belongs to a rule, here `h' = a·h + b`; a unit holds its own rule's
functions in their place.  Values are tuples: of inputs, of states, of constants (what all tokens share).  What a token
needs is on its way from memory while `STAGES` - 1 tokens before it are computed.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .rule import (
    add_constants,
    add_states,
    advance,
    choose_states,
    load_constants,
    load_cotangents,
    load_inputs,
    load_states,
    locate,
    reverse,
    store_constants,
    store_gradients,
    store_outputs,
    store_states,
    token,
    zero_constants,
    zero_states,
)


@triton.jit
def forward(
    inputs,
    constants,
    initial,
    before,
    reset,
    outputs,
    after,
    kept,
    time,
    RESETS: tl.constexpr,
    KEEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    STAGES: tl.constexpr,
    TILE: tl.constexpr,
):
    """Outputs [batch, time, …], states after the last token and, with `KEEPS`, those before each segment.

    `reset` [batch, time] marks tokens that begin a new sequence, from the states `initial`.
    """
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    shared = load_constants(constants, row, tile, TILE)
    state = load_states(before, batch, row, tile, TILE)
    for step in tl.range(time, num_stages=STAGES):
        place = batch * time + step
        if KEEPS:  # noqa: SIM102  # the one is decided when the kernel is compiled, the other at each token
            if step % SEGMENT == 0:
                segments = (time + SEGMENT - 1) // SEGMENT
                store_states(kept, state, batch * segments + step // SEGMENT, row, tile, TILE)
        if RESETS:
            start = load_states(initial, 0, row, tile, TILE)
            state = choose_states(tl.load(reset + place) != 0, start, state, TILE)
        given = load_inputs(inputs, place, row, tile, TILE)
        state, results = token(state, given, shared, tile, TILE)
        store_outputs(outputs, results, place, row, tile, TILE)
    store_states(after, state, batch, row, tile, TILE)


@triton.jit
def backward(
    inputs,
    constants,
    initial,
    kept,
    reset,
    d_outputs,
    d_after,
    scratch,
    d_inputs,
    d_constants,
    d_initial,
    d_before,
    tokens,
    time,
    RESETS: tl.constexpr,
    SEGMENT: tl.constexpr,
    STAGES: tl.constexpr,
    TILE: tl.constexpr,
):
    """The cotangents of everything that `forward` reads, from those of what it writes.

    The states of a segment are computed again from those before it and lie in `scratch`, [batch, SEGMENT, …], while the
    segment is gone through from its last token to its first.  What programs share is written once by each of them.
    Behind the cotangents of inputs are values of each token, of which products are cotangents of constants.
    """
    batch, row, tile = locate(tl.program_id(0).to(tl.int64), TILE)
    shared = load_constants(constants, row, tile, TILE)
    flow = load_states(d_after, batch, row, tile, TILE)
    begin = zero_states(TILE)
    total = zero_constants(TILE)
    segments = (time + SEGMENT - 1) // SEGMENT
    for passed in range(segments):
        segment = segments - 1 - passed
        first = segment * SEGMENT
        count = tl.minimum(time - first, SEGMENT)
        state = load_states(kept, batch * segments + segment, row, tile, TILE)
        for step in tl.range(count, num_stages=STAGES):
            place = batch * time + first + step
            store_states(scratch, state, batch * SEGMENT + step, row, tile, TILE)
            if RESETS:
                start = load_states(initial, 0, row, tile, TILE)
                state = choose_states(tl.load(reset + place) != 0, start, state, TILE)
            state = advance(state, load_inputs(inputs, place, row, tile, TILE), shared, tile, TILE)
        tl.debug_barrier()
        for done in tl.range(count, num_stages=STAGES):
            step = count - 1 - done
            place = batch * time + first + step
            stored = load_states(scratch, batch * SEGMENT + step, row, tile, TILE)
            old = stored
            if RESETS:
                start = load_states(initial, 0, row, tile, TILE)
                old = choose_states(tl.load(reset + place) != 0, start, stored, TILE)
            given = load_inputs(inputs, place, row, tile, TILE)
            known = load_cotangents(d_outputs, place, row, tile, TILE)
            flow, d_given, d_shared = reverse(old, state, given, shared, known, flow, tile, TILE)
            store_gradients(d_inputs, d_given, place, tokens, row, tile, TILE)
            total = add_constants(total, d_shared, TILE)
            if RESETS:
                fresh = tl.load(reset + place) != 0
                ended = choose_states(fresh, flow, zero_states(TILE), TILE)
                begin = add_states(begin, ended, TILE)
                flow = choose_states(fresh, zero_states(TILE), flow, TILE)
            state = stored
        tl.debug_barrier()
    store_states(d_before, flow, batch, row, tile, TILE)
    store_states(d_initial, begin, batch, row, tile, TILE)
    store_constants(d_constants, total, batch, row, tile, TILE)
