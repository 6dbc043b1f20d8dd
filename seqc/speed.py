"""How fast a compiled folder runs: what `seqc bench` measures, for every backend whose folders run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqc.backend import Runner, Trains
from seqc.conformance.case import Case
from seqc.conformance.roles import draw, structural_roles
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence

Array = npt.NDArray[Any]

# Every number is the median of so many measurements, each of which takes at least so many seconds.
ROUNDS, LEAST = 5, 0.02
# Decoding is measured over so many tokens.
STEPS = 32


@dataclass(frozen=True, slots=True)
class Time:
    """Milliseconds: the median of some measurements, and half the distance between their quartiles."""

    median: float
    spread: float


def times(
    runner: Runner, whole: Recurrence | Model, length: int, batch: int = 1, *, steps: bool = True
) -> dict[str, Time]:
    """How long a folder takes: `forward` and `backward` for `length` tokens, `step` for one.

    `backward` is forward and backward, where the runner can train; `step` is asked for with `steps`.
    """
    inputs = some_inputs(whole, length, batch)
    found = {"forward": measured(lambda: runner.prefill(inputs))}
    if isinstance(runner, Trains):
        train = runner.train
        found["backward"] = measured(lambda: train(inputs))
    if steps:
        _, state = runner.prefill(inputs)
        singles = [{name: x[:, i % length] for name, x in inputs.items()} for i in range(STEPS)]

        def decode() -> None:
            kept = state
            for single in singles:
                _, kept = runner.step(single, kept)

        whole_time = measured(decode)
        found["step"] = Time(whole_time.median / STEPS, whole_time.spread / STEPS)
    return found


def some_inputs(whole: Recurrence | Model, length: int, batch: int = 1) -> dict[str, Array]:
    """Random inputs `[batch, time, *axes]` in single precision: tokens, gates from 0 to 1, keys of length 1."""
    if isinstance(whole, Model):
        drawn = Case(whole.name, whole, {}).draw(length, batch=batch)
    else:
        drawn = draw(whole.inputs, whole.sizes, structural_roles(whole), batch, length, seed=0)
    return {
        name: x.numpy().astype(np.float32 if x.is_floating_point() else np.int64) for name, x in drawn.items()
    }


def measured(
    run: Callable[[], Any], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> Time:
    """One call, after one to build what is built once and one to see how many calls make a measurement."""
    run()
    start = clock()
    run()
    calls = max(1, round(LEAST / max(clock() - start, 1e-7)))
    taken: list[float] = []
    for _ in range(rounds):
        start = clock()
        for _ in range(calls):
            run()
        taken.append(1e3 * (clock() - start) / calls)
    lower, middle, upper = statistics.quantiles(taken, n=4, method="inclusive")
    return Time(middle, (upper - lower) / 2)
