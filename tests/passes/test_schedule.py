"""Every schedule means what the definition says: values, final states, splits, resets and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqc.ir.expr import DType
from seqc.ir.recurrence import Recurrence
from seqc.oracle import run_recurrence
from seqc.passes.schedule import schedule
from tests.passes.interpreter import Run, StageRun
from tests.passes.rules import ALL

CLASSES = {
    "linear": "K2", "retnet": "K2", "scalar": "K2", "log_scalar": "K2", "gla": "K3", "log_gla": "K3", "column": "K3",
    "element": "K1", "delta": "K4", "gated_delta": "K4", "kda": "K5", "mapped": "K2", "diagonal": "K1", "lru": "K7",
    "gateloop": "K7", "mamba": "K1", "momentum": "K14", "rank_two": "K5", "rnn": "K11", "delay": "K0", "counter": "K1",
}  # fmt: skip


def draw(
    rec: Recurrence, batch: int, time: int, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    gen = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64)

    inputs = {leaf.name: some(batch, time, *(rec.sizes[a] for a in leaf.axes)) for leaf in rec.inputs}
    for name in ("alpha", "a", "w", "c", "beta", "eta", "r", "dt", "g"):
        if name in inputs:
            inputs[name] = inputs[name].sigmoid()
    for name in ("k", "k2"):
        if name in inputs:
            inputs[name] = inputs[name] / inputs[name].norm(dim=-1, keepdim=True)
    parameters = {p.name: 0.3 * some(*(rec.sizes[a] for a in p.axes)) for p in rec.parameters}
    return inputs, parameters


def close(x: Tensor, y: Tensor, bound: float = 1e-11) -> None:
    assert torch.isfinite(torch.view_as_real(x) if x.is_complex() else x).all()
    assert (x - y).norm() <= bound * (1 + y.norm()), float((x - y).norm() / (1 + y.norm()))


@pytest.mark.parametrize("name", ALL)
def test_class(name: str) -> None:
    plan = schedule(ALL[name])
    if name in CLASSES:
        assert [c.code for c in plan.classes] == [CLASSES[name]], plan.classes


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("time", [1, 2, 67])
def test_values(name: str, time: int) -> None:
    rec = ALL[name]
    inputs, parameters = draw(rec, 2, time)
    expected, final = run_recurrence(rec, inputs, parameters)
    for mode in schedule(rec).modes:
        run = Run(schedule(rec, mode), inputs, parameters)
        for x, y in zip(run.outputs, expected, strict=True):
            close(x, y)
        for state, value in final.items():
            close(run.final[state], value)


@pytest.mark.parametrize("name", ALL)
def test_resets_and_splits(name: str) -> None:
    rec = ALL[name]
    inputs, parameters = draw(rec, 2, 40)
    reset = torch.zeros(2, 40, dtype=torch.bool)
    reset[0, 7] = reset[1, 20] = reset[1, 21] = reset[0, 0] = True
    expected, final = run_recurrence(rec, inputs, parameters, reset=reset)
    for mode in schedule(rec).modes:
        plan = schedule(rec, mode)
        first = Run(plan, {n: x[:, :23] for n, x in inputs.items()}, parameters, reset=reset[:, :23])
        rest = {n: x[:, 23:] for n, x in inputs.items()}
        second = Run(plan, rest, parameters, state=first.final, reset=reset[:, 23:])
        for x, y, z in zip(first.outputs, second.outputs, expected, strict=True):
            close(torch.cat([x, y], 1), z)
        for state, value in final.items():
            close(second.final[state], value)


@pytest.mark.parametrize("name", ALL)
def test_adjoint_is_the_gradient(name: str) -> None:
    """The derived reverse recurrence of every stage against autograd through the same stage."""
    rec = ALL[name]
    inputs, parameters = draw(rec, 2, 37)
    for mode in schedule(rec).modes:
        plan = schedule(rec, mode)
        run = Run(plan, inputs, parameters)
        for stage, adjoint in zip(plan.stages, plan.adjoints, strict=True):
            _check_adjoint(run, stage, adjoint)


def _check_adjoint(run: Run, stage, adjoint) -> None:  # type: ignore[no-untyped-def]
    items = [item.leaf for item in stage.inputs if item.leaf.dtype is not DType.BOOL]
    starts = {s.name: run.final[s.name].detach() * 0.7 for s in stage.carried}
    for start in starts.values():
        start.requires_grad_()
    saved, run.state = run.state, {**run.state, **starts}
    probe = StageRun(run, stage)
    probe.forward()
    values = [probe.values[leaf].detach().clone().requires_grad_() for leaf in items]
    second = StageRun(run, stage)
    second.values.update(probe.values)
    second.values.update(zip(items, values, strict=True))
    for leaf, expr in stage.pre:
        second.values[leaf] = second.eval([expr])[0]
    second.fold()
    reads = {}
    for read in stage.reads:
        value = second.full(read.value, read.leaf.axes if stage.block == 1 else ("%i", *read.leaf.axes))
        reads[read.leaf.name] = value if stage.block == 1 else second.gather(value)
    gen = torch.Generator().manual_seed(1)
    weights = {n: torch.randn(x.shape, generator=gen, dtype=x.dtype) for n, x in reads.items()}
    final = {
        s.name: torch.randn(run.final[s.name].shape, generator=gen, dtype=run.final[s.name].dtype)
        for s in stage.carried
    }
    loss = torch.zeros(())
    for given, found in ((weights, reads), (final, run.final)):
        for name, weight in given.items():
            loss = loss + (weight.conj() * found[name]).real.sum()
    wanted = torch.autograd.grad(loss, [*values, *starts.values()], allow_unused=True, materialize_grads=True)
    got = probe.backward(adjoint, weights, final)
    for leaf, value, want in zip(items, values, wanted, strict=False):
        have = got[leaf.name]
        if value.shape[:2] != have.shape[:2]:
            have = have.sum((0, 1), keepdim=True)
        close(have, want, 1e-10)
    for name, want in zip(starts, wanted[len(values) :], strict=True):
        close(got[f"initial {name}"], want, 1e-10)
    run.state = saved


@pytest.mark.parametrize(
    "name", ["scalar", "gla", "gated_delta", "kda", "diagonal", "element", "log_gla", "log_scalar"]
)
def test_extreme_gates(name: str) -> None:
    rec = ALL[name]
    inputs, parameters = draw(rec, 1, 130)
    for gate in ("alpha", "a", "w", "g", "x"):
        if gate in inputs:
            pattern = torch.tensor([0.0, 1.0, 1e-38, 1.0, 0.999, 1e-3], dtype=torch.float64).repeat(22)[:130]
            shape = (1, 130) + (1,) * (inputs[gate].ndim - 2)
            inputs[gate] = pattern.reshape(shape).expand_as(inputs[gate]).clone()
            if gate in ("g", "x"):
                inputs[gate] = torch.where(inputs[gate] == 0, 80.0, -torch.log(inputs[gate].clamp_min(1e-30)))
    expected, _ = run_recurrence(rec, inputs, parameters)
    for mode in schedule(rec).modes:
        run = Run(schedule(rec, mode), inputs, parameters)
        close(run.outputs[0], expected[0])
