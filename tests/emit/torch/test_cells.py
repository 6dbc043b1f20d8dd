"""PyTorch's own GRU and LSTM: used where a rule is theirs, alone and behind linear maps, and nowhere else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import seqc
from tests.emit.torch.parts import BACKEND
from tests.emit.torch.rules import error, inputs_of

CELLS = """
rule gru(n[d], z[d], r[d]) {
    state  h[d] = 0.5
    let    keep = sigmoid(linear(h, bias = true) -> [d] + z)
    let    recalled[d] = linear(h, bias = true)
    h'     = h * keep + (1 - keep) * tanh(sigmoid(r + linear(h) -> [d]) * recalled + n)
    return h'
}

rule lstm(a[d], b[d], e[d], g[d]) {
    param  start[d] = normal(0, 1)
    state  inside[d] = start
    state  shown[d] = 0
    let    kept = sigmoid(a + linear(shown, bias = true) -> [d])
    inside' = sigmoid(b + linear(shown) -> [d]) * tanh(linear(shown) -> [d] + e) + kept * inside
    shown'  = sigmoid(linear(shown) -> [d] + g) * tanh(inside')
    return shown'
}

block gru_layer(x[d]; w = d) {
    param  shift[w] = normal(0, 1)
    let    y[d] = silu(x)
    let    n[w] = linear(y, bias = true)
    let    z[w] = shift + linear(y) -> [w]
    return gru(n, z, linear(y) -> [w])
}

block lstm_layer(x[d]; w = d) {
    let a[w] = linear(x, bias = true)
    let b[w] = linear(x, bias = true)
    let e[w] = linear(x)
    let g[w] = linear(x)
    return linear(lstm(a, b, e, g) + a) -> [d]
}
"""
OTHERS = """
rule reset_first(r[d], z[d], n[d]) {
    state  h[d] = 0
    let    keep = sigmoid(z + linear(h) -> [d])
    let    recalled[d] = linear(sigmoid(r + linear(h) -> [d]) * h)
    h'     = keep * h + (1 - keep) * tanh(n + recalled)
    return h'
}

rule doubled(r[d], z[d], n[d]) {
    state  h[d] = 0
    let    keep = sigmoid(z + linear(h) -> [d])
    let    recalled[d] = linear(h, bias = true)
    h'     = keep * h + (1 - keep) * tanh(n + sigmoid(r + linear(h) -> [d]) * recalled)
    return 2 * h'
}

rule shared_gates(z[d], n[d]) {
    state  h[d] = 0
    let    keep = sigmoid(z + linear(h) -> [d])
    let    recalled[d] = linear(h, bias = true)
    h'     = keep * h + (1 - keep) * tanh(n + sigmoid(z + linear(h) -> [d]) * recalled)
    return h'
}

rule peephole(a[d], b[d], e[d], g[d]) {
    param  p[d] = normal(0, 1)
    state  c[d] = 0
    state  h[d] = 0
    c'     = sigmoid(a + linear(h) -> [d] + p * c) * c + sigmoid(b + linear(h) -> [d]) * tanh(linear(h) -> [d] + e)
    h'     = sigmoid(linear(h) -> [d] + g) * tanh(c')
    return h'
}
"""
SPEC = seqc.loads(CELLS + OTHERS)
RULES, LAYERS = ("gru", "lstm"), ("gru_layer", "lstm_layer")
BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}


def layer(name: str, mode: str | None = None, dtype: torch.dtype = torch.float64) -> Any:
    return SPEC.block(name, d=5, w=7).torch(mode=mode).to(dtype)


def entries(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def whole(module: Any, x: Tensor, state: Any = None, reset: Tensor | None = None) -> list[Tensor]:
    """Outputs, final states and the gradients of all parameters, of the input and of the initial state."""
    x = x.clone().requires_grad_()
    start = {n: v.detach().clone().requires_grad_() for n, v in (state or module.init_state(len(x))).items()}
    out, end = module(x, start, reset)
    return [out, *end.values(), *gradients([out, *end.values()], [x, *start.values(), *module.parameters()])]


def gradients(results: list[Tensor], by: list[Tensor]) -> list[Tensor]:
    loss = sum((value.square().sum() for value in results), torch.zeros(()))
    return list(torch.autograd.grad(loss, by, materialize_grads=True))


def close(found: list[Tensor], wanted: list[Tensor], bound: float) -> bool:
    return all(error(x.double(), y.double()) < bound for x, y in zip(found, wanted, strict=True))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operators that have been called."""
    called: list[str] = []
    for name in RULES:
        plain = getattr(torch, name)

        def spy(*args: Any, name: str = name, plain: Any = plain) -> Any:
            called.append(name)
            return plain(*args)

        monkeypatch.setattr(torch, name, spy)
    return called


