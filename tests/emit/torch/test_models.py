"""Models: names, states, steps, splits, resets; what PyTorch's own tools make of the emitted module."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import seqc
from seqc.diagnostics import SpecError
from seqc.ir.paths import parameter_table, state_table
from seqc.ir.program import Model

HYBRID = """
rule ema(x[d], a[d]) {
    state h[d] = 0
    h' = a * h + (1 - a) * x
    return h'
}

block mixer(x[d]; w) {
    let u[w] = causal_conv(linear(x), width = 3, bias = true)
    let y[w] = ema(u, a = sigmoid(linear(u)))
    return linear(silu(y) * u) -> [d]
}

model hybrid(tokens; vocab = 20, d = 16, w = 12, h = 4, n = 8, layers = 2) {
    x[d] = embed(tokens, vocab)
    repeat layers {
        x = x + mixer(rms_norm(x), w)
        x = x + local_attention(rms_norm(x), h, n, window = 6, kv_heads = 2)
        x = x + attention(rms_norm(x), h, n)
        x = x + swiglu(rms_norm(x))
    }
    return lm_head(rms_norm(x), vocab)
}
"""

SHARED = """
block layer(x[d]) {
    let u[d] = causal_conv(linear(x), width = 4)
    return x + linear(gelu(u)) -> [d]
}

model tied(tokens; vocab = 11, d = 8) {
    param table[vocab, d] = normal(0, 0.02)
    x[d] = embed(tokens, table)
    repeat 3 shared { x = layer(x) }
    return tied_head(x, table)
}
"""

PAIR = """
rule keep(x[d], a[d]) {
    state h[d] = 0
    h' = sigmoid(a) * h + x
    return h'
}

