"""The functions of a rule, as they are written for `loop.py`: here h' = a·h + b over an axis d of 100 entries."""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def locate(program, TILE: tl.constexpr):
    """The batch, the row and the tile of a program."""
    tiles = tl.cdiv(100, TILE)
    return program // (1 * tiles), program // tiles % 1, program % tiles


@triton.jit
def load_inputs(pointers, place, row, tile, TILE: tl.constexpr):
    """The inputs of a token."""
    at_d = tile * TILE + tl.arange(0, TILE)
    a_2 = tl.load(pointers[0] + place * 100 + at_d, mask=at_d < 100, other=0.0)
    b = tl.load(pointers[1] + place * 100 + at_d, mask=at_d < 100, other=0.0)
    return (a_2.to(tl.float32), b.to(tl.float32))


@triton.jit
def load_constants(pointers, row, tile, TILE: tl.constexpr):
    """What all tokens share."""
    return ()


@triton.jit
def load_states(pointers, place, row, tile, TILE: tl.constexpr):
    """States."""
    at_d = tile * TILE + tl.arange(0, TILE)
    h = tl.load(pointers[0] + place * 100 + at_d, mask=at_d < 100, other=0.0)
    return (h.to(tl.float32),)


@triton.jit
def load_cotangents(pointers, place, row, tile, TILE: tl.constexpr):
    """The cotangents of a token's outputs."""
    at_d = tile * TILE + tl.arange(0, TILE)
    out = tl.load(pointers[0] + place * 100 + at_d, mask=at_d < 100, other=0.0)
    return (out.to(tl.float32),)


@triton.jit
def store_outputs(pointers, values, place, row, tile, TILE: tl.constexpr):
    """The outputs of a token."""
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(pointers[0] + place * 100 + at_d, values[0], mask=at_d < 100)


@triton.jit
def store_states(pointers, values, place, row, tile, TILE: tl.constexpr):
    """States."""
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(pointers[0] + place * 100 + at_d, values[0], mask=at_d < 100)


@triton.jit
def store_gradients(pointers, values, place, tokens, row, tile, TILE: tl.constexpr):
    """The cotangents of a token's inputs: [programs that share one, tokens, …]."""
    at_d = tile * TILE + tl.arange(0, TILE)
    tl.store(pointers[0] + (0 * tokens + place) * 100 + at_d, values[0], mask=at_d < 100)
    tl.store(pointers[1] + (0 * tokens + place) * 100 + at_d, values[1], mask=at_d < 100)


@triton.jit
def store_constants(pointers, values, place, row, tile, TILE: tl.constexpr):
    """The cotangents of what all tokens share: [batch, programs that share one, …]."""


@triton.jit
def zero_states(TILE: tl.constexpr):
    """Zeros."""
    return (tl.full((TILE,), 0.0, tl.float32),)


@triton.jit
def add_states(x, y, TILE: tl.constexpr):
    """A sum."""
    return (x[0] + y[0],)


@triton.jit
def zero_constants(TILE: tl.constexpr):
    """Zeros."""
    return ()


@triton.jit
def add_constants(x, y, TILE: tl.constexpr):
    """A sum."""
    return ()


@triton.jit
def choose_states(flag, yes, no, TILE: tl.constexpr):
    """`yes` where the flag is set."""
    return (tl.where(flag, yes[0], no[0]),)


@triton.jit
def token(state, given, shared, tile, TILE: tl.constexpr):
    """The states after a token, and its outputs."""
    h = state[0]
    a_2 = given[0]
    b = given[1]
    out = a_2 * h + b
    return (out,), (out,)


@triton.jit
def advance(state, given, shared, tile, TILE: tl.constexpr):
    """The states after a token."""
    h = state[0]
    a_2 = given[0]
    b = given[1]
    return (a_2 * h + b,)


@triton.jit
def reverse(old, state, given, shared, known, flow, tile, TILE: tl.constexpr):
    """The cotangents of the states before a token, of its inputs and of what all tokens share."""
    h = old[0]
    a_2 = given[0]
    d_out = known[0]
    d_h = flow[0]
    d_b = d_h + d_out
    return (d_b * a_2,), (d_b * h, d_b), ()
