"""The kernels of a spec, at the sizes that `seqc explain` uses, and what they are when compiled."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
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

_WORD = re.compile(r"[A-Za-z_]\w*")
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
        """Of everything that the machine code follows from. Comments and functions that are not called do not count."""
        made = self.source
        facts = (
            called(made.text, made.kernel), made.kernel, made.types, made.fixed, made.options, made.widest, self.target,
            version("triton"),
        )  # fmt: skip
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    def compiled(self) -> Taken:
        _, made = aot.fitted(self.source, TARGETS[self.target])
        return Taken(self.digest, *made.choice, made.registers, made.spills, made.shared, made.dots)


def called(text: str, kernel: str) -> str:
    """A kernel of a unit and the functions that it calls, without comments and docstrings."""
    known, wanted, pending = _functions(text), set[str](), [kernel]
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += [word for word in _WORD.findall(known[name]) if word in known]
    return "\n".join(function for name, function in known.items() if name in wanted)


@cache
def _functions(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            node.body = node.body[ast.get_docstring(node) is not None :]
            found[node.name] = ast.unparse(node)
    return found


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
                    made += aot_reads.sources(read.kernels, TARGETS[target], dtype)
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
