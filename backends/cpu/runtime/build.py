"""Building a unit with the system's C++ compiler, once for each text, compiler, set of flags and processor."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fno-tree-loop-distribute-patterns",  # calls of memset would keep sums out of registers
    "-shared",
    "-fPIC",
)
# For this very processor and with its threads, or with less where a compiler lacks that.
WAYS = (("-march=native", "-fopenmp"), ("-march=native", "-fopenmp-simd"), ("-fopenmp-simd",))
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 600  # seconds


class NoCompiler(RuntimeError):
    """There is no C++ compiler, or it cannot build the unit; the text says what to do."""


def library(text: str, number: str) -> ctypes.CDLL:
    """The unit over numbers of a C++ type (`float`, `double`), built if it has not been before."""
    return _loaded(text, number, _compiler(), _folder())


@cache
def _loaded(text: str, number: str, compiler: str, folder: Path) -> ctypes.CDLL:
    flags = (*FLAGS, *os.environ.get("SEQC_CXXFLAGS", "").split(), f"-DREAL={number}")
    key = hashlib.sha256("\0".join((text, _version(compiler), *flags, _processor())).encode())
    path = folder / f"{key.hexdigest()[:32]}.so"
    try:
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _build(text, (compiler, *flags), path)
        found = _opened(path)
        return ctypes.CDLL(str(_build(text, (compiler, *flags), path))) if found is None else found
    except OSError as error:
        raise NoCompiler(
            f"what is built cannot be kept in `{folder}`: {error}; name a folder in SEQC_CACHE"
        ) from error


def _opened(path: Path) -> ctypes.CDLL | None:
    """The library in a file, if there is one in it."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _build(text: str, command: tuple[str, ...], path: Path) -> Path:
    """Compile into a folder of our own, then move: whoever is killed, or builds the same, leaves nothing half made."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=path.parent) as place:
        source, made = Path(place) / "unit.cpp", Path(place) / "unit.so"
        source.write_text(text, encoding="utf-8")
        failed = ""
        for way in WAYS:
            done = _run((*command, *way, str(source), "-o", str(made)))
            if done.returncode == 0:
                os.replace(made, path)
                return path
            failed = failed or done.stderr
        raise NoCompiler(f"`{command[0]}` cannot build the unit: {failed.strip()[:2000]}")


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
