"""How long a rule takes on a CPU, as a fused loop and as PyTorch schedules it: counts, weighed by measured constants.

The counts follow from the rule's structure (`backends/cpu/cost.py`).  The constants are seconds in single precision on
one thread, fitted by `python -m benchmarks.fit_cpu` over the rules of the specs; what is compared are two predictions
for one machine, so that only their ratio has to carry over to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

CACHE = 2**17  # numbers of constants that stay near a processor


class Loop(NamedTuple):
    """A fused loop, a token: operations, and the numbers that they make, by kind.

    `functions` are entries of elementary functions, `products` those that are multiplied and summed.  `moved` are the
    numbers of inputs and outputs, `constants` those that all tokens share; `tensors` are what a call is handed.
    `pieces` can be computed apart.
    """

    operations: float
    numbers: float
    functions: float
    products: float
    moved: float
    constants: float
    tensors: int
    pieces: int


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


LOOP_FORWARD = Weights(5e-5, (1e-5, 5e-8, 3e-9, 3e-10, 2e-9, 1.5e-10, 5e-10, 5e-10))
LOOP_TRAINING = Weights(2e-4, (3e-5, 2e-7, 1.2e-8, 1e-9, 6e-9, 6e-10, 2e-9, 2e-9))
TORCH_FORWARD = Weights(3e-4, (6e-6, 8e-6, 1e-9, 4e-9, 5e-11, 3e-10))
TORCH_TRAINING = Weights(6e-4, (1e-5, 1e-5, 2e-9, 6e-9, 1e-10, 6e-10, 6e-6, 8e-6, 1e-9, 4e-9, 5e-11, 3e-10))
TOKEN_FORWARD = Weights(5e-5, (0.0, 6e-6, 1e-9, 4e-9, 1e-10, 3e-10))
TOKEN_TRAINING = Weights(2e-4, (0.0, 2e-5, 2e-9, 8e-9, 3e-10, 6e-10))


def loop_counts(work: Work, batch: int, time: int, threads: int = 1) -> list[float]:
    """What the weights of a fused loop apply to."""
    own = work.loop
    share = batch * time / min(threads, batch * own.pieces)
    far = own.constants if own.constants > CACHE else 0.0
    each = (1.0, own.operations, own.numbers, own.functions, own.products, own.moved, far)
    return [own.tensors, *(share * count for count in each)]


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
    return weighed(LOOP_TRAINING if training else LOOP_FORWARD, loop_counts(work, batch, time, threads))


def torch_seconds(work: Work, batch: int, time: int, training: bool, threads: int = 1) -> float:
    """PyTorch's schedule for the same."""
    forward = torch_counts(work.forward, batch, time, threads)
    if not training:
        return weighed(TORCH_FORWARD, forward)
    return weighed(TORCH_TRAINING, [*forward, *torch_counts(work.backward, batch, time, threads)])


def token_seconds(work: Work, batch: int, training: bool) -> float:
    """PyTorch's operations for a single token."""
    return weighed(TOKEN_TRAINING if training else TOKEN_FORWARD, torch_counts(work.token, batch, 1))


def read(facts: Any) -> Work:
    """From what JSON keeps of it."""
    loop, *passes = facts
    forward, backward, token = ([Part(*part) for part in parts] for parts in passes)
    return Work(Loop(*loop), forward, backward, token)
