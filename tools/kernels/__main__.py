"""`python -m tools.kernels`: compile the kernels that have changed; write kernels.json and .md in benchmarks/results/.

Every spec is compiled in a process of its own and recorded when it is done, so a run that is broken off goes on where
it stopped. Kernels are those of every rule at the sizes that `seqc explain` uses, without resets.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from seqc import bundled, zoo
from tools.kernels import record, units
from tools.kernels.page import page
from tools.kernels.record import Record, Row

PAGE = record.FILE.with_suffix(".md")
TARGETS, DTYPES = "sm_90,sm_80,gfx942", "bfloat16,float16,float32"
PROCESSES = get_context("forkserver")  # what a process needs is imported once
Measure = Callable[[str], tuple[Row, list[str]]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.kernels", description=__doc__)
    parser.add_argument("--targets", default=TARGETS, metavar="NAMES", help=f"by default {TARGETS}")
    parser.add_argument("--dtypes", default=DTYPES, metavar="NAMES", help=f"of inputs; by default {DTYPES}")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument(
        "--limit", type=int, default=3600, metavar="SECONDS", help="the longest that a spec may take"
    )
    parser.add_argument("only", nargs="*", metavar="SPEC", help="paths below specs/; all by default")
    given = parser.parse_args(arguments)
    paths = [zoo.key(path) for path in bundled.specs()]
    kept = {path: row for path, row in record.read().items() if path in paths}
    paths = [path for path in paths if not given.only or path in given.only]
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TRITON_INTERPRET": "0"}
    PROCESSES.set_forkserver_preload(["tools.kernels.units", "triton"])
    wanted = given.targets.split(","), given.dtypes.split(",")
    failed = examine(kept, paths, given.jobs, lambda path: run(path, *wanted, given.limit))
    write(kept)
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def examine(found: Record, paths: Sequence[str], jobs: int, measure: Measure) -> list[str]:
    """Record what the kernels of every spec take, each as it is done; says what could not be compiled."""
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        started = {pool.submit(measure, path): path for path in paths}
        for number, done in enumerate(as_completed(started), 1):
            path = started[done]
            try:
                row, reasons = done.result()
            except ValueError as error:
                failed.append(f"{path}: {error}")
                continue
            failed += [f"{path}: {reason}" for reason in reasons]
            found[path] = record.merged(found.get(path, {}), row)
            write(found)
            print(f"{number}/{len(paths)}  {path}", flush=True)
    return failed


def run(path: str, targets: Sequence[str], dtypes: Sequence[str], limit: float) -> tuple[Row, list[str]]:
    """`units.measure` in a process of its own, so that no kernel can take the others down with it."""
    receive, send = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=units.measure, args=(send, path, targets, dtypes), daemon=True)
    process.start()
    send.close()
    try:
        if not receive.poll(limit):
            raise ValueError(f"not done within {limit:g} seconds")
        found: tuple[Row, list[str]] = receive.recv()
        return found
    except EOFError:
        raise ValueError("its process ended before it was done") from None
    finally:
        process.kill()


def write(found: Record) -> None:
    """The record and the page that shows it; each is whole at every moment."""
    _replace(record.FILE, record.text(found))
    _replace(PAGE, page(found))


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(f"{path.suffix}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
