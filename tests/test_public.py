"""What may be relied on: the names that `seqc` offers, and that fetching them is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

import seqc

PUBLIC = ["SpecError", "__version__", "compile", "conform", "load", "loads", "quantize"]


def test_the_public_names_are_these() -> None:
    assert sorted(seqc.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(seqc, name) is not None
    assert name in dir(seqc)


def test_an_unknown_name_is_met_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'laod'; it has SpecError, .*, load"):
        getattr(seqc, "laod")  # noqa: B009


@pytest.mark.parametrize("line", ["import seqc", "import seqc.cli", "from seqc import SpecError, load"])
def test_reading_specs_does_not_import_torch(line: str) -> None:
    code = f"import sys; {line}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
