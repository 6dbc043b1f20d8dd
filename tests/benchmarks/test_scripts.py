"""The benchmarks are listed where one looks for them, and compare like with like."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import seqc
from tests.parity.references import doubles
from tests.parity.specs import apply_model, close, random

ROOT = Path(__file__).resolve().parents[2]


def repeated() -> list[str]:
    """What `make bench` runs."""
    found = re.search(r"^BENCHMARKS \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1].split()


@pytest.mark.parametrize("name", repeated())
def test_a_benchmark_is_a_script_with_a_row(name: str) -> None:
    assert (ROOT / "benchmarks" / f"{name}.py").is_file()
    assert f"`python -m benchmarks.{name}`" in (ROOT / "benchmarks" / "README.md").read_text()


def test_rwkv_4_is_that_of_transformers() -> None:
    transformers: Any = pytest.importorskip("transformers")
    from benchmarks.models import rwkv

    sizes = {"vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2, "context_length": 32}
    config = transformers.RwkvConfig(**sizes, rescale_every=0)
    tokens = torch.randint(11, (2, 13), generator=torch.Generator().manual_seed(0))
    with doubles():
        theirs: Any = transformers.RwkvForCausalLM(config).double().eval()
        for index, weight in enumerate(theirs.parameters()):
            weight.copy_(0.4 * random(*weight.shape, seed=index + 1))
        want = theirs(tokens, use_cache=False).logits
    ours = seqc.load(ROOT / "benchmarks" / "rwkv4.seq").model(vocab=11, d=16, layers=2)
    close(apply_model(ours.model, tokens, rwkv(theirs)), want, 1e-10)