model pair(x[f], y[f]; f = 3) {
    return linear(keep(x[f -> d], y[f -> d])) -> [f]
}
"""


@cache
def program(text: str = HYBRID) -> Model:
    return seqc.loads(text).model().model


def module(text: str = HYBRID, dtype: torch.dtype = torch.float64) -> Any:
    return seqc.loads(text).model().torch().to(dtype)


def tokens(batch: int, time: int, vocab: int = 11) -> Tensor:
    return torch.randint(0, vocab, (batch, time), generator=torch.Generator().manual_seed(batch + time))


@pytest.mark.parametrize("text", [HYBRID, SHARED])
def test_parameters_and_states_have_the_names_of_the_program(text: str) -> None:
    net = module(text)
    assert {name: tuple(x.shape) for name, x in net.state_dict().items()} == {
        name: entry.shape for name, entry in parameter_table(program(text)).items()
    }
    _, state = net(tokens(2, 5))
    assert state.keys() == net.init_state(2).keys()
    assert {name for name in state if not name.endswith(".count")} == set(state_table(program(text)))


@pytest.mark.parametrize("text", [HYBRID, SHARED])
def test_steps_and_splits_give_what_the_whole_gives(text: str) -> None:
    net, x = module(text), tokens(2, 23)
    whole, last = net(x)
    head, state = net(x[:, :9])
    tail, _ = net(x[:, 9:], state)
    torch.testing.assert_close(torch.cat([head, tail], 1), whole)
    state, out = net.init_state(2), []
    for t in range(23):
        logits, state = net.step(x[:, t], state)
        out.append(logits)
    torch.testing.assert_close(torch.stack(out, 1), whole)
    assert all(
        torch.allclose(state[name], last[name]) for name in state if state[name].shape == last[name].shape
    )


@pytest.mark.parametrize("text", [HYBRID, SHARED])
def test_a_reset_begins_anew(text: str) -> None:
    net, x = module(text), tokens(2, 19)
    reset = torch.zeros(2, 19, dtype=torch.bool)
    reset[0, 7] = reset[1, 0] = reset[1, 12] = True
    out, state = net(x, reset=reset)
    first, _ = net(x[:1, :7])
    rest, later = net(x[:1, 7:])
    torch.testing.assert_close(out[:1, :7], first)
    torch.testing.assert_close(out[:1, 7:], rest)
    more, _ = net(x[:, :4], state)
    alone, _ = net(x[:1, :4], later)
    torch.testing.assert_close(more[:1], alone)


def test_states_can_be_cut_from_the_graph_saved_and_reordered() -> None:
    net, x = module(), tokens(3, 12)
    _, state = net(x)
    cut = {name: value.detach() for name, value in state.items()}
    out, _ = net(x, cut)
    order = torch.tensor([2, 2, 0])
    picked, _ = net(x[order], {name: value[order] for name, value in cut.items()})
    torch.testing.assert_close(picked, out[order])


def test_parameter_groups_say_what_takes_no_weight_decay() -> None:
    net = module()
    decayed, free = net.parameter_groups()
    assert free["weight_decay"] == 0.0
    assert len(decayed["params"]) + len(free["params"]) == len(list(net.parameters()))
    assert {id(p) for p in free["params"]} == {
        id(p) for n, p in net.named_parameters() if not parameter_table(program())[n].parameter.decays
    }


def test_checkpointing_changes_no_gradient() -> None:
    net, x = module(), tokens(2, 9)
    plain = torch.autograd.grad(net(x)[0].square().sum(), list(net.parameters()))
    net.checkpoint = True
    again = torch.autograd.grad(net(x)[0].square().sum(), list(net.parameters()))
    assert all(torch.allclose(a, b) for a, b in zip(again, plain, strict=True))


def test_a_copy_is_independent_and_half_precision_keeps_states_single() -> None:
    net, x = module(dtype=torch.float32), tokens(2, 30)
    out, _ = net(x)
    low, state = copy.deepcopy(net).bfloat16()(x)
    assert low.dtype == torch.bfloat16
    assert (low.float() - out).norm() < 0.05 * out.norm()
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    with torch.autocast("cpu", torch.bfloat16):
        mixed, state = net(x)
    assert (mixed.float() - out).norm() < 0.05 * out.norm()
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(net(x)[0], out)


def test_an_exported_program_runs_at_every_length_and_batch() -> None:
    net, x = module(dtype=torch.float32).eval(), tokens(2, 40)
    batch, time = Dim("batch"), Dim("time")
    state = net.init_state(2)
    shapes: dict[str, Any] = {name: {0: batch} for name in state}
    sizes = {"tokens": {0: batch, 1: time}, "state": shapes, "reset": {0: batch, 1: time}}
    exported = torch.export.export(
        net, (x, state, torch.zeros(2, 40, dtype=torch.bool)), dynamic_shapes=sizes, strict=False
    ).module()
    for rows, length in ((1, 1), (1, 2), (3, 63), (2, 65), (1, 1000)):
        y, reset = tokens(rows, length), torch.rand(rows, length) < 0.05
        out, _ = exported(y, net.init_state(rows), reset)
        torch.testing.assert_close(out, net(y, None, reset)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_compiled_model_has_one_graph_and_the_same_gradients() -> None:
    net = module(dtype=torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (33, 5):
        x = tokens(2, length)
        out, plain = compiled(x)[0], net(x)[0]
        torch.testing.assert_close(out, plain, atol=1e-4, rtol=1e-4)
        found = torch.autograd.grad(out.square().sum(), list(net.parameters()))
        wanted = torch.autograd.grad(plain.square().sum(), list(net.parameters()))
        assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(found, wanted, strict=True))


def test_a_model_may_have_several_inputs() -> None:
    network, x, y = module(PAIR), *torch.randn(2, 2, 7, 3, dtype=torch.float64)
    whole, _ = network(x, y)
    _, state = network(x[:, :4], y[:, :4])
    after, _ = network.step(x[:, 4], y[:, 4], state)
    torch.testing.assert_close(after, whole[:, 4])
    assert seqc.conform(seqc.loads(PAIR), names=["pair"], fast=True).passed


def test_a_model_that_reads_the_future_has_no_step() -> None:
    text = "model m(x[c]; c = 3, d = 4) { let y[d] = linear(x)\n return regression(y) -> [outputs] }"
    net = module(text)
    out, state = net(torch.randn(2, 5, 3, dtype=torch.float64))
    assert out.shape == (2, 1)
    assert state == {}
    with pytest.raises((SpecError, RuntimeError)):
        net.step(torch.randn(2, 3, dtype=torch.float64), {})


DISTANCES = """
block far(x[d]; h = 2, n = 3, m = 2, waves = 4, reach = 400) {
    param W[n, waves] = normal(0, 1)
    let q[h, n] = linear(x)
    let bend[reach, n] = sum[waves](W * cos(index[reach] * 10^(-index[waves])))
    let slope[h] = 0.001 * (index[h] + 1) * sigmoid(sum[reach](0.01 * sum[n](q * bend)))
    let y = attend_alibi(q, linear(x) -> [h, n], linear(x) -> [h, m], slope)
    return linear(y) -> [d]
}
"""


def test_places_and_ages_are_exact_in_half_precision() -> None:
    """256 is the last whole number before bfloat16 leaves some out."""
    block, x = seqc.loads(DISTANCES).block(d=5), torch.randn(1, 700, 5).bfloat16()
    low, exact = block.torch().bfloat16(), block.torch().double()
    exact.load_state_dict(low.state_dict())
    with torch.no_grad():
        found, wanted = low(x)[0].double(), exact(x.double())[0]
        _, state = low(x)
        token, _ = low.step(x[:, 0], state)
        alone, _ = exact.step(
            x[:, 0].double(), {n: v.double() if v.is_floating_point() else v for n, v in state.items()}
        )
    for part in (slice(0, 256), slice(300, 700)):
        assert (found - wanted)[:, part].norm() < 1e-2 * wanted[:, part].norm()
    assert (token.double() - alone).norm() < 1e-2 * alone.norm()


HEADS = """
block heads(x[d]; h, n) {
    let u[h, n] = linear(x) as u
    let r[h, n] = linear[h](u) as r
    return linear(r) -> [d] as out
}

model headed(x[d]; d = 6, h = 3, n = 16) {
    return heads(x, h, n)
}
"""


def test_maps_of_heads_are_not_copied_for_every_token() -> None:
    model = seqc.loads(HEADS).model().torch()
    x = torch.randn(1, 500, 6)
    with torch.profiler.profile(profile_memory=True) as profiled, torch.no_grad():
        model(x)
    largest = max(event.cpu_memory_usage for event in profiled.events() or ())
    assert largest < 4 * 500 * 3 * 16 * 16  # what a matrix a token and head would take


def test_states_hold_no_more_than_themselves() -> None:
    """Neither what a window attends to nor what a convolution needs is a view of the whole sequence."""
    net = seqc.loads(HYBRID).model().torch(kernels=False)
    with torch.no_grad():
        state = net(tokens(2, 100))[1]
    assert {name for name, x in state.items() if x.untyped_storage().nbytes() > x.nbytes} == set()
