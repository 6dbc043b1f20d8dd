"""The errors of the elementary functions in single precision are those that docs/cpu.md states."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.emit.cpu.parts import build

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")

STATED = {
    "exp": 2, "expm1": 2, "log": 2, "erf": 2, "log1p": 3, "tanh": 3, "sigmoid": 3, "softplus": 4, "log_sigmoid": 4,
}  # fmt: skip
FUNCTIONS = Path(build.__file__ or "").with_name("math.h")
PROGRAM = Path(__file__).with_name("measure.cpp")


@pytest.mark.parametrize("stride", [65537, pytest.param(17, marks=pytest.mark.slow)])
def test_elementary_functions_keep_their_stated_errors(stride: int, tmp_path: Path) -> None:
    """Over all signs and exponents, infinities and what is not a number."""
    command = [
        "c++", "-std=c++17", "-O2", "-ffp-contract=fast", "-march=native", f'-DFUNCTIONS="{FUNCTIONS}"',
        f"-DSTRIDE={stride}", str(PROGRAM), "-o", "measure",
    ]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True)
    run = subprocess.run(["./measure"], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = dict(line.split(maxsplit=1) for line in run.stdout.splitlines())
    assert set(found) == set(STATED)
    assert {name: text for name, text in found.items() if not float(text.split()[0]) <= STATED[name]} == {}