@pytest.mark.parametrize("name", SPEC.rules)
def test_structure_decides(name: str) -> None:
    assert ("(CellRule)" in BACKEND.text(SPEC.rule(name, d=3).program())) == (name in RULES)


def test_explain_says_which_operator_is_called() -> None:
    said = {name: SPEC.rule(name, d=200).report()["rules"][0]["schedule"]["operators"] for name in SPEC.rules}
    assert {name: found["torch"] for name, found in said.items() if "torch" in found} == {
        name: [f"torch.{name}"] for name in RULES
    }
    small = SPEC.rule("lstm", d=3)
    assert small.report()["rules"][0]["schedule"]["operators"]["onnx"] == ["ai.onnx.LSTM"]
    assert "torch.lstm (torch)" in small.explain()


def test_names_do_not(calls: list[str]) -> None:
    other = CELLS
    for old, new in (("keep", "lstm_c"), ("recalled", "y"), ("shown", "gru_h"), ("gru", "x0")):
        other = other.replace(old, new)
    spec = seqc.loads(other.replace("lstm(", "sru(").replace("rule lstm", "rule sru"))
    for each in spec.rules:
        rule = spec.rule(each, d=3)
        with torch.no_grad():
            rule.torch()(**{leaf.name: torch.randn(1, 4, 3) for leaf in rule.recurrence.inputs})
    assert calls == ["gru", "lstm"]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("time", [1, 2, 37])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_computes_what_the_token_loop_computes(
    name: str, time: int, dtype: torch.dtype, calls: list[str]
) -> None:
    rule = SPEC.rule(name, d=7)
    found: list[list[Tensor]] = []
    for mode, kind in ((None, dtype), ("reference", torch.float64)):
        form: Any = rule.torch(mode=mode).to(dtype).to(kind)
        given = {key: x.to(dtype).to(kind).detach() for key, x in inputs_of(rule.recurrence, 3, time).items()}
        with torch.no_grad():
            alone, _ = form(**given)
        given = {key: x.requires_grad_() for key, x in given.items()}
        out, state = form(**given)
        results = [out, *state.values()]
        found.append([alone, *results, *gradients(results, [*given.values(), *form.parameters()])])
    assert close(found[0], found[1], BOUNDS[dtype])
    assert calls == (["gru"] if name == "gru" else ["lstm", "lstm"])


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("time", [1, 2, 37])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_what_the_token_loop_computes(
    name: str, time: int, dtype: torch.dtype, calls: list[str]
) -> None:
    form, loop = layer(name, dtype=dtype), layer(name, "reference")
    loop.load_state_dict(form.state_dict())
    x = entries(3, time, 5, dtype=dtype)
    _, state = loop(entries(3, 9, 5))
    state = {key: value.to(dtype) for key, value in state.items()}
    wanted = whole(loop, x.double(), {key: value.double() for key, value in state.items()})
    assert close(whole(form, x, state), wanted, BOUNDS[dtype])
    with torch.no_grad():
        assert error(form(x, state)[0].double(), wanted[0]) < BOUNDS[dtype]
    assert calls == (["gru"] if name == "gru_layer" else ["lstm", "lstm"])


