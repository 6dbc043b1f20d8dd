"""Blocks and models in the oracle: convolution, look-up, reverse time, pooling, repetition, and their JSON."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import seqc
from seqc.ir import build
from seqc.ir.expr import Const, Conv, DType, Expr, Flip, Gather, Invoke, Item, Leaf, LeafKind, Pool
from seqc.ir.paths import parameter_table, state_table
from seqc.ir.program import Function, Model, Repeat
from seqc.ir.recurrence import Parameter
from seqc.ir.serial import from_json, to_json
from seqc.ir.text import format_model, format_plan
from seqc.ir.timing import reads_future, varying_outputs
from seqc.oracle import initial_parameters, initial_state, run_model
from seqc.oracle.trace import trace
from seqc.passes.schedule import schedule
from tests.oracle.rules import learned_start

X = Leaf(LeafKind.INPUT, "x", ("d",))
SIZES = {"d": 2, "taps": 3}
BATCH, TIME = 2, 9


def block(name: str, output: Expr, *parameters: Parameter, inputs: tuple[Leaf, ...] = (X,)) -> Function:
    return Function(name, inputs, parameters, (), (output,), (output.axes,), SIZES)


def draw(name: str, *axes: str) -> Parameter:
    return Parameter(name, axes, build.apply("normal", Const(0.0), Const(1.0)))


def values(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, TIME, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


WEIGHT, BIAS = draw("weight", "d", "taps"), draw("bias", "d")
CONV = block("conv", Conv("c", X, WEIGHT.leaf, BIAS.leaf, "taps"), WEIGHT, BIAS)
RULE = learned_start()
LAYER = block("layer", build.add(X, Item(Invoke("rule", RULE, (X,)), 0)))


def test_convolution_is_pytorchs() -> None:
    p, x = initial_parameters(CONV), values()
    (out,), state = run_model(CONV, x, p)
    padded = F.pad(x.transpose(1, 2), (2, 0))
    want = F.conv1d(padded, p["weight"][:, None, :], p["bias"], groups=2).transpose(1, 2)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(state["c.window"], x[:, -2:])


@pytest.mark.parametrize("function", [CONV, LAYER], ids=lambda f: f.name)
def test_cuts_and_resets(function: Function) -> None:
    p, x = initial_parameters(function), values()
    (whole,), end = run_model(function, x, p)
    (first,), state = run_model(function, x[:, :4], p)
    (second,), last = run_model(function, x[:, 4:], p, state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    assert all(torch.equal(last[name], end[name]) for name in end)
    reset = torch.zeros(BATCH, TIME, dtype=torch.bool)
    reset[1, 5] = True
    (anew,), _ = run_model(function, x, p, reset=reset)
    (alone,), _ = run_model(function, x[:, 5:], p)
    torch.testing.assert_close(anew[1, 5:], alone[1])
    torch.testing.assert_close(anew[0], whole[0])


def test_look_up_reverse_and_pool() -> None:
    tokens = Leaf(LeafKind.INPUT, "tokens", (), DType.INT)
    table = draw("table", "taps", "d")
    function = block("embed", Gather(table.leaf, tokens, "taps"), table, inputs=(tokens,))
    p, chosen = initial_parameters(function), torch.tensor([[0, 2, 1]])
    torch.testing.assert_close(run_model(function, chosen, p)[0][0], p["table"][chosen])
    x = values()
    torch.testing.assert_close(run_model(block("flip", Flip(X)), x, {})[0][0], x.flip(1))
    pooled = block("pool", build.mul(Const(2.0), Pool("mean", X)))
    torch.testing.assert_close(run_model(pooled, x, {})[0][0], 2 * x.mean(1))
    assert varying_outputs(pooled) == (False,)
    assert reads_future(pooled)
    assert not reads_future(CONV)


@pytest.mark.parametrize("shared", [False, True])
def test_repetition_names_its_instances(shared: bool) -> None:
    stack = Invoke("layers", Repeat((LAYER, LAYER), shared), (X,))
    function = block("stack", Item(stack, 0))
    names = ["layers.rule.decay"] if shared else ["layers.0.rule.decay", "layers.1.rule.decay"]
    assert [name for name in parameter_table(function) if name.endswith("decay")] == names
    assert [name for name in state_table(function) if name.endswith(".h")] == [
        "layers.0.rule.h",
        "layers.1.rule.h",
    ]
    p, x = initial_parameters(function), values()
    (out,), state = run_model(function, x, p)
    below = "layers" if shared else "layers.0"
    own = {name.removeprefix(f"{below}."): value for name, value in p.items() if name.startswith(below)}
    (once,), _ = run_model(LAYER, x, own)
    other = (
        own if shared else {n.removeprefix("layers.1."): v for n, v in p.items() if n.startswith("layers.1")}
    )
    torch.testing.assert_close(out, run_model(LAYER, once, other)[0][0])
    assert set(state) == set(initial_state(function, p, BATCH))


@pytest.fixture(scope="module")
def griffin() -> Model:
    path = Path(__file__).parents[2] / "specs" / "hybrid" / "griffin.seq"
    return seqc.load(path).model(d=8, w=12, h=2, n=4, layers=1, vocab=11).model


def test_a_model_reads_back_equal(griffin: Model) -> None:
    text = to_json(griffin)
    read = from_json(text)
    assert isinstance(read, Model)
    assert to_json(read) == text
    assert format_model(read) == format_model(griffin)
    p, tokens = initial_parameters(griffin), torch.arange(8)[None] % 11
    assert torch.equal(run_model(read, tokens, p)[0][0], run_model(griffin, tokens, p)[0][0])


def test_a_model_and_its_plans_as_text(griffin: Model) -> None:
    text = format_model(griffin)
    assert text.startswith("model griffin(tokens)")
    assert "rule rg_lru" in text
    assert "stage" in format_plan(schedule(RULE))


def test_trace_of_a_model_finds_the_place(griffin: Model) -> None:
    p = initial_parameters(griffin)
    tokens = torch.arange(6)[None] % 11
    found = trace(griffin, tokens, p, -1)
    assert found.fault is None
    assert {entry.token for entry in found.entries} == {5}
    assert any(entry.kind == "state" and entry.name.endswith("rg_lru.h") for entry in found.entries)
    p["layers.0.swiglu.up.weight"][0, 0] = torch.nan
    fault = trace(griffin, tokens, p, -1).fault
    assert fault is not None
    assert fault.token == 0
    assert fault.path == "layers.0.swiglu"
    assert fault.span is not None


TWO_AXES = "rule outer(q[n], k[n], v[m]) {\n state S[n, m] = 0\n S' = S + k * v\n return sum[n](S' * q)\n}"


def test_two_axes_of_a_rule_that_are_one_axis_of_the_caller() -> None:
    """A query, a key and a value along one axis: the memory is a matrix nevertheless."""
    model = seqc.loads(f"{TWO_AXES}\nmodel lm(x[d]; d = 5) {{ return outer(x, 2 * x, 3 * x) }}").model().model
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    (y,), _ = run_model(model, x, {})
    scores = torch.einsum("btd,bsd->bts", x, 2 * x).tril()
    torch.testing.assert_close(y, scores @ (3 * x))


def test_two_axes_of_a_block_that_are_one_axis_of_the_caller() -> None:
    """So in a block that is written out where it is called, twice within itself."""
    block = "block pair(a[n], b[m]) { return sum[n](a) * b + sum[n](a * b) }"
    model = (
        seqc.loads(f"{block}\nmodel lm(x[d]; d = 4) {{ return pair(x, pair(2 * x, 3 * x)) }}").model().model
    )
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    (y,), _ = run_model(model, x, {})

    def pair(a: Tensor, b: Tensor) -> Tensor:
        return 2 * a.sum(-1, keepdim=True) * b

    torch.testing.assert_close(y, pair(x, pair(2 * x, 3 * x)))
