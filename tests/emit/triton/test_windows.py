"""Windows of held memories in blocks, in Triton's interpreter against the token loop: values and gradients."""

from __future__ import annotations

import re

import pytest
import torch

from tests.emit.triton import parts
from tests.emit.triton.conftest import Interpreted
from tests.emit.triton.parts import MAKERS, aot, kernels_of, of_spec, written

pytest.importorskip("triton")

# What is held is found by the copy and the counter.
HELD = """
rule held(q[n], k[n], v[m], theta; c = 16) {
    state  t        = 0
    state  S[m, n]  = 0
    state  H[m, n]  = 0
    let    now = where(t == 0, S, H)
    S'     = 0.9 * S - theta * tanh(sum[n](now * k) - v) * k
    H'     = now
    t'     = (t + 1) % c
    return sum[n](S' * q)
}
"""
# Where a memory answers with exactly what it should, the second derivative of its objective is infinite.
SINGULAR = HELD.replace("tanh(sum[n](now * k) - v)", "e * abs(e)^-0.5 / (0.1 + sumsq(k))^0.5").replace(
    "    S' ", "    let    e = sum[n](now * k) - v\n    S' "
)
MAKERS["held, singular"] = written(SINGULAR, n=3, m=5, c=11)
MAKERS["held"] = written(HELD, n=3, m=18)
MAKERS["held, shorter"] = written(HELD, n=3, m=5, c=11)
MAKERS["held, whole"] = written(HELD, n=3, m=5, c=32)


def compared(name: str, time: int, resets: bool, begun: bool) -> list[float]:
    """As `parts.compared`, where short sequences run in blocks as well."""
    before, parts.rule.LONG = parts.rule.LONG, 1
    try:
        return parts.compared(name, time, resets, begun=begun)
    finally:
        parts.rule.LONG = before


def test_windows_begin_where_the_counter_says(interpreted: Interpreted) -> None:
    """Rows are in the midst of different windows, and sequences begin anew."""
    assert max(interpreted(compared, "held", 21, True, True)) < 2e-6


def test_windows_may_leave_slots_of_a_block_empty(interpreted: Interpreted) -> None:
    assert max(interpreted(compared, "held, shorter", 25, False, True)) < 2e-6


def test_windows_one_after_another_are_blocks(interpreted: Interpreted) -> None:
    """Where none has begun before, and none begins within another, tokens lie as they are."""
    assert max(interpreted(compared, "held, whole", 37, False, False)) < 2e-6


def test_slots_without_a_token_are_not_singular(interpreted: Interpreted) -> None:
    assert max(interpreted(compared, "held, singular", 25, True, True)) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["held, linear", "held, perceptron"])
def test_memories_with_momentum_and_of_two_layers(name: str, interpreted: Interpreted) -> None:
    assert max(interpreted(compared, name, 19, True, True)) < 2e-6


def test_states_that_a_loop_would_spill_run_in_blocks_alone() -> None:
    """24,576 numbers: single tokens run in PyTorch."""
    made = kernels_of(of_spec("deep/titans", "titans", n=32, m=32)())
    assert made.kernel is None
    assert [stage.kernels.face.block for stage in made.stages] == [16]
    assert not made.ready(torch.zeros(1))
    assert [x.kernel for x in aot.sources(made, aot.targets("sm_90")[0], "bfloat16")][:2] == [
        "prepare",
        "sweep",
    ]


def test_states_that_a_loop_would_spill_and_without_blocks_run_in_pytorch() -> None:
    program = parts.scheduled(of_spec("deep/titans", "titans", n=64, m=64, c=1)())
    assert parts.units(program, "a test") == {}


@pytest.mark.parametrize(("window", "blocks"), [(7, []), (8, [16]), (24, [32]), (64, [64])])
def test_windows_that_would_leave_most_slots_empty_run_as_a_loop(window: int, blocks: list[int]) -> None:
    stages = kernels_of(written(HELD, n=3, m=5, c=window)()).stages
    assert [stage.kernels.face.block for stage in stages] == blocks


@pytest.mark.slow
def test_machine_code_spills_nothing() -> None:
    (gpu,) = aot.targets("sm_90")
    (stage,) = kernels_of(of_spec("deep/titans", "titans_linear", n=64, m=64)()).stages
    for kernel in aot.block_kernels(stage.kernels.face):
        assert aot.compiled_blocks(stage.kernels, kernel, gpu).spills == 0


def test_what_is_asked_of_the_gpu_is_in_no_cuda_graph() -> None:
    """Windows are; blocks ask nothing."""

    def recorded(name: str) -> set[bool]:
        (stage,) = kernels_of(MAKERS[name]()).stages
        parts.BACKEND.module(parts.scheduled(MAKERS[name]()))
        own = rf"triton_{stage.kernels.name}_\w{{12}}(_backward)?"
        found = [
            getattr(torch.ops.seqc, name).default for name in dir(torch.ops.seqc) if re.fullmatch(own, name)
        ]
        assert {operator.name().endswith("_backward") for operator in found} == {True, False}
        return {torch.Tag.cudagraph_unsafe not in operator.tags for operator in found}

    assert recorded("held") == {False}
    assert recorded("gated delta") == {True}
