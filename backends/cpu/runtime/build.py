"""Building a unit with the system's C++ compiler, once for each text, compiler, set of flags and processor."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-tree-loop-distribute-patterns",  # calls of memset would keep sums out of registers
    "-shared",
    "-fPIC",
)
# Whether a product and a sum are rounded once.  Where they are, equal products do not cancel: the derivative of
# conjugate gradients that have converged, and that of a filter's covariance, lose digits.
CONTRACTED, EXACT = "-ffp-contract=fast", "-ffp-contract=off"
# For this very processor and with its threads, or with less where a compiler lacks that.
WAYS = (("-march=native", "-fopenmp"), ("-march=native", "-fopenmp-simd"), ("-fopenmp-simd",))
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 600  # seconds


class NoCompiler(RuntimeError):
    """There is no C++ compiler, or it cannot build the unit; the text says what to do."""


def library(text: str, number: str, exact: bool = False) -> ctypes.CDLL:
    """The unit over numbers of a C++ type (`float`, `double`), built if it has not been before.

    Products are rounded before they are added if `exact`, and in double precision.
    """
    contraction = EXACT if exact or number == "double" else CONTRACTED
    flags = (*FLAGS, contraction, *os.environ.get("SEQC_CXXFLAGS", "").split(), f"-DREAL={number}")
    return _loaded(text, (_compiler(), *flags), _folder())


@cache
def _loaded(text: str, command: tuple[str, ...], folder: Path) -> ctypes.CDLL:
    ways = (word for way in WAYS for word in way)
    parts = (text, *command, *ways, _version(command[0]), _processor())
    key = _digest("\0".join(parts).encode())
    try:
        return _kept(folder, key) or ctypes.CDLL(str(_build(text, command, folder, key)))
    except OSError as error:
        raise NoCompiler(
            f"what is built cannot be kept in `{folder}`: {error}; name a folder in SEQC_CACHE"
        ) from error


def _kept(folder: Path, key: str) -> ctypes.CDLL | None:
    """The library that was built before; a file that does not hold what its name says is none."""
    for path in sorted(folder.glob(f"{key}-*.so")):
        if path.stem == f"{key}-{_digest(path.read_bytes())}":
            return ctypes.CDLL(str(path))
    return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _build(text: str, command: tuple[str, ...], folder: Path, key: str) -> Path:
    """Compile into a folder of our own, then move: whoever is killed, or builds the same, leaves nothing half made."""
    folder.mkdir(parents=True, exist_ok=True)
    _swept(folder)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as place:
        source, made = Path(place) / "unit.cpp", Path(place) / "unit.so"
        source.write_text(text, encoding="utf-8")
        failed = ""
        for way in WAYS:
            done = _run((*command, *way, str(source), "-o", str(made)))
            if done.returncode == 0:
                path = folder / f"{key}-{_digest(made.read_bytes())}.so"
                os.replace(made, path)
                return path
            failed = failed or done.stderr.strip() or f"it ended with the status {done.returncode}"
        raise NoCompiler(f"`{command[0]}` cannot build the unit: {failed[:2000]}")


def _swept(folder: Path) -> None:
    """Remove what builds that were killed have left."""
    oldest = time.time() - len(WAYS) * PATIENCE
    for path in folder.glob(".build-*"):
        if path.stat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)


def _run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompiler(f"`{command[0]}` cannot be run: {error}") from error


def _compiler() -> str:
    """The compiler that `CXX` names, or the first of the usual ones."""
    for name in (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS:
        if found := shutil.which(name):
            return found
        if os.environ.get("CXX"):
            raise NoCompiler(
                f"the C++ compiler `{name}`, which CXX names, is not there; install it or unset CXX"
            )
    raise NoCompiler("there is no C++ compiler: install g++ or clang++, or name one in CXX")


@cache
def _version(compiler: str) -> str:
    return f"{compiler} {_run((compiler, '--version')).stdout}"


@cache
def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {features}"


def _folder() -> Path:
    """`SEQC_CACHE`, or a folder of the user's cache."""
    if own := os.environ.get("SEQC_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seqc" / "cpu"
