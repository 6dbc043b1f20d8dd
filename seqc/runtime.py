"""Running what `seqc compile` wrote: `seqc run`, and the demo's last act.

A runner hides which backend computes: all are fed tokens and give logits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqc.backend import Runner, Runs, backends
from seqc.errors import UserError
from seqc.output import read_manifest
from seqc.sampling import Chooser, Sampling

Array = npt.NDArray[Any]


def continued(
    runner: Runner, prompt: Sequence[int], length: int, choose: Chooser | None = None
) -> Iterator[int]:
    """The tokens that follow a prompt; the likeliest ones without `choose`, of equally likely ones the lowest."""
    choose = choose or Sampling().chooser()
    outputs, state = runner.prefill(np.array([list(prompt)], np.int64))
    logits = logits_of(outputs)[:, -1]
    for produced in range(length):
        token = choose(logits[0])
        yield token
        if produced + 1 < length:
            outputs, state = runner.step(np.array([token]), state)
            logits = logits_of(outputs)


def vocabulary_of(runner: Runner) -> int:
    """How many tokens a model tells apart."""
    return int(logits_of(runner.prefill(np.zeros((1, 1), np.int64))[0]).shape[-1])


def throughput(runner: Runner, prompt: int = 512, steps: int = 64, repeats: int = 3) -> tuple[float, float]:
    """Tokens a second of a prefill of `prompt` tokens and of `steps` single ones; the median of `repeats`."""
    vocabulary = vocabulary_of(runner)
    tokens = np.arange(max(prompt, steps), dtype=np.int64)[None] % vocabulary
    prefills: list[float] = []
    decodes: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        _, state = runner.prefill(tokens[:, :prompt])
        middle = time.perf_counter()
        for step in range(steps):
            _, state = runner.step(tokens[:, step], state)
        prefills.append(prompt / (middle - start))
        decodes.append(steps / (time.perf_counter() - middle))
    # The first round warms up.
    return sorted(prefills[1:])[repeats // 2], sorted(decodes[1:])[repeats // 2]


def load_runner(folder: Path, threads: int | None = None) -> Runner:
    """The runner for a folder that `seqc compile` wrote."""
    manifest = read_manifest(folder)
    if manifest.get("kind") != "tokens":
        raise UserError(f"`{folder}` does not hold a model of tokens")
    maker = backends().get(str(manifest.get("target")))
    if not isinstance(maker, Runs):
        able = " or ".join(name for name, own in backends().items() if isinstance(own, Runs))
        raise UserError(f"seqc cannot run what is in `{folder}`", f"compile it for {able}")
    try:
        return maker.runner(folder, threads)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise damage(folder, error) from error


def damage(folder: Path, error: Exception) -> UserError:
    """What to say of a folder whose files are not what its manifest says."""
    words = f"{type(error).__name__}: {error}".splitlines()[0]
    return UserError(f"`{folder}` is damaged ({words})", "compile the spec again")


def logits_of(outputs: Mapping[str, Array]) -> Array:
    """The only output of a model of tokens."""
    (logits,) = outputs.values()
    return logits
