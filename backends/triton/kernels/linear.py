"""Along the tokens of a block: scans, shifts, triangular systems, and where sequences begin anew.

Systems are solved by substitution, which is exact for any matrix, where products of its powers are not.
"""

# Functions of a kernel have no types that a checker knows.
# mypy: ignore-errors
# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def inverse_lower(matrix, LENGTH: tl.constexpr):
    """(I - matrix)^-1 for a strictly lower triangular matrix."""
    at = tl.arange(0, LENGTH)
    found = tl.where(at[:, None] == at[None, :], 1.0, 0.0)
    for row in range(1, LENGTH):
        line = tl.sum(tl.where(at[:, None] == row, matrix, 0.0), 0)
        more = tl.sum(line[:, None] * found, 0)
        found += tl.where(at[:, None] == row, more[None, :], 0.0)
    return found


@triton.jit
def inverse_upper(matrix, LENGTH: tl.constexpr):
    """(I - matrix)^-1 for a strictly upper triangular matrix."""
    at = tl.arange(0, LENGTH)
    found = tl.where(at[:, None] == at[None, :], 1.0, 0.0)
    for done in range(1, LENGTH):
        row = LENGTH - 1 - done
        line = tl.sum(tl.where(at[:, None] == row, matrix, 0.0), 0)
        more = tl.sum(line[:, None] * found, 0)
        found += tl.where(at[:, None] == row, more[None, :], 0.0)
    return found


@triton.jit
def nearest(x, PRECISION: tl.constexpr):
    """The nearest numbers that TF32 has, where a product has such factors: it would cut them off, all towards 0."""
    if PRECISION == "tf32":
        x = ((x.to(tl.uint32, bitcast=True) + 0x1000) & 0xFFFFE000).to(tl.float32, bitcast=True)
    return x


@triton.jit
def follow(decay, source, later_decay, later_source):
    """Two steps of `h' = decay · h + source` as one."""
    return later_decay * decay, later_decay * source + later_source


@triton.jit
def running(decay, source, AXIS: tl.constexpr, REVERSE: tl.constexpr):
    """`h[i] = decay[i]·h[i-1] + source[i]` along an axis, from zero; from the end with `REVERSE`."""
    _, found = tl.associative_scan((decay, source), AXIS, follow, reverse=REVERSE)
    return found


@triton.jit
def flags(pointer, place, inside):
    """1 where a token begins a sequence anew, else 0; without a pointer none does."""
    if pointer is None:
        found = tl.full(place.shape, 0.0, tl.float32)
    else:
        found = tl.load(pointer + place, mask=inside, other=0).to(tl.float32)
    return found


@triton.jit
def following(decay, source, AXIS: tl.constexpr, REVERSE: tl.constexpr):
    """The products of all `decay` up to each place, and what `running` is."""
    return tl.associative_scan((decay, source), AXIS, follow, reverse=REVERSE)


@triton.jit
def turn(gate_re, gate_im, re, im, later_re, later_im, more_re, more_im):
    """Two steps of `h' = gate · h + source` as one, over the complex numbers."""
    return (
        later_re * gate_re - later_im * gate_im,
        later_re * gate_im + later_im * gate_re,
        later_re * re - later_im * im + more_re,
        later_re * im + later_im * re + more_im,
    )


@triton.jit
def turning(gate_re, gate_im, re, im, AXIS: tl.constexpr, REVERSE: tl.constexpr):
    """What `following` is over the complex numbers: two parts, and two."""
    return tl.associative_scan((gate_re, gate_im, re, im), AXIS, turn, reverse=REVERSE)


@triton.jit
def moved(x, place, BY: tl.constexpr, LENGTH: tl.constexpr, AXIS: tl.constexpr):
    """`x[i - BY]` along an axis of `LENGTH` entries, and 0 where there is no such entry.

    `place` are the places along that axis, with the other axes of length 1.
    """
    there = place - BY
    inside = (there >= 0) & (there < LENGTH)
    return tl.where(inside, tl.gather(x, tl.broadcast_to(tl.where(inside, there, 0), x.shape), AXIS), 0.0)
