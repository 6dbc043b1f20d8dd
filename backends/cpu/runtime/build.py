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
    "-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
    "-shared", "-fPIC",
)  # fmt: skip
THREADED = "-fopenmp"
ALONE = "-fopenmp-simd"  # without the library for threads
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 600  # seconds


class NoCompiler(RuntimeError):
    """There is no C++ compiler, or it cannot build the unit; the text says what to do."""


def library(text: str, number: str) -> ctypes.CDLL:
    """The unit over numbers of a C++ type (`float`, `double`), built if it has not been before."""
    return _loaded(text, number, _compiler(), _folder())


@cache
def _loaded(text: str, number: str, compiler: str, folder: Path) -> ctypes.CDLL:
    flags = (*FLAGS, *os.environ.get("SEQC_CXXFLAGS", "").split())
    key = hashlib.sha256("\0".join((text, number, _version(compiler), *flags, _processor())).encode())
    path = folder / f"{key.hexdigest()[:32]}.so"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _build(text, number, (compiler, *flags), path)
    return ctypes.CDLL(str(path))


def _build(text: str, number: str, command: tuple[str, ...], path: Path) -> None:
    """Compile into a folder of our own, then move: whoever is killed, or builds the same, leaves nothing half made."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=path.parent) as place:
        source, made = Path(place) / "unit.cpp", Path(place) / "unit.so"
        source.write_text(text, encoding="utf-8")
        failed = ""
        for threads in (THREADED, ALONE):
            done = _run((*command, threads, f"-DREAL={number}", str(source), "-o", str(made)))
            if done.returncode == 0:
                os.replace(made, path)
                return
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
