"""`make demo`, with less time to train."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import seqc

ROOT = Path(seqc.__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_demo_runs_to_its_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--seconds", "40", "--length", "20"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "give the same 20 bytes" in done.stdout
    assert {path.name for path in (tmp_path / "demo-out").iterdir()} == {
        "torch",
        "onnx",
        "griffin.safetensors",
    }
