"""benchmarks/results/kernels.md: how many kernels spill, or do not fit; and what each takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tools.kernels.record import Record, Taken
from tools.kernels.units import TARGETS

HEAD = """\
# What kernels take

Made by `python -m tools.kernels` (`make kernels`), without a GPU: the kernels of every rule of [specs/](../../specs) at
the sizes that `seqc explain` uses, keys, values and widths of 64, compiled ahead of time with Triton. What is not here
runs in PyTorch, or has not been compiled yet.

A cell has the registers of a thread, the bytes that it spills if there are any, the bytes of shared memory of a program
and, behind dots, how many instructions of the code multiply matrices, and how the kernel is launched: `8w` are 8 warps,
`32t` is a tile of 32 entries of the axis that is cut.
"""
Cell = tuple[str, str, str, str, Taken]  # spec, rule, kernel, target and type, what it takes


def page(record: Record) -> str:
    cells = list(_cells(record))
    columns = list(dict.fromkeys(each for *_, each, _ in cells))
    parts = [HEAD, *_counts(cells, columns), *_faults(cells)]
    for spec in sorted(record):
        if any(record[spec].values()):
            parts += [f"\n## {spec}\n", *_table(record, spec, columns)]
    return "\n".join(parts) + "\n"


def _cells(record: Record) -> Iterator[Cell]:
    for spec in sorted(record):
        for rule, kernels in record[spec].items():
            for kernel, found in kernels.items():
                for each, taken in found.items():
                    yield spec, rule, kernel, each, taken


def fits(each: str, taken: Taken) -> bool:
    """Whether a program for a target and a type has the shared memory that it needs."""
    return taken.shared <= TARGETS[each.partition(" ")[0]].shared


def _counts(cells: Iterable[Cell], columns: Iterable[str]) -> Iterator[str]:
    yield _line(("for", "kernels", "without spills", "most registers", "beyond shared memory"))
    yield _line("---" for _ in range(5))
    for column in columns:
        own = [taken for *_, each, taken in cells if each == column]
        facts = (
            len(own),
            sum(not taken.spills for taken in own),
            max(taken.registers for taken in own),
            sum(not fits(column, taken) for taken in own),
        )
        yield _line((column, *map(str, facts)))


def _faults(cells: Iterable[Cell]) -> Iterator[str]:
    bad = [cell for cell in cells if cell[4].spills or not fits(cell[3], cell[4])]
    if not bad:
        return
    yield "\n## Spills, and kernels that need more shared memory than there is\n"
    yield _line(("spec", "kernel", "for", "registers", "spills", "shared"))
    yield _line("---" for _ in range(6))
    for spec, _, kernel, each, taken in bad:
        facts = (taken.registers, taken.spills, taken.shared)
        yield _line((spec, f"`{kernel}`", each, *map(str, facts)))


def _table(record: Record, spec: str, columns: Iterable[str]) -> Iterator[str]:
    kernels = [(name, found) for each in record[spec].values() for name, found in each.items()]
    used = [column for column in columns if any(column in found for _, found in kernels)]
    yield _line(("kernel", *used))
    yield _line("---" for _ in ("kernel", *used))
    for name, found in kernels:
        yield _line((f"`{name}`", *(_shown(found[each]) if each in found else "–" for each in used)))


def _shown(taken: Taken) -> str:
    spills = f" ({taken.spills} spilled)" if taken.spills else ""
    dots = f" · {taken.dots}" if taken.dots else ""
    tile = f" {taken.tile}t" if taken.tile > 1 else ""
    return f"{taken.registers}{spills}, {taken.shared:,}{dots} · {taken.warps}w{tile}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
