"""How long a rule takes on a CPU, as a fused loop and as PyTorch schedules it: counts, weighed by measured constants.

The counts follow from the rule's structure (`backends/cpu/cost.py`).  The constants are seconds in single precision on
one thread, fitted by `python -m benchmarks.fit_cpu` over the rules of the specs; what is compared are two predictions
for one machine, so that only their ratio has to carry over to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

CALL = 4  # of the counts of a loop are those of a call
BLOCK = 16  # tokens that are products of matrices together
CLEARLY = 1.1  # how much faster a part of a block has to be: predictions are not exact
CACHE = 2**17  # numbers of constants that stay near a processor


class Loop(NamedTuple):
    """A fused loop, a token: operations, and the numbers that they make, by kind.

    `functions` are entries of elementary functions, `products` those that are multiplied and summed.  `moved` are the
    numbers of inputs and outputs, `constants` those that all tokens share; `pieces` can be computed apart.  A call is
    handed `tensors`, and `states` numbers of states.  Where blocks of tokens are products of matrices, they take
    `forward` of the time that tokens take, and `backward` of that of the way back.
    """

    operations: float
    numbers: float
    functions: float
    products: float
    moved: float
    constants: float
    pieces: int
    tensors: int
    states: float
    forward: float = 1.0
    backward: float = 1.0


class Part(NamedTuple):
    """Operations of PyTorch that go `block` tokens at a time.

    `calls` are made once for all blocks, `steps` for each block in turn.  `numbers`, `functions` and `products` are
    counted a token; `weights` are the numbers of matrices that a step reads for all sequences.
    """

    block: int
    calls: float
    steps: float
    numbers: float
    functions: float
    products: float
    weights: float


class Work(NamedTuple):
    """A rule: as a loop, and in PyTorch a whole sequence, its reverse, and a single token."""

    loop: Loop
    forward: list[Part]
    backward: list[Part]
    token: list[Part]


class Weights(NamedTuple):
    """Seconds: what a call costs whatever it does, then what counts are weighed by."""

    call: float
    counts: tuple[float, ...]


LOOP_FORWARD = Weights(
    1.1e-4, (2.8e-5, 2.9e-9, 2e-11, 1.6e-9, 0, 1.1e-8, 3.5e-11, 7.5e-10, 4e-11, 5.8e-11, 4.5e-11)
)
LOOP_TRAINING = Weights(
    4.4e-4, (1.3e-4, 9.2e-9, 2.1e-9, 9.4e-9, 0, 3.6e-8, 1.7e-10, 2.5e-9, 2e-10, 9.6e-10, 1.6e-10)
)
TORCH_FORWARD = Weights(4.3e-4, (9.4e-6, 5.8e-6, 5.6e-10, 1.6e-9, 4.1e-11, 1.1e-10))
TORCH_TRAINING = Weights(1.7e-3, (9.1e-6, 5.6e-6, 8.2e-10, 7.6e-10, 3.9e-11, 1.3e-10))
# The same of parts of blocks, which read and write more for what they compute, and of PyTorch's operations there
# (`python -m benchmarks.fit_around`).
PART_FORWARD = Weights(3.4e-5, (4e-5, 0, 0, 0, 2.3e-8, 0, 9.3e-11, 1.1e-9, 0, 9.9e-11, 0))
PART_TRAINING = Weights(1.2e-4, (2.6e-4, 5.7e-8, 5.7e-8, 0, 0, 4.4e-8, 3.1e-10, 2.3e-9, 2.2e-11, 1.6e-9, 0))
AROUND_FORWARD = Weights(0, (8e-6, 0, 3.4e-10, 1.5e-9, 2.9e-10, 0))
AROUND_TRAINING = Weights(8.3e-5, (1.1e-5, 0, 7.4e-10, 1.2e-9, 6.8e-10, 0))
TOKEN_FORWARD = Weights(6e-5, (0, 7.5e-6, 5.6e-10, 0, 4.8e-11, 6.3e-11))
TOKEN_TRAINING = Weights(2.3e-4, (0, 2.1e-5, 2.9e-9, 0, 7.6e-11, 1.1e-9))


def loop_counts(work: Work, batch: int, time: int, threads: int = 1) -> list[float]:
    """What the weights of a fused loop apply to."""
    own = work.loop
    share = batch * time / min(threads, batch * own.pieces)
    far = own.constants if own.constants > CACHE else 0.0
    each = (1.0, own.operations, own.numbers, own.functions, own.products, own.moved, far)
    call = (own.tensors, own.constants, batch * own.constants, batch * own.states)
    return [*call, *(share * count for count in each)]


def torch_counts(parts: Sequence[Part], batch: int, time: int, threads: int = 1) -> list[float]:
    """What the weights of PyTorch's operations apply to."""
    found = [0.0] * 6
    for part in parts:
        blocks = -(-time // part.block) if part.block else 1
        share = batch * (blocks * part.block if part.block else time) / threads
        own = (
            part.calls, blocks * part.steps, share * part.numbers, share * part.functions, share * part.products,
            blocks * part.weights,
        )  # fmt: skip
        found = [a + b for a, b in zip(found, own, strict=True)]
    return found


def weighed(weights: Weights, counts: Sequence[float]) -> float:
    return weights.call + sum(w * n for w, n in zip(weights.counts, counts, strict=True))


def loop_seconds(work: Work, batch: int, time: int, training: bool, threads: int = 1) -> float:
    """A fused loop over `time` tokens of `batch` sequences, with the way back if `training`."""
    counts = loop_counts(work, batch, time, threads)
    ahead, there_and_back = (
        sum(w * n for w, n in zip(weights.counts[CALL:], counts[CALL:], strict=True))
        for weights in (LOOP_FORWARD, LOOP_TRAINING)
    )
    gained = (1 - work.loop.forward) * ahead
    if training:
        gained += (1 - work.loop.backward) * (there_and_back - ahead)
    whole = time // BLOCK * BLOCK / time
    return weighed(LOOP_TRAINING if training else LOOP_FORWARD, counts) - whole * gained


def torch_seconds(work: Work, batch: int, time: int, training: bool, threads: int = 1) -> float:
    """PyTorch's schedule for the same."""
    parts = [*work.forward, *work.backward] if training else work.forward
    return weighed(TORCH_TRAINING if training else TORCH_FORWARD, torch_counts(parts, batch, time, threads))


def token_seconds(work: Work, batch: int, training: bool) -> float:
    """PyTorch's operations for a single token."""
    return weighed(TOKEN_TRAINING if training else TOKEN_FORWARD, torch_counts(work.token, batch, 1))


def weights_of(training: bool) -> tuple[float, ...]:
    """What PyTorch's counts are weighed by, in the order of `torch_counts`."""
    return (TORCH_TRAINING if training else TORCH_FORWARD).counts


def saved(work: Work, batch: int, time: int | None, training: bool, threads: int = 1) -> float:
    """The seconds that a fused loop saves, which may be negative; `time` None for a single token."""
    if time is None:
        return token_seconds(work, batch, training) - loop_seconds(work, batch, 1, training)
    other = torch_seconds(work, batch, time, training, threads)
    return other - loop_seconds(work, batch, time, training, threads)


def read(facts: Any) -> Work:
    """From what JSON keeps of it."""
    loop, *passes = facts
    forward, backward, token = ([Part(*part) for part in parts] for parts in passes)
    return Work(Loop(*loop), forward, backward, token)


def spared(work: Work, batch: int, time: int, training: bool, threads: int = 1) -> float:
    """The seconds that a part of a block saves as a unit, against PyTorch's operations."""
    parts = [*work.forward, *work.backward] if training else work.forward
    own, around = (PART_TRAINING, AROUND_TRAINING) if training else (PART_FORWARD, AROUND_FORWARD)
    other = weighed(around, torch_counts(parts, batch, time, threads))
    return other - CLEARLY * weighed(own, loop_counts(work, batch, time, threads))
