"""Fused loops against the token loop, values and gradients: states, splits, resets, mapping, threads."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from seqc.bundled import folder
from seqc.conformance.case import cast
from seqc.ir.recurrence import Recurrence
from tests.emit.cpu import zoo
from tests.emit.cpu.parts import BACKEND, fused, plain, scheduled, without_unit
from tests.emit.torch import rules
from tests.emit.torch.rules import error, everything, inputs_of

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")

SLOTS = """
rule slots(q[n], k[n], v[m], g[s]) {
    param  bias[s, m] = normal(0, 0.3)
    state  S[s, m] = bias
    state  K[s, n] = 0
    let    near = softmax[s](sum[n](K * k) + g)
    S'     = (1 - near) * S + near * tanh(v)
    K'     = (1 - near) * K + near * k
    let    top = max[s](sum[n](K' * q))
    return sum[s](exp(sum[n](K' * q) - top) * S')
}
"""
MIXED = """
rule mixed(x[d], f[d]; e = d) {
    param  U[d, e] = normal(0, 0.4)
    param  a[d] = uniform(0.1, 1)
    state  h[d] = 0
    state  c[d] = a
    let    g = sigmoid(f + sum[e](U * h[d -> e]))
    c'     = exp(-a * g) * c + (1 - g) * x
    h'     = tanh(c')
    return h' * where(x > 0, softplus(f), 0.5)
}
"""
TURNED = """
rule turned(x[d], y[e]) {
    state  S[d, e] = 0.1
    S'     = 0.5 * S[d -> e, e -> d] + x * y
    return sum[e](S' * S)
}
"""
COUNTED = """
rule counted(x, g) {
    state  h = 1
    state  n = 0
    n'     = n + 1
    h'     = g * h + x / n'
    return h'
}
"""


NAMED = """
rule double(real[int], after[n], std[int], d_after, exp) {
    state  before[int, n] = 0
    state  from[n] = 0
    let    scratch = exp * from
    before' = d_after * before + real * after
    from'  = sigmoid(scratch) + sum[int](before * std)
    return sum[n](before' * from')
}
"""


def written(text: str, **sizes: float) -> Callable[[], Recurrence]:
    return lambda: seqc.loads(text).rule(**sizes).recurrence


MAKERS: list[Callable[[], Recurrence]] = [
    rules.average,
    rules.tanh_cell,
    lambda: rules.linear_attention(heads=2),
    lambda: rules.gated_delta(vector_gate=True),
    rules.rotation,
    written(SLOTS, n=5, m=7, s=3),
    written(MIXED, d=11),
    written(TURNED, d=3, e=3),
    written(COUNTED),
    written(NAMED, int=3, n=5),
    # Choices by place within choices by place, which GCC 12 makes wrong vector code of if entries are read under them.
    lambda: seqc.load(folder("specs") / "linear/dpfp.seq").rule("dpfp_delta", n=8, m=8, nu=1).recurrence,
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_loop_computes_what_tokens_compute(make: Callable[[], Recurrence]) -> None:
    rec = make()
    loop, tokens = fused(rec).double(), plain(rec).double()
    tokens.load_state_dict(loop.state_dict())
    for time in (1, 2, 70, 131):
        inputs = inputs_of(rec, 2, time)
        for reset in (None, torch.rand(2, time, generator=torch.Generator().manual_seed(5)) < 0.1):
            found, wanted = everything(loop, inputs, reset=reset), everything(tokens, inputs, reset=reset)
            assert all(error(x, y) < 1e-12 for x, y in zip(found, wanted, strict=True))


def test_an_average_worked_by_hand() -> None:
    module = fused(rules.average())
    alpha = torch.tensor([[[0.5, 0.0, 1.0], [0.5, 1.0, 1.0]]])
    b = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 2.0, -1.0]]])
    out, state = module(alpha=alpha, b=b)
    assert out.tolist() == [[[1.25, 1.0, 1.5], [0.625, 3.0, 0.5]]]
    assert state["h"].tolist() == [[0.625, 3.0, 0.5]]


def test_gradients_agree_with_differences() -> None:
    module, inputs = fused(rules.gated_delta()).double(), inputs_of(rules.gated_delta(), 1, 3)

    def outputs(*values: Tensor) -> Tensor:
        out: Tensor = module(**dict(zip(inputs, values, strict=True)))[0]
        return out

    assert torch.autograd.gradcheck(outputs, list(inputs.values()))


@pytest.mark.parametrize("make", [rules.gated_delta, rules.rotation])
def test_a_sequence_may_be_split_anywhere_and_stepped(make: Callable[[], Recurrence]) -> None:
    module = fused(make()).double()
    inputs = {name: x.detach() for name, x in inputs_of(make(), 2, 40).items()}
    whole, end = module(**inputs)
    head, state = module(**{name: x[:, :17] for name, x in inputs.items()})
    tail, state = module(**{name: x[:, 17:] for name, x in inputs.items()}, state=state)
    assert torch.equal(torch.cat([head, tail], 1), whole)
    for t in range(3):
        out, state = module.step(**{name: x[:, t] for name, x in inputs.items()}, state=state)
        again, end = module(**{name: x[:, t : t + 1] for name, x in inputs.items()}, state=end)
        assert error(out, again[:, 0]) < 1e-12


def test_no_tokens_leave_the_state_as_it_is() -> None:
    module, rec = fused(rules.gated_delta()).double(), rules.gated_delta()
    state = {"S": torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)}
    inputs = {name: x.detach()[:, :0] for name, x in inputs_of(rec, 2, 1).items()}
    out, after = module(**inputs, state=state)
    assert out.shape == (2, 0, 3)
    assert torch.equal(after["S"], state["S"])
    assert torch.equal(torch.autograd.grad(after["S"].sum(), state["S"])[0], torch.ones(2, 3, 4).double())


def mapped_inputs() -> dict[str, Tensor]:
    inputs = {name: x.detach() for name, x in inputs_of(rules.gated_delta(), 6, 20).items()}
    found = {name: x.unflatten(0, (2, 3)).movedim(1, 2) for name, x in inputs.items()}
    found["alpha"] = found["alpha"][:, :, :1]  # the same gate for all
    return {name: x.contiguous().requires_grad_() for name, x in found.items()}


def test_inputs_with_more_axes_are_mapped() -> None:
    rec = rules.gated_delta()
    loop, tokens, inputs = fused(rec).double(), plain(rec).double(), mapped_inputs()
    found, wanted = everything(loop, inputs), everything(tokens, inputs)
    assert all(error(x, y) < 1e-12 for x, y in zip(found, wanted, strict=True))
    step, state = loop.step(**{name: x[:, 0] for name, x in inputs.items()})
    again, other = tokens.step(**{name: x[:, 0] for name, x in inputs.items()})
    assert error(step, again) < 1e-12
    assert error(state["S"], other["S"]) < 1e-12


def test_keys_may_be_shared_by_groups_of_open_length() -> None:
    handle = seqc.load("specs/delta/gated_delta.seq").rule(n=4, m=3)
    axes = {"q": "kv g n", "k": "kv n", "v": "kv m", "alpha": "kv", "beta": "kv"}
    loop, chunks = BACKEND.module(handle.program(None, axes)).double(), handle.torch(axes=axes).double()
    shapes = {"q": (2, 3, 4), "k": (2, 4), "v": (2, 3), "alpha": (2,), "beta": (2,)}
    inputs = {name: torch.rand(2, 9, *shape).double().requires_grad_() for name, shape in shapes.items()}
    found, wanted = everything(loop, inputs), everything(chunks, inputs)
    assert all(error(x, y) < 1e-12 for x, y in zip(found, wanted, strict=True))


WIDE = """
rule wide(x[d], a[d], b[n], c[n], w) {
    param  A[d, n] = uniform(0.1, 1)
    state  h[d, n] = 0
    h'     = exp(-A * w) * h + b * x
    return a * sum[n](c * h')
}
"""


def test_long_axes_are_cut_into_slices_that_sum_what_they_share() -> None:
    program = seqc.loads(WIDE).rule(d=320, n=3).program()
    assert "ROWS = 2;" in BACKEND.unit(program)
    rec = seqc.loads(WIDE).rule(d=320, n=3).recurrence
    loop, tokens = fused(rec).double(), plain(rec).double()
    tokens.load_state_dict(loop.state_dict())
    inputs = inputs_of(rec, 2, 9)
    found, wanted = everything(loop, inputs), everything(tokens, inputs)
    assert all(error(x, y) < 1e-12 for x, y in zip(found, wanted, strict=True))


def test_states_kept_for_the_way_back_take_no_more_than_inputs_and_outputs() -> None:
    rec = seqc.load("specs/delta/gated_delta.seq").rule(n=96, m=96).recurrence
    module, inputs = fused(rec), inputs_of(rec, 1, 131)
    saved: list[int] = []

    def keep(x: Tensor) -> Tensor:
        saved.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = module(**{name: x.detach().float().requires_grad_() for name, x in inputs.items()})[0]
    tensors = sum(x.numel() for x in inputs.values()) + out.numel()
    assert sum(saved) < 2 * tensors + 96 * 96
    assert zoo.apart(module.double(), rec, 131) < 1e-9


def with_threads(module: Any, inputs: Mapping[str, Tensor], threads: int) -> list[Tensor]:
    """Values and gradients, computed by so many threads."""
    count = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return list(chain(*zoo.everything(module, inputs)))
    finally:
        torch.set_num_threads(count)


@pytest.mark.parametrize("make", MAKERS)
def test_one_thread_and_two_give_the_same_bits(make: Callable[[], Recurrence]) -> None:
    module, inputs = fused(make()).double(), inputs_of(make(), 3, 70)
    one, two = (with_threads(module, inputs, threads) for threads in (1, 2))
    assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))


@pytest.mark.slow
def test_so_they_do_for_all_rules_of_the_specs() -> None:
    different: list[str] = []
    for name, recurrence in zoo.rules_with_units():
        module, (inputs, weights) = fused(recurrence), zoo.drawn(recurrence, 70)
        module.load_state_dict(weights)
        one, two = (with_threads(module, cast(inputs, torch.float32), threads) for threads in (1, 2))
        if not all(
            torch.equal(x.detach().nan_to_num(), y.detach().nan_to_num())
            for x, y in zip(one, two, strict=True)
        ):
            different.append(name)
    assert different == []


@pytest.mark.parametrize("gate", [0.0, 1.0, 1e-38])
def test_extreme_gates_are_exact_and_have_finite_gradients(gate: float) -> None:
    rec = rules.linear_attention()
    inputs = inputs_of(rec, 1, 130)
    inputs["alpha"] = torch.full((1, 130), gate, dtype=torch.float64, requires_grad=True)
    found, wanted = everything(fused(rec).double(), inputs), everything(plain(rec).double(), inputs)
    assert all(x.isfinite().all() and error(x, y) < 1e-12 for x, y in zip(found, wanted, strict=True))


def test_low_precision_inputs_have_states_in_single_precision() -> None:
    rec = rules.linear_attention()
    module, exact = fused(rec), {name: x.detach() for name, x in inputs_of(rec, 1, 100).items()}
    low = {name: x.bfloat16() for name, x in exact.items()}
    out, state = module(**low)
    assert out.dtype == torch.bfloat16
    assert state["S"].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(**low)[0], out)
    wanted, _ = plain(rec)(**{n: x.double() for n, x in low.items()})
    assert error(out.double(), wanted) < 5e-3


def test_a_module_can_be_copied() -> None:
    module = fused(rules.tanh_cell())
    inputs: Mapping[str, Tensor] = {"x": torch.randn(1, 5, 3)}
    other: Any = copy.deepcopy(module)
    assert torch.equal(other(**inputs)[0], module(**inputs)[0])


def test_an_exported_module_takes_any_length() -> None:
    class Out(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rule = fused(rules.average())

        def forward(self, alpha: Tensor, b: Tensor) -> Tensor:
            out: Tensor = self.rule(alpha=alpha, b=b)[0]
            return out

    module = Out()
    shape = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("time", min=2)}
    given = (torch.rand(2, 5, 3), torch.randn(2, 5, 3))
    exported = torch.export.export(module, given, dynamic_shapes=(shape, shape)).module()
    longer = (torch.rand(3, 17, 3), torch.randn(3, 17, 3))
    assert torch.equal(exported(*longer), module(*longer))


def test_compiled_gradients_are_those_of_the_module() -> None:
    module, inputs = fused(rules.gated_delta()), inputs_of(rules.gated_delta(), 2, 9)
    single = {name: x.detach().float().requires_grad_() for name, x in inputs.items()}
    compiled: Any = torch.compile(module, fullgraph=True, backend="aot_eager")
    found, wanted = (
        torch.autograd.grad(call(**single)[0].square().sum(), list(single.values()))
        for call in (compiled, module)
    )
    assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))


def test_large_matrices_and_many_sequences_are_left_to_matrix_products() -> None:
    module: Any = BACKEND.module(scheduled(written(MIXED, d=1024)()))
    small: Any = BACKEND.module(scheduled(written(MIXED, d=11)()))
    pays = [module.fused.pays(n, 64) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
    assert pays == sorted(pays, reverse=True)
    assert pays[0]
    assert not pays[-1]
    assert small.fused.pays(10**6, 64)


def test_another_schedule_is_the_one_that_was_asked_for() -> None:
    handle = seqc.load("specs/delta/gated_delta.seq").rule(n=4, m=3)
    assert hasattr(BACKEND.module(handle.program()), "fused")
    assert hasattr(BACKEND.module(handle.program("loop")), "fused")
    retention = seqc.load("specs/linear/retnet.seq").rule(n=4, m=3)
    assert not hasattr(BACKEND.module(retention.program("scan")), "fused")


def test_attention_runs_in_pytorch_and_says_why() -> None:
    rec = rules.attention()
    module, inputs = fused(rec).double(), inputs_of(rec, 2, 9)
    assert not hasattr(module, "fused")
    wanted, found = everything(plain(rec).double(), inputs), everything(module, inputs)
    assert all(error(x, y) < 1e-12 for x, y in zip(found, wanted, strict=True))
    (reason,) = without_unit(scheduled(rec)).values()
    assert reason.startswith("a store grows")
