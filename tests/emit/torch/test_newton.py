"""Mode `newton`: what the token loop computes, values and gradients, whether the iteration settles or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.emit.torch.rules import error, everything

SPEC = seqc.loads("""
# One state: a diagonal Jacobian.
rule gated(x[d], z[d], r[d]) {
    param  a[d] = uniform(-1, 1)
    param  b[d] = uniform(-1, 1)
    state  h[d] = 0.25
    let    keep = sigmoid(a * h + z)
    h'     = keep * h + (1 - keep) * tanh(b * h * sigmoid(h + r) + x)
    return h'
}

# A cell and its output: 2 by 2.
rule pair(x[d], f[d], o[d]) {
    param  a[d] = uniform(-1, 1)
    param  p[d] = uniform(-1, 1)
    state  c[d] = 0
    state  h[d] = 0
    let    keep = sigmoid(a * h + p * c + f)
    c'     = keep * c + (1 - keep) * tanh(a * h + x)
    h'     = sigmoid(o + p * c') * tanh(c')
    return h' + c
}

# Three states that feed each other in a ring.
rule ring(x[d]) {
    state  a[d] = 0
    state  b[d] = 0
    state  c[d] = 0
    a'     = tanh(0.5 * b + x)
    b'     = sin(c - x)
    c'     = 0.9 * a + 0.1 * c * c
    return a' * b'
}

# No axis at all.
rule number(x, g) {
    state  s = 1
    s'     = s * sigmoid(g) + tanh(s * x)
    return s'
}

# A matrix between the states, and an affine state before them.
rule mixing(x[d], g[d]; e = d) {
    param  R[d, e] = normal(0, 0.2)
    state  s[d] = 0
    state  h[d] = 0
    s'     = sigmoid(g) * s + x
    h'     = tanh(s' + sum[e](R * sin(h[d -> e])))
    return h'
}

# Two states and two matrices; each diagonal stands for its matrix.
rule cell(i[d], f[d], g[d]; e = d) {
    param  R[d, e] = normal(0, 0.2)
    param  Q[d, e] = normal(0, 0.2)
    state  c[d] = 0
    state  h[d] = 0
    c'     = sigmoid(f + sum[e](R * h[d -> e])) * c + sigmoid(i) * tanh(g + sum[e](Q * h[d -> e]))
    h'     = tanh(c')
    return h'
}

# Affine, and two by two.
rule turning(x[d], a[d]) {
    state  p[d] = 0
    state  q[d] = 0
    p'     = 0.8 * p - tanh(a) * q + x
    q'     = tanh(a) * p + 0.5 * q
    return q'
}

# Jumps, of which no derivative knows.
rule jumping(x[d]) {
    state  h[d] = 0
    h'     = 0.5 * h + sign(sin(20 * h) + x)
    return h'
}

# Jumps behind a matrix.
rule jumping_together(x[d]; e = d) {
    param  R[d, e] = normal(0, 0.4)
    state  h[d] = 0
    h'     = 0.5 * tanh(h) + 0.5 * sign(sin(20 * sum[e](R * h[d -> e])) + x)
    return h'
}

