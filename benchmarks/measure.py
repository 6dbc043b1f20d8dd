"""How the benchmarks measure: all sides in turn in one process, medians and spread, freed memory kept."""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The allocator of glibc gives large results back when they are freed, so that each is paged in anew; these keep them.
KEPT = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
MILLISECONDS = 1e3
SECONDS = 2.0


@dataclass(frozen=True)
class Sample:
    """What some runs took: their median, and half the distance between their quartiles."""

    median: float
    spread: float

    @classmethod
    def of(cls, values: list[float]) -> Sample:
        if len(values) < 2:
            return cls(values[0], 0.0)
        lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), (upper - lower) / 2)

    def per(self, work: float) -> Sample:
        """The rate at which `work` was done: so many a unit of what was measured."""
        return Sample(work / self.median, work / self.median * self.spread / self.median)


def in_turn(
    sides: Mapping[str, Callable[[], Any]],
    rounds: int = 7,
    clock: Callable[[], float] = time.process_time,
    least: float = 0.02,
) -> dict[str, Sample]:
    """Milliseconds of one call of each side: every round calls every side, after a round that warms up.

    Processor time by default, which other programs disturb less; of several threads take `time.perf_counter`.  What
    takes less than `least` seconds is called as often as fills them.  With `least` 0 there is no round that warms up.
    """
    calls = {name: _calls(run, clock, least) for name, run in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            start = clock()
            for _ in range(calls[name]):
                run()
            times[name].append(MILLISECONDS * (clock() - start) / calls[name])
    return {name: Sample.of(found) for name, found in times.items()}


def _calls(run: Callable[[], Any], clock: Callable[[], float], least: float) -> int:
    """How many calls fill `least` seconds; the first one builds and warms up, and is enough for what takes seconds."""
    if not least:
        return 1
    start = clock()
    run()
    if clock() - start > SECONDS:
        return 1
    start = clock()
    run()
    return max(1, round(least / max(clock() - start, 1e-7)))


def restart_with_kept_memory(module: str) -> None:
    """Start the script again, as `python -m module` with its arguments, where freed memory is not kept yet.

    The allocator reads its settings when a process starts.
    """
    if any(name not in os.environ for name in KEPT):
        environment = {**os.environ, **KEPT}
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)


def peak_memory(run: Callable[[], Any]) -> float:
    """Megabytes that a call needs beyond what the process holds before it.

    Linux with glibc only, and 0 elsewhere: free memory is given back, and the high-water mark of the resident set is
    set back, first.  Large tensors count fully only if freed memory is given back, so this wants a process of its own
    without `KEPT`.
    """
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return 0.0
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 1024


def _resident(field: str) -> float:
    """A field of the process's status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1])
    return 0.0
