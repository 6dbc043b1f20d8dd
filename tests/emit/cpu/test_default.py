"""Modules of `.torch()`: fused loops where they pay, made no sooner than that, and all that users do with modules."""

from __future__ import annotations

import copy
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqc
from seqc.spec import ModelHandle
from tests.emit.torch.rules import assert_alike, error

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")

SIZES = {
    "hybrid/griffin": {"d": 12, "w": 20, "h": 2, "n": 6, "layers": 1},
    "delta/gated_delta": {"d": 16, "layers": 1},
}
MODELS = list(SIZES)


@cache
def model(path: str) -> ModelHandle:
    return seqc.load(f"specs/{path}.seq").model(**SIZES[path])


def rules(module: nn.Module) -> list[Any]:
    """The rules of a module that have a unit, made or not."""
    return list({id(part.fused): part.fused for part in module.modules() if hasattr(part, "fused")}.values())


def made(module: nn.Module) -> list[str]:
    """Those that are made."""
    return [fused.name for fused in rules(module) if fused.made]


def ready(path: str) -> tuple[Any, Any]:
    """A module whose calls are worth a unit each, and the same in PyTorch."""
    loops, plain = model(path).torch(), model(path).torch(kernels=False)
    loops.load_state_dict(plain.state_dict())
    for fused in rules(loops):
        fused.patience = 0.0
    return loops, plain


def tokens(batch: int, time: int) -> Tensor:
    return torch.randint(256, (batch, time), generator=torch.Generator().manual_seed(time))


class Logits(nn.Module):
    """A model without its states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens)[0]
        return logits


@pytest.mark.parametrize("path", MODELS)
def test_loops_compute_what_pytorch_does(path: str) -> None:
    loops, plain = ready(path)
    given = tokens(2, 70)
    found, wanted = loops(given)[0], plain(given)[0]
    assert made(loops)
    assert_alike(loops, found, plain, wanted)


def test_units_are_made_when_calls_have_lost_what_that_takes() -> None:
    module = model("delta/gated_delta").torch()
    (fused,) = rules(module)
    gain = fused.gain(2, 70, False)
    with torch.no_grad():
        for count in range(1, 4):
            module(tokens(2, 70))
            assert fused.lost == pytest.approx(count * gain)
    assert not fused.made
    fused.patience = 4.5 * gain
    with torch.no_grad():
        module(tokens(2, 70))
        assert not fused.made
        module(tokens(2, 70))
    assert fused.made


def test_a_long_sequence_is_worth_a_unit_at_once() -> None:
    fused = rules(seqc.load("specs/gated/mamba.seq").model(d=1024).torch())[0]
    assert not fused.pays(1, 64)
    assert fused.pays(64, 4096)


def test_what_is_asked_for_is_left_to_pytorch() -> None:
    handle = model("hybrid/griffin")
    assert rules(handle.torch())
    assert not rules(handle.torch(kernels=False))
    assert not rules(handle.torch(mode="loop"))
    assert not rules(handle.torch(mode="scan"))


@pytest.mark.parametrize("path", MODELS)
def test_an_exported_model_takes_any_batch_and_length(path: str) -> None:
    loops, plain = ready(path)
    shape = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("time", min=1)}
    exported = torch.export.export(Logits(loops.eval()), (tokens(2, 9),), dynamic_shapes=(shape,))
    graphs = [
        part.graph for part in exported.graph_module.modules() if isinstance(part, torch.fx.GraphModule)
    ]
    assert any("seqc.cpu_" in str(node.target) for graph in graphs for node in graph.nodes)
    run = exported.module()
    for time in (1, 2, 63, 65, 1000):
        given = tokens(3, time)
        assert error(run(given), plain(given)[0]) < 1e-5


@pytest.mark.parametrize("path", MODELS)
def test_a_compiled_model_is_one_graph_with_the_same_gradients(path: str) -> None:
    loops, plain = model(path).torch(), model(path).torch(kernels=False)
    loops.load_state_dict(plain.state_dict())
    compiled: Any = torch.compile(loops, fullgraph=True, backend="aot_eager")
    given = tokens(2, 9)
    found, wanted = compiled(given)[0], plain(given)[0]
    assert made(loops)
    assert_alike(loops, found, plain, wanted)


def test_gradients_of_a_block_agree_with_differences() -> None:
    block: Any = seqc.load("specs/hybrid/griffin.seq").block("recurrent", d=3, w=4).torch().double()
    for fused in rules(block):
        fused.patience = 0.0
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def values(x: Tensor) -> Tensor:
        y: Tensor = block(x)[0]
        return y

    assert torch.autograd.gradcheck(values, (x,))
    assert made(block)


@pytest.mark.parametrize("path", MODELS)
def test_under_autocast_kinds_are_pytorchs(path: str) -> None:
    loops, plain = ready(path)
    given = tokens(2, 40)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = loops(given)[0], plain(given)[0]
    assert made(loops)
    assert found.dtype == wanted.dtype
    assert error(found.float(), wanted.float()) < 2e-2


def test_copies_keep_their_loops_and_pickles_do_not() -> None:
    loops, plain = ready("hybrid/griffin")
    given = tokens(2, 12)
    wanted = loops(given)[0]
    other = copy.deepcopy(loops)
    with torch.no_grad():
        next(loops.parameters()).zero_()
    assert torch.equal(other(given)[0], wanted)
    again = pickle.loads(pickle.dumps(other))
    assert not rules(again)
    assert torch.equal(again(given)[0], plain(given)[0])


def test_threads_share_what_the_first_one_makes() -> None:
    loops, _ = ready("delta/gated_delta")
    given = tokens(2, 30)

    def run(_: int) -> Tensor:
        y: Tensor = loops(given)[0].detach()
        return y

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))
    assert all(torch.equal(x, found[0]) for x in found)
    assert made(loops)
