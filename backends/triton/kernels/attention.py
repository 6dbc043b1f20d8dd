"""Reads of growing stores: the scores of a block of queries with a block of entries at a time, none of them kept.

A program of `read` and `back_queries` has a block of the queries of one sequence and row, and goes through the entries
that they see; one of `back_entries` has a block of entries, and goes through the queries that see them.  What is
imported from `.read` belongs to a rule, here attention with forget gates; a unit holds its own rule's in their place.
Entries are those kept from before, the first `SINKS` of them from the beginning of the sequence, then the tokens'
own.  `starts` [batch, time] is the entry, counted after the sinks, at which the sequence of a token began.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl

from .read import (
    add_entries,
    add_queries,
    answers,
    empty,
    flow_entries,
    flow_queries,
    gather,
    load_cotangents,
    load_entries,
    load_flow,
    load_found,
    load_queries,
    locate,
    slopes,
    store_entries,
    store_flow,
    store_found,
    store_outputs,
    store_queries,
    zero_entries,
)


@triton.jit
def seen(
    starts,
    batch,
    first,
    low,
    time,
    total,
    WINDOW: tl.constexpr,
    SINKS: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """Which of the entries from `low` on the queries from `first` on see, and how many tokens ago they were written."""
    query = (first + tl.arange(0, QUERIES))[:, None]
    entry = (low + tl.arange(0, ENTRIES))[None, :]
    begin = tl.load(starts + batch * time + query, mask=query < time, other=0).to(tl.int32)
    now = total - time - SINKS + query
    place = entry - SINKS
    age = now - place
    sees = (place >= begin) & (age >= 0)
    if WINDOW:
        sees = sees & ((age < WINDOW) | (place - begin < SINKS))
    if SINKS:
        origin = begin + place + SINKS  # where a sink would stand among the others, had it been kept there
        age = tl.where(place < 0, now - origin, age)
        sees = ((place < 0) & (origin < 0)) | ((place >= 0) & sees)
    return sees & (query < time) & (entry < total), age.to(tl.float32)


@triton.jit
def anything(
    starts,
    batch,
    first,
    low,
    time,
    total,
    WINDOW: tl.constexpr,
    SINKS: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """Whether a block has to be looked at: with sinks there may be many between them and the last tokens."""
    if WINDOW and SINKS:
        query = first + tl.arange(0, QUERIES)
        begin = tl.load(starts + batch * time + query, mask=query < time, other=0).to(tl.int32)
        place = low - SINKS
        recent = place + ENTRIES + WINDOW > total - time - SINKS + first + 1
        earliest = tl.min(tl.where(query < time, begin, total), 0)
        sunk = (place + ENTRIES > earliest) & (place < tl.max(begin, 0) + SINKS)
        return recent | sunk | (place < 0)
    else:
        return True


@triton.jit
def seen_from(starts, batch, first, time, total, WINDOW: tl.constexpr, SINKS: tl.constexpr):
    """The first entry that a query sees."""
    if SINKS:
        return 0
    low = tl.load(starts + batch * time + first).to(tl.int32)
    if WINDOW:
        low = tl.maximum(low, total - time + first - WINDOW + 1)
    return tl.maximum(low, 0)


@triton.jit
def read(
    queries,
    entries,
    starts,
    found,
    outputs,
    total,
    time,
    KEEPS: tl.constexpr,
    WINDOW: tl.constexpr,
    SINKS: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """Outputs [batch, time, …] and, with `KEEPS`, the numbers of each query that they are made of."""
    blocks = (time + QUERIES - 1) // QUERIES
    program = tl.program_id(0).to(tl.int64)
    first = ((blocks - 1 - program % blocks) * QUERIES).to(tl.int32)  # the longest first
    batch, row, tile = locate(program // blocks, TILE, QUERIES, ENTRIES)
    asked = load_queries(queries, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
    have = empty(TILE, QUERIES, ENTRIES)
    low = seen_from(starts, batch, first, time, total, WINDOW, SINKS)
    high = tl.minimum(total, total - time + first + QUERIES)
    for at in range(low, high, ENTRIES):
        if anything(starts, batch, first, at, time, total, WINDOW, SINKS, QUERIES, ENTRIES):
            sees, age = seen(starts, batch, first, at, time, total, WINDOW, SINKS, QUERIES, ENTRIES)
            known = load_entries(entries, batch, at, total, row, tile, TILE, QUERIES, ENTRIES)
            have = gather(
                have, asked, known, sees, age, tile, TILE, QUERIES, ENTRIES, PRECISION, GIVEN, ROUNDED
            )
    if KEEPS:
        store_found(found, have, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
    store_outputs(
        outputs,
        answers(have, asked, tile, TILE, QUERIES, ENTRIES, PRECISION, GIVEN, ROUNDED),
        batch,
        first,
        time,
        row,
        tile,
        TILE,
        QUERIES,
        ENTRIES,
    )


@triton.jit
def back_queries(
    queries,
    entries,
    starts,
    found,
    d_outputs,
    flow,
    d_queries,
    tokens,
    total,
    time,
    WINDOW: tl.constexpr,
    SINKS: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of sums, `flow`, and of queries; where programs share a query, each of them writes its part."""
    blocks = (time + QUERIES - 1) // QUERIES
    program = tl.program_id(0).to(tl.int64)
    first = ((blocks - 1 - program % blocks) * QUERIES).to(tl.int32)
    batch, row, tile = locate(program // blocks, TILE, QUERIES, ENTRIES)
    asked = load_queries(queries, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
    have = load_found(found, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
    given = load_cotangents(d_outputs, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
    d_sums, sums = slopes(have, asked, given, tile, TILE, QUERIES, ENTRIES, PRECISION, GIVEN, ROUNDED)
    store_flow(flow, d_sums, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
    low = seen_from(starts, batch, first, time, total, WINDOW, SINKS)
    high = tl.minimum(total, total - time + first + QUERIES)
    for at in range(low, high, ENTRIES):
        if anything(starts, batch, first, at, time, total, WINDOW, SINKS, QUERIES, ENTRIES):
            sees, age = seen(starts, batch, first, at, time, total, WINDOW, SINKS, QUERIES, ENTRIES)
            known = load_entries(entries, batch, at, total, row, tile, TILE, QUERIES, ENTRIES)
            more = flow_queries(
                have, d_sums, asked, known, sees, age, tile, TILE, QUERIES, ENTRIES, PRECISION, GIVEN, ROUNDED
            )
            sums = add_queries(sums, more, TILE, QUERIES, ENTRIES)
    store_queries(d_queries, sums, batch, first, tokens, time, row, tile, TILE, QUERIES, ENTRIES)


@triton.jit
def back_entries(
    queries,
    entries,
    starts,
    found,
    flow,
    d_entries,
    tokens,
    total,
    time,
    WINDOW: tl.constexpr,
    SINKS: tl.constexpr,
    QUERIES: tl.constexpr,
    ENTRIES: tl.constexpr,
    TILE: tl.constexpr,
    PRECISION: tl.constexpr,
    GIVEN: tl.constexpr,
    ROUNDED: tl.constexpr,
):
    """The cotangents of entries; where programs share an entry, each of them writes its part."""
    blocks = (total + ENTRIES - 1) // ENTRIES
    program = tl.program_id(0).to(tl.int64)
    at = (program % blocks * ENTRIES).to(tl.int32)
    batch, row, tile = locate(program // blocks, TILE, QUERIES, ENTRIES)
    known = load_entries(entries, batch, at, total, row, tile, TILE, QUERIES, ENTRIES)
    sums = zero_entries(TILE, QUERIES, ENTRIES)
    kept = total - time
    low = 0
    high = time
    if at >= SINKS:
        low = tl.maximum(at - kept, 0) // QUERIES * QUERIES
    if WINDOW and not SINKS:
        high = tl.minimum(time, at + ENTRIES - 1 - kept + WINDOW)
    for first in range(low, high, QUERIES):
        if anything(starts, batch, first, at, time, total, WINDOW, SINKS, QUERIES, ENTRIES):
            sees, age = seen(starts, batch, first, at, time, total, WINDOW, SINKS, QUERIES, ENTRIES)
            asked = load_queries(queries, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
            have = load_found(found, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
            d_sums = load_flow(flow, batch, first, time, row, tile, TILE, QUERIES, ENTRIES)
            more = flow_entries(
                have,
                d_sums,
                asked,
                known,
                tl.trans(sees),
                tl.trans(age),
                tile,
                TILE,
                QUERIES,
                ENTRIES,
                PRECISION,
                GIVEN,
                ROUNDED,
            )
            sums = add_entries(sums, more, TILE, QUERIES, ENTRIES)
    store_entries(d_entries, sums, batch, at, tokens, total, row, tile, TILE, QUERIES, ENTRIES)