# So steep that a scan of the linearised rule overflows before anything is right.
rule steep(x[d]) {
    state  h[d] = 0
    h'     = sin(exp(6 * tanh(x)) * h) / 3 + x
    return h' + exp(h')
}
""")

EXACT = ("gated", "pair", "ring", "number", "turning")
APPROXIMATE = ("mixing", "cell")
UNSETTLED = ("jumping", "jumping_together", "steep")
BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}


class Both:
    """A rule in mode `newton` and as a loop, with the same parameters."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float64, size: int = 3) -> None:
        self.rule = SPEC.rule(name, **({} if name == "number" else {"d": size}))
        self.newton: Any = self.rule.torch(mode="newton").to(dtype)
        self.loop: Any = self.rule.torch(mode="reference").to(dtype)
        self.loop.load_state_dict(self.newton.state_dict())
        self.dtype = dtype

    def inputs(self, batch: int, time: int, seed: int = 0) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        shapes = {
            leaf.name: [self.rule.recurrence.sizes[a] for a in leaf.axes]
            for leaf in self.rule.recurrence.inputs
        }
        return {
            name: torch.randn(batch, time, *shape, generator=draw, dtype=torch.float64)
            .to(self.dtype)
            .requires_grad_()
            for name, shape in shapes.items()
        }

    def state(self, batch: int) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(9)
        return {
            name: torch.randn(x.shape, generator=draw, dtype=torch.float64).to(self.dtype).requires_grad_()
            for name, x in self.newton.init_state(batch).items()
        }


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """For every solution that is looked for, how many tokens were right, and of how many."""
    found: list[tuple[int, int]] = []
    yield found
    monkeypatch.undo()


