"""Rounding a matrix to few bits.

A matrix is `[inputs, outputs]`. Codes are signed and their scales symmetric: a weight is its code times its scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..builder import Array

CHANNEL_LIMIT = 63  # two products of unsigned and signed bytes then fit into 16 bits, which AVX2 adds them in
BYTE_LIMIT = 127
SHARES = np.linspace(
    0.7, 1.1, 9, dtype=np.float32
)  # of the scale at which the largest weight of a block is exact
DAMPING = 0.01  # of the mean energy, added to every input's


@dataclass(frozen=True, slots=True)
class Channels:
    """One scale an output: codes `[inputs, outputs]` int8, scales `[outputs]` float32."""

    codes: Array
    scales: Array

    def matrix(self) -> Array:
        """What the codes stand for, `[inputs, outputs]`."""
        return self.codes * self.scales


@dataclass(frozen=True, slots=True)
class Blocks:
    """One scale for each `block` inputs of an output.

    Codes are `[outputs, blocks, block]` int8, scales `[outputs, blocks]`; the last block is filled up with zeros.
    """

    codes: Array
    scales: Array
    bits: int
    inputs: int

    def matrix(self) -> Array:
        """What the codes stand for, `[inputs, outputs]`."""
        rows: Array = self.codes * self.scales[..., None]
        return rows.reshape(len(rows), -1)[:, : self.inputs].T

    def packed(self) -> Array:
        """Unsigned codes `[outputs, blocks, bytes]`, the first of two in a byte in its low half."""
        unsigned = (self.codes.astype(np.int16) + (1 << (self.bits - 1))).astype(np.uint8)
        return unsigned if self.bits == 8 else unsigned[..., 0::2] | unsigned[..., 1::2] << 4


def round_rows(rows: Array, block: int | None) -> Array:
    """Inputs `[tokens, inputs]` as the products round them: to bytes, each row or each `block` of it with a scale."""
    width = rows.shape[1]
    parts = rows[:, None] if block is None else _blocks(rows.T, block)
    scales = _positive(np.abs(parts).max(-1, keepdims=True) / BYTE_LIMIT)
    return (np.rint(parts / scales) * scales).reshape(len(rows), -1)[:, :width]


def round_channels(matrix: Array) -> Channels:
    """Every output with its largest weight at the limit."""
    scales = _positive(np.abs(matrix).max(0) / CHANNEL_LIMIT)
    return Channels(np.rint(matrix / scales).astype(np.int8), scales)


def round_blocks(matrix: Array, bits: int, block: int) -> Blocks:
    """Each block with the scale that loses least."""
    codes, scales = _fitted(_blocks(matrix, block), bits)
    return Blocks(codes, scales, bits, len(matrix))


def round_with_feedback(matrix: Array, bits: int, block: int, moments: Array) -> Blocks:
    """GPTQ (Frantar et al. 2023): what rounding an input loses is made up for by the inputs after it.

    `moments` `[inputs, inputs]` are the mean products of the inputs.
    """
    inputs, outputs = matrix.shape
    damped = moments + np.diag(np.full(inputs, DAMPING * np.trace(moments) / inputs + 1e-12))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, energy = matrix.astype(np.float64), np.diag(damped)
    count = -(-inputs // block)
    codes = np.zeros((outputs, count, block), np.int8)
    scales = np.zeros((outputs, count), np.float32)
    for place in range(count):
        start, stop = place * block, min((place + 1) * block, inputs)
        importance = _blocks(energy[start:stop, None], block)
        scales[:, place] = _fitted(_blocks(left[start:stop], block), bits, importance)[1][:, 0]
        lost = np.zeros((stop - start, outputs))
        for row in range(start, stop):
            code = _codes(left[row], scales[:, place], bits)
            codes[:, place, row - start] = code
            lost[row - start] = (left[row] - code * scales[:, place]) / upper[row, row]
            left[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], lost[row - start])
        left[stop:] -= upper[start:stop, stop:].T @ lost
    return Blocks(codes, scales, bits, inputs)


def _fitted(weights: Array, bits: int, importance: Array | None = None) -> tuple[Array, Array]:
    """Codes and scales of `weights` `[outputs, blocks, block]`, by the least square error, weighed by `importance`."""
    low, high = weights.min(-1), weights.max(-1)
    # The longer side gets the code that the shorter one does not have.
    exact = np.where(high > -low, high, low) / -(1 << (bits - 1))
    exact = np.where(exact == 0, 1, exact)
    ratios = weights / exact[..., None]
    best, shares = np.full(exact.shape, np.inf), np.ones_like(exact)
    for share in SHARES if bits < 8 else (1.0,):  # at 8 bits the search gains nothing
        lost = np.square(ratios - _codes(ratios, share, bits) * share)
        error = (lost if importance is None else lost * importance).sum(-1)
        better = error < best
        best[better], shares[better] = error[better], share
    return _codes(ratios, shares[..., None], bits), (exact * shares).astype(np.float32)


def _codes(weights: Array, scales: Array | float, bits: int) -> Array:
    top = 1 << (bits - 1)
    return np.clip(np.rint(weights / scales), -top, top - 1).astype(np.int8)


def _blocks(matrix: Array, block: int) -> Array:
    """`[inputs, outputs]` as `[outputs, blocks, block]`, filled up with zeros."""
    padded = np.pad(matrix, ((0, -len(matrix) % block), (0, 0)))
    return np.ascontiguousarray(padded.T).reshape(matrix.shape[1], -1, block)


def _positive(scales: Array) -> Array:
    return np.where(scales > 0, scales, 1).astype(np.float32)
