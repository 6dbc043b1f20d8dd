"""Diagonal states in one pass, in Triton's interpreter against the token loop, values and gradients."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import MAKERS, definitions, functions, kernels_of, written

pytest.importorskip("triton")
BOTH = {"fused", "fused_back"}
NAMES = ("long average", "diagonal", "diagonal, complex", "input held for a while")


@pytest.mark.parametrize("name", NAMES)
def test_one_pass_computes_what_tokens_compute(name: str, interpreted: Interpreted) -> None:
    """70 tokens are no whole number of blocks, and no width is one of tiles."""
    errors, launched = interpreted(parts.in_one_pass, name, 70)
    assert max(errors) < 2e-6
    assert launched == BOTH


@pytest.mark.parametrize("name", ["diagonal", "diagonal, complex"])
def test_one_pass_with_inputs_of_16_bits(name: str, interpreted: Interpreted) -> None:
    errors, launched = interpreted(parts.in_one_pass, name, 35, dtype=torch.bfloat16)
    assert max(errors) < torch.finfo(torch.bfloat16).eps
    assert launched == BOTH


def test_stages_of_one_rule_choose_by_themselves(interpreted: Interpreted) -> None:
    """The maxima and the sum of weights in one pass; what they weigh has products of matrices."""
    assert [{*stage.kernels.face.fused} for stage in kernels_of(MAKERS["stabilised vector"]()).stages] == [
        BOTH,
        BOTH,
        set(),
    ]
    errors, launched = interpreted(parts.in_one_pass, "stabilised vector", 35)
    assert max(errors) < 2e-6
    assert launched > BOTH


def of_h200(_: object) -> int:
    return 132


def test_it_is_chosen_where_programs_keep_the_gpu_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiles as narrow as that takes: 700 channels are 6 tiles of 128, 11 of 64, and 44 of 16."""
    (stage,) = kernels_of(written(parts.AVERAGE, d=700)()).stages
    monkeypatch.setattr(parts.chunk, "multiprocessors", of_h200)
    for batch, tile in ((22, 128), (21, 64), (12, 64), (11, 32), (3, 16), (2, 0)):
        like = SimpleNamespace(shape=(batch,))
        assert [stage.kernels.fused(name, like) for name in sorted(BOTH)] == [tile] * 2
    (matrix,) = kernels_of(written(parts.RETENTION, n=40, m=100)()).stages
    assert not matrix.kernels.fused("fused", SimpleNamespace(shape=(10**6,)))


def test_the_scan_beside_the_kernels_is_what_is_written() -> None:
    """A unit holds the functions that `kernels/fused.py` imports, as `kernels/scan.py` has them for one rule."""
    (stage,) = kernels_of(written(parts.AVERAGE, d=100)()).stages
    found = functions(stage.kernels.text)
    assert functions("\n".join(definitions("scan").values())).items() <= found.items()
    assert (
        functions("\n".join(definitions("fused").values())).items()
        - {*functions(definitions("fused")["fused_back"]).items()}
        <= found.items()
    )
    assert found.keys() >= BOTH
