"""A program through every stage, in a folder where it may write one folder and nothing else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import seqc
from seqc.diagnostics import SpecError
from seqc.errors import UserError
from seqc.explain import text as text_of
from seqc.spec import Handle, Spec, reports
from tests.syntax.test_fuzz import read

SECONDS = 2.0
SMALL = 2**20  # parameters, and bytes of state, of what is written for a test
TARGETS = ("torch", "onnx")

Result = tuple[Spec, list[Handle], list[dict[str, Any]]] | None


def seconds(work: Callable[[], object]) -> float:
    """How much of the processor some work takes: the best of three, for what else runs here slows it down."""
    times: list[float] = []
    while len(times) < 3 and (not times or times[-1] >= SECONDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


class Programs:
    """Takes texts through the compiler; remembers how far they came."""

    def __init__(self, folder: Path, emit_every: int = 50) -> None:
        self.folder, self.emit_every = folder, emit_every
        self.seen = self.right = self.written = 0
        self.slowest = 0.0
        self.compile("rule r(x[d]) { return x }")  # imports are not what is timed

    def run(self, text: str) -> None:
        """The program is understood or refused with a diagnostic, in time; some of those understood are written."""
        self.seen += 1
        try:
            results: list[Result] = []
            taken = seconds(lambda: results.append(self.compile(text)))
            self.slowest = max(self.slowest, taken)
            assert taken < SECONDS, f"{taken:.1f} s"
            read(text)
            found = results[-1]
            if found is not None and self.right % self.emit_every == 0:
                self.emit(*found)
            self.right += found is not None
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{text}") from error

    def compile(self, text: str) -> Result:
        """Parse, check, elaborate, schedule and explain."""
        try:
            spec = seqc.loads(text, "fuzz.seq")
            handles: list[Handle] = [spec.model(name) for name in spec.models]
            handles += [spec.rule(name, **spec.checked.default_sizes(name)) for name in spec.rules]
            facts = reports(handles)
            assert all(map(text_of, facts))
        except SpecError as error:
            _ = str(error)
            return None
        return spec, handles, facts

    def emit(self, spec: Spec, handles: list[Handle], facts: list[dict[str, Any]]) -> None:
        for handle, fact in list(zip(handles, facts, strict=True))[:2]:
            if fact["parameters"]["count"] <= SMALL and fact["states"]["bytes"] <= SMALL:
                for target in TARGETS:
                    self.written += write_alone(self.folder, lambda out, h=handle, t=target: h.write(t, out))


def write_alone(folder: Path, write: Callable[[Path], None]) -> bool:
    """Whether something was written into a folder of its own; nothing is beside it, and nothing at all on error."""
    out = folder / "out"
    try:
        write(out)
    except (SpecError, UserError):
        assert list(folder.iterdir()) == []
        return False
    assert [path.name for path in folder.iterdir()] == ["out"]
    assert (out / "manifest.json").is_file()
    assert not any(path.is_symlink() or path.is_dir() for path in out.iterdir())
    shutil.rmtree(out)
    return True


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.chdir(tmp_path)
    return Programs(tmp_path)
