"""What compiled kernels take, as benchmarks/results/kernels.json has it: by spec, rule, kernel, and target and type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
FILE = RESULTS / "kernels.json"
VERSION = 2


class Taken(NamedTuple):
    """What a kernel takes: registers of a thread and the bytes that it spills, bytes of shared memory of a program, and
    how many instructions of the code multiply matrices. `digest` says what was compiled, `warps`, `stages` and `tile`
    how it is launched.
    """

    digest: str
    warps: int
    stages: int
    tile: int
    registers: int
    spills: int
    shared: int
    dots: int


Row = dict[str, dict[str, dict[str, Taken]]]  # of a spec, by rule, by kernel, by `of(target, dtype)`
Record = dict[str, Row]


def of(target: str, dtype: str) -> str:
    """`sm_90 bfloat16`"""
    return f"{target} {dtype}"


def read(file: Path = FILE) -> Record:
    """The rows by path below specs/; empty where nothing was recorded."""
    if not file.is_file():
        return {}
    data = json.loads(file.read_text(encoding="utf-8"))
    if data["version"] != VERSION:
        return {}
    return {spec: rows(rules) for spec, rules in data["specs"].items()}


def rows(data: Any) -> Row:
    """A row as JSON has it."""
    return {
        rule: {
            kernel: {each: Taken(*facts) for each, facts in found.items()}
            for kernel, found in kernels.items()
        }
        for rule, kernels in data.items()
    }


def known(record: Record) -> dict[str, Taken]:
    """What was compiled, by digest."""
    return {taken.digest: taken for row in record.values() for taken in _all(row)}


def _all(row: Row) -> list[Taken]:
    return [taken for kernels in row.values() for found in kernels.values() for taken in found.values()]


def merged(old: Row, new: Row) -> Row:
    """The kernels of `new`, with what is known of the same for other targets."""
    return {
        rule: {kernel: {**old.get(rule, {}).get(kernel, {}), **found} for kernel, found in kernels.items()}
        for rule, kernels in new.items()
    }


def text(record: Record) -> str:
    """A line a kernel."""
    lines = [f'{{"version": {VERSION}, "specs": {{']
    for k, spec in enumerate(ordered := sorted(record)):
        kernels = [
            (rule, kernel, found) for rule, each in record[spec].items() for kernel, found in each.items()
        ]
        lines.append(f" {json.dumps(spec)}: {{")
        for i, (rule, kernel, found) in enumerate(kernels):
            begins = i == 0 or kernels[i - 1][0] != rule
            ends = i + 1 == len(kernels) or kernels[i + 1][0] != rule
            start = f"{json.dumps(rule)}: {{" if begins else ""
            end = ("}" if ends else "") + ("," if i + 1 < len(kernels) else "")
            lines.append(f"  {start}{json.dumps(kernel)}: {json.dumps(found)}{end}")
        lines.append(" }" + ("," if k + 1 < len(ordered) else ""))
    return "\n".join([*lines, "}}"]) + "\n"
