"""The kernels of a spec, at the sizes that `seqc explain` uses, and what they are when compiled."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seqc import bundled
from seqc.spec import load
from tools.kernels import record
from tools.kernels.record import Row, Taken, of

if TYPE_CHECKING:
    from backends.triton import aot, aot_reads  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.module import reads, units  # noqa: TID251
else:
    from seqc.backends.triton import aot, aot_reads
    from seqc.backends.triton.module import reads, units

_COMMENT = re.compile(r"#.*$", re.MULTILINE)
TARGETS = {target.name: target for target in aot.TARGETS}


class Work(NamedTuple):
    """A kernel to compile: whose it is, and for what."""

    rule: str
    kernel: str
    target: str
    dtype: str
    source: aot.Source

    @property
    def digest(self) -> str:
        """Of everything that the machine code follows from. Comments do not count."""
        made = self.source
        facts = (
            _COMMENT.sub("", made.text), made.kernel, made.types, made.fixed, made.warps, self.target, version("triton")
        )  # fmt: skip
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    def compiled(self) -> Taken:
        made = aot.compile_source(self.source, TARGETS[self.target])
        return Taken(self.digest, made.warps, made.registers, made.spills, made.shared, made.dots)


def kernels_of(path: Path, targets: Sequence[str], dtypes: Sequence[str]) -> Iterator[Work]:
    """Every kernel of every rule of a spec; rules that run in PyTorch have none."""
    spec = load(path)
    for rule in spec.rules:
        program = spec.rule(rule, **spec.checked.default_sizes(rule)).program()
        loops, stores = units(program, path.name), reads(program, path.name)
        for target in targets:
            for dtype in dtypes:
                made = [each for unit in loops.values() for each in aot.sources(unit, TARGETS[target], dtype)]
                for read in stores.values():
                    made += aot_reads.sources(read.kernels, TARGETS[target])
                for each in made:
                    yield Work(rule, f"{each.name}.{each.kernel}", target, dtype, each)


def compiled(work: Sequence[Work], known: Mapping[str, Taken]) -> tuple[Row, list[str]]:
    """What the kernels take, compiled where that is not known; and which do not compile, with the reason."""
    from triton.errors import TritonError

    found, done, failed = Row(), dict(known), list[str]()
    for each in work:
        kernels = found.setdefault(each.rule, {}).setdefault(each.kernel, {})
        try:
            taken = done[each.digest] if each.digest in done else each.compiled()
        except (TritonError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            failed.append(f"{each.kernel} for {of(each.target, each.dtype)}: {reason}")
            continue
        done[each.digest] = kernels[of(each.target, each.dtype)] = taken
    return found, failed


def measure(send: Connection, path: str, targets: Sequence[str], dtypes: Sequence[str]) -> None:
    """Send what `compiled` says of a spec; what the record knows already is not compiled again."""
    work = kernels_of(bundled.folder("specs") / path, targets, dtypes)
    send.send(compiled(list(work), record.known(record.read())))