def watch(module: Any, found: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    text = sys.modules[type(module).__module__]
    solve = text.newton_solve

    def watched(*arguments: Any) -> Any:
        guess, count = solve(*arguments)
        found.append((count, guess.shape[2]))
        return guess, count

    monkeypatch.setattr(text, "newton_solve", watched)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", [*EXACT, *APPROXIMATE, *UNSETTLED])
@pytest.mark.parametrize("time", [1, 2, 3, 67])
def test_it_is_the_loop_from_any_state_with_resets(name: str, time: int, dtype: torch.dtype) -> None:
    both = Both(name, dtype)
    reset = torch.rand(2, time, generator=torch.Generator().manual_seed(5)) < 0.1
    found, wanted = (
        everything(module, {**both.inputs(2, time)}, state=both.state(2), reset=reset)
        for module in (both.newton, both.loop)
    )
    worst = max(error(x, y) for x, y in zip(found, wanted, strict=True))
    assert worst < BOUNDS[dtype]


@pytest.mark.parametrize("name", [*EXACT, *APPROXIMATE, *UNSETTLED])
def test_the_initial_state_has_the_loops_gradient(name: str) -> None:
    both = Both(name)
    found: list[list[Tensor]] = []
    for module in (both.newton, both.loop):
        state = both.state(2)
        out, final = module(**both.inputs(2, 21), state=state)
        loss = out.square().sum() + sum(x.sum() for x in final.values())
        found.append(list(torch.autograd.grad(loss, list(state.values()))))
    assert max(error(x, y) for x, y in zip(*found, strict=True)) < 1e-9


@pytest.mark.parametrize("name", [*EXACT, *APPROXIMATE])
def test_it_settles(name: str, settled: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    both = Both(name)
    watch(both.newton, settled, monkeypatch)
    everything(both.newton, both.inputs(2, 130))
    assert settled
    assert all(right == of for right, of in settled), settled


@pytest.mark.parametrize("name", UNSETTLED)
def test_what_does_not_settle_is_left_to_the_loop(
    name: str, settled: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least one token more is right after every iteration; the loop takes the rest."""
    both = Both(name)
    watch(both.newton, settled, monkeypatch)
    found, wanted = (everything(module, both.inputs(2, 300)) for module in (both.newton, both.loop))
    assert any(16 <= right < of for right, of in settled), settled
    assert max(error(x, y) for x, y in zip(found, wanted, strict=True)) < 1e-9


def test_an_affine_rule_takes_one_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    both, calls = Both("turning"), list[Tensor]()
    text = sys.modules[type(both.newton).__module__]
    scan = text.entrywise_scan

    def counted(gates: Tensor, sources: Tensor) -> Any:
        calls.append(sources)
        return scan(gates, sources)

    monkeypatch.setattr(text, "entrywise_scan", counted)
    inputs = {name: (x / 4).detach() for name, x in both.inputs(1, 50).items()}
    both.newton(**inputs)
    assert len(calls) <= 2  # the second for the last digits, if they are missing


def test_a_row_that_has_settled_waits_for_the_others() -> None:
    """Rows are independent: what one holds changes nothing in another."""
    both = Both("jumping")
    inputs = {name: x.detach() for name, x in both.inputs(3, 80).items()}
    inputs["x"][1] = 5.0  # no jump in this row
    out, _ = both.newton(**inputs)
    for row in range(3):
        alone, _ = both.newton(**{name: x[row : row + 1] for name, x in inputs.items()})
        assert error(out[row : row + 1], alone) < 1e-12


def test_numbers_that_are_none_stay_what_the_loop_makes_of_them() -> None:
    both = Both("gated")
    inputs = {name: x.detach().clone() for name, x in both.inputs(1, 20).items()}
    inputs["x"][0, 7] = torch.nan
    found, wanted = both.newton(**inputs)[0], both.loop(**inputs)[0]
    assert torch.equal(found.isnan(), wanted.isnan())
    assert error(found[:, :7], wanted[:, :7]) < 1e-12


def test_a_long_sequence_is_solved_stretch_by_stretch(
    settled: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Both("gated", torch.float32, size=64)
    watch(both.newton, settled, monkeypatch)
    inputs = {name: x.detach() for name, x in both.inputs(4, 2200).items()}
    found, wanted = both.newton(**inputs)[0], both.loop(**inputs)[0]
    assert len(settled) > 1
    assert error(found, wanted) < 1e-5


def test_explain_says_how_far_it_goes() -> None:
    report = SPEC.rule("gated", d=3).report()
    (found,) = report["rules"][0]["schedule"]["newton"]
    assert found == {"states": ["h"], "jacobian": "whole", "iterations": 16, "roundings": 8}
    assert "at most 16 iterations with the whole Jacobian" in SPEC.rule("gated", d=3).explain()
    assert "at most 64 iterations with a part of the Jacobian" in SPEC.rule("mixing", d=3).explain()


def test_it_is_never_chosen() -> None:
    for name in (*EXACT, *APPROXIMATE, *UNSETTLED):
        rule = SPEC.rule(name, **({} if name == "number" else {"d": 3}))
        assert rule.report()["rules"][0]["schedule"]["mode"] == "loop"


def test_it_compiles_and_exports() -> None:
    both = Both("pair")
    inputs = {name: x.detach() for name, x in both.inputs(2, 9).items()}
    want, _ = both.newton(**inputs)
    exported = torch.export.export(both.newton, (), inputs)
    assert error(exported.module()(**inputs)[0], want) < 1e-12
    compiled: Any = torch.compile(both.newton, backend="aot_eager", fullgraph=True)
    assert error(compiled(**inputs)[0], want) < 1e-12


def test_mapped_axes_and_low_precision_are_as_in_the_loop() -> None:
    both = Both("pair", torch.float32)
    wide = {
        name: x.detach()[:, :, None].expand(-1, -1, 4, -1) * torch.arange(4)[:, None]
        for name, x in both.inputs(2, 12).items()
    }
    assert error(both.newton(**wide)[0], both.loop(**wide)[0]) < 1e-5
    low = {name: x.detach().bfloat16() for name, x in both.inputs(2, 12).items()}
    out, state = both.newton(**low)
    assert out.dtype == torch.bfloat16
    assert state["c"].dtype == torch.float32
    assert error(out.float(), both.loop(**low)[0].float()) < 1e-2


def test_a_huge_initial_state_says_nothing_of_what_is_close() -> None:
    spec = seqc.loads(
        "rule top(x[d]) {\n state m[d] = -1e30\n state h[d] = 0\n"
        "m' = max(m + tanh(h), x)\n h' = tanh(h + x - m')\n return h' }"
    )
    x = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for time in (1, 9):
        found = [
            spec.rule("top", d=3).torch(mode=mode).double()(x=x[:, :time]) for mode in ("newton", "loop")
        ]
        torch.testing.assert_close(*found, rtol=1e-9, atol=0)
