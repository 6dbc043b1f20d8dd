"""`python -m tools.zoo`: examine the specs that have changed since, or are emitted otherwise; write record and page.

Every spec is examined in a process of its own and recorded when it is done, so a run that is broken off goes on where
it stopped. With `--facts` nothing is examined: classes, sizes and references are brought up to date.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from seqc import bundled, zoo
from seqc.passes.cost import SEQUENCE
from seqc.spec import load
from seqc.zoo import Findings, Measured, Record, Row
from tools.zoo import digest
from tools.zoo.page import page
from tools.zoo.references import references

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "zoo.md"
Measure = Callable[[str], tuple[str, dict[str, Findings]]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.zoo", description=__doc__)
    parser.add_argument("--facts", action="store_true", help="examine nothing")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument(
        "--limit", type=int, default=3600, metavar="SECONDS", help="the longest that a spec may take"
    )
    parser.add_argument("only", nargs="*", metavar="SPEC", help="paths below specs/; all by default")
    given = parser.parse_args(arguments)
    paths = [path for path in bundled.specs() if not given.only or zoo.key(path) in given.only]
    record = refreshed(zoo.read())
    failed = [] if given.facts else examine(record, paths, given.jobs, lambda path: run(path, given.limit))
    write(refreshed(record))
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def refreshed(record: Record) -> Record:
    """The rows of specs that are there, with the facts of today."""
    kept = {zoo.key(path): path for path in bundled.specs()}
    return {key: {**row, "facts": zoo.facts(load(kept[key]))} for key, row in record.items() if key in kept}


def examine(record: Record, paths: Sequence[Path], jobs: int, measure: Measure) -> list[str]:
    """Measure what is new or has changed, and record each as it is done; says what could not be measured."""
    due = [path for path in paths if is_due(path, record.get(zoo.key(path)))]
    print(f"{len(paths) - len(due)} specs are as they were examined, {len(due)} are to be examined")
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        started = {pool.submit(_measured, path, measure): path for path in due}
        for number, done in enumerate(as_completed(started), 1):
            path = started[done]
            try:
                row = done.result()
            except (subprocess.SubprocessError, ValueError) as error:
                failed.append(f"{zoo.key(path)}: {error}")
                continue
            record[zoo.key(path)] = Row(**row, facts=zoo.facts(load(path)))
            write(record)
            print(f"{number}/{len(due)}  {zoo.key(path)}: {row['seconds']:.0f} s", flush=True)
    return failed


def is_due(path: Path, row: Row | None) -> bool:
    if row is None or (row["text"], row["judge"]) != (digest.of_text(path), digest.of_judge()):
        return True
    return row["emitted"] != digest.of_emitted(path)


def _measured(path: Path, measure: Measure) -> Measured:
    """In a thread, so nothing of the compiler is called here."""
    text, start = digest.of_text(path), time.perf_counter()
    emitted, findings = measure(zoo.key(path))
    seconds = round(time.perf_counter() - start, 1)
    return Measured(text=text, emitted=emitted, judge=digest.of_judge(), seconds=seconds, findings=findings)


def run(path: str, limit: float) -> tuple[str, dict[str, Findings]]:
    """`tools.zoo.measure` in a process of its own, on one thread."""
    command = [sys.executable, "-m", "tools.zoo.measure", path]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **threads}, capture_output=True, text=True, timeout=limit
    )
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    emitted, findings = json.loads(done.stdout.splitlines()[-1])
    return emitted, findings


def write(record: Record) -> None:
    """The record and the page that shows it; each is whole at every moment."""
    ordered = {key: record[key] for key in sorted(record)}
    data = {"version": zoo.VERSION, "specs": ordered}
    _replace(zoo.file(), json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    _replace(PAGE, shown(ordered))


def shown(record: Record) -> str:
    """The page of a record, with the references of today's tests."""
    known = {zoo.key(path) for path in bundled.specs()}
    return page(record, references(ROOT / "tests" / "parity", known), SEQUENCE)


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