@pytest.mark.parametrize("name", LAYERS)
def test_resets_steps_and_splits_agree_with_the_whole(name: str, calls: list[str]) -> None:
    form, loop = layer(name), layer(name, "reference")
    x, reset = entries(2, 23, 5), torch.rand(2, 23, generator=torch.Generator().manual_seed(1)) < 0.2
    assert close(whole(form, x, reset=reset), whole(loop, x, reset=reset), 1e-9)
    assert calls == []
    out, last = form(x)
    head, state = form(x[:, :9])
    for t in range(9, 15):
        token, state = form.step(x[:, t], state)
        assert error(token, out[:, t]) < 1e-12
    tail, state = form(x[:, 15:], state)
    assert error(torch.cat([head, tail], 1), torch.cat([out[:, :9], out[:, 15:]], 1)) < 1e-12
    assert all(error(state[key], last[key]) < 1e-12 for key in last)


@pytest.mark.parametrize("name", LAYERS)
def test_no_tokens_leave_the_states_as_they_are(name: str) -> None:
    form = layer(name)
    with torch.no_grad():
        _, state = form(entries(2, 3, 5))
        out, same = form(entries(2, 3, 5)[:, :0], state)
        nobody, _ = form(entries(2, 3, 5)[:0])
    assert (out.shape, nobody.shape[0]) == ((2, 0, 5 if name == "lstm_layer" else 7), 0)
    assert all(torch.equal(same[key], state[key]) for key in state)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_a_compiled_layer_has_one_graph_and_the_same_gradients(name: str, calls: list[str]) -> None:
    form, loop = layer(name), layer(name, "reference")
    loop.load_state_dict(form.state_dict())
    torch.compiler.reset()
    compiled: Any = torch.compile(form, fullgraph=True, dynamic=True, backend="aot_eager")
    compiled.init_state = form.init_state
    for time in (13, 6):
        x = entries(2, time, 5)
        assert close(whole(compiled, x), whole(loop, x), 1e-9)
        with torch.no_grad():
            assert error(compiled(x)[0], loop(x)[0]) < 1e-9
    assert set(calls) == {name.removesuffix("_layer")}


@pytest.mark.parametrize("name", LAYERS)
def test_an_exported_layer_takes_any_batch_and_length(name: str, calls: list[str]) -> None:
    form, x = layer(name), entries(2, 11, 5)
    batch, time = Dim("batch"), Dim("time")
    state = form.init_state(2)
    sizes: dict[str, Any] = {"tokens": {0: batch, 1: time}, "state": {key: {0: batch} for key in state}}
    program = torch.export.export(form, (x, state), dynamic_shapes=sizes, strict=False)
    exported: Any = program.module()
    for rows, length in ((1, 1), (3, 40)):
        y = entries(rows, length, 5)
        assert error(exported(y, form.init_state(rows))[0], form(y)[0]) < 1e-12
    assert name.removesuffix("_layer") in calls


@pytest.mark.parametrize("name", LAYERS)
def test_a_copy_is_independent_and_low_precision_stays_outside(name: str) -> None:
    form, x = layer(name, dtype=torch.float32), entries(2, 60, 5, dtype=torch.float32)
    with torch.no_grad():
        out, _ = form(x)
        low, state = copy.deepcopy(form).bfloat16()(x.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            mixed, again = form(x)
        assert torch.equal(form(x)[0], out)
    assert low.dtype == torch.bfloat16
    assert {value.dtype for value in (*state.values(), *again.values())} == {torch.float32}
    assert error(low.float(), out) < 2e-2
    assert error(mixed.float(), out) < 2e-2


def test_a_wide_rule_alone_stays_a_loop(calls: list[str]) -> None:
    rule = SPEC.rule("lstm", d=130)
    with torch.no_grad():
        rule.torch()(**{leaf.name: torch.randn(1, 3, 130) for leaf in rule.recurrence.inputs})
    assert calls == []


@pytest.mark.parametrize("name", LAYERS)
def test_conformance_examines_them(name: str, calls: list[str]) -> None:
    assert seqc.conform(SPEC, names=[name], backends=["torch"], fast=True, settings={"d": 3}).passed
    assert calls
