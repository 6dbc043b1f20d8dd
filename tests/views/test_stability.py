"""The report of stability against closed forms."""

from __future__ import annotations

from math import log

import pytest
import torch

import seqc
from seqc.bundled import folder
from seqc.spec import load
from seqc.views.stability import half_lives, report, text, verdict
from seqc.views.transition import Transition, jacobians, rates, transitions
from seqc.views.uses import Use, uses

TIME = 12


def use_of(file: str, name: str, time: int = TIME) -> Use:
    spec = load(folder("specs") / file)
    lengths = {axis: 3 + i for i, axis in enumerate(spec.checked.default_sizes(name))}
    (use,) = uses(spec.rule(name, **lengths).whole, time)
    return use


def written(body: str, arguments: str = "x[d]; d = 3") -> Use:
    (use,) = uses(seqc.loads(f"rule r({arguments}) {{ {body} }}").rule().whole, TIME)
    return use


def only(use: Use) -> Transition:
    (found,) = transitions(use)
    return found


def test_half_lives_of_retnet_are_those_of_its_decays() -> None:
    model = load(folder("specs") / "linear/retnet.seq").model(d=16, h=4, layers=1)
    (use,) = uses(model.whole, TIME)
    shortest, longest = half_lives(only(use), ("h",))
    gamma = [1 - 2.0 ** (-5 - head) for head in range(4)]
    want = torch.tensor([log(2) / -log(each) for each in gamma], dtype=torch.float64)
    torch.testing.assert_close(shortest, want)
    torch.testing.assert_close(longest, want)
    facts = report(use)
    assert facts["states"][0]["eigenvalues"]["real"] == pytest.approx([gamma[0], gamma[3]])
    assert facts["states"][0]["perturbations"] == "fade"
    assert "by h: 21.8 tokens; 44 tokens; 88.4 tokens; 177 tokens" in text(facts)


def test_the_delta_rule_shrinks_along_its_key_alone() -> None:
    use = use_of("delta/deltanet.seq", "delta")
    found = only(use)
    assert found.eigenvalues is not None
    real = found.eigenvalues.real.sort(-1).values
    along = 1 - use.inputs["beta"][0] * use.inputs["k"][0].square().sum(-1)
    torch.testing.assert_close(real[:, 0], along[1:])
    torch.testing.assert_close(real[:, 1:], torch.ones_like(real[:, 1:]))
    assert found.formulas == ("1", "1 - beta * sum[n](k * k)")


def test_eigenvalues_of_an_lru_are_lambda() -> None:
    use = use_of("gated/lru.seq", "lru")
    found = only(use)
    assert found.eigenvalues is not None
    modulus = torch.exp(-torch.exp(use.parameters["nu"]))
    torch.testing.assert_close(found.eigenvalues[0, :, 0].abs(), modulus)
    torch.testing.assert_close(found.rates[:, 0], modulus)


def test_gates_of_mamba_are_read_off() -> None:
    use = use_of("gated/mamba.seq", "selective_scan")
    dt, decay = use.inputs["dt"][0], torch.exp(use.parameters["A_log"])
    want = torch.exp(-dt[1:, :, None] * decay).log().mean(0).exp()
    torch.testing.assert_close(only(use).rates[..., 0], want)


def test_what_is_read_off_is_the_jacobian() -> None:
    """The same eigenvalues from the affine form and from automatic differentiation."""
    for file, name in [("delta/kda.seq", "kda"), ("delta/momentum_delta.seq", "momentum_delta")]:
        use = use_of(file, name, 4)
        found = only(use)
        assert found.how == "affine"
        assert found.eigenvalues is not None
        group = [use.rule.state(state) for state in found.states]
        full = torch.linalg.eigvals(jacobians(use, group)[1:]).abs().sort(-1).values
        columns = full.shape[-1] // found.eigenvalues[0].numel()
        small = found.eigenvalues.flatten(1).abs().repeat_interleave(columns, 1).sort(-1).values
        torch.testing.assert_close(full, small, rtol=1e-6, atol=1e-6)


def test_a_tanh_unit_by_its_derivative() -> None:
    use = written("state h[d] = 0\n h' = tanh(0.5 * h + x)\n return h'")
    found = only(use)
    assert found.how == "jacobian"
    assert found.eigenvalues is not None
    h = torch.zeros(3, dtype=torch.float64)
    for t, x in enumerate(use.inputs["x"][0]):
        h = torch.tanh(0.5 * h + x)
        if t:
            want = 0.5 * (1 - h**2)
            torch.testing.assert_close(found.eigenvalues[t - 1].real.sort().values, want.sort().values)


@pytest.mark.parametrize(
    ("update", "said"), [("0.5 * h + x", "fade"), ("h + x", "stay"), ("1.5 * h + x", "grow"), ("x", "fade")]
)
def test_verdicts(update: str, said: str) -> None:
    facts = report(written(f"state h[d] = 0\n h' = {update}\n return h'"))
    assert facts["states"][0]["perturbations"] == said


def test_the_rate_of_a_turning_state_is_its_modulus() -> None:
    angle = torch.tensor(0.3, dtype=torch.float64)
    turn = 0.9 * torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    found = rates(turn.expand(20, 2, 2))
    torch.testing.assert_close(found, torch.full((2,), 0.9, dtype=torch.float64))


def test_large_states_are_measured() -> None:
    use = written("state h[d] = 0\n h' = 0.5 * h + tanh(0.01 * h) + x\n return h'", "x[d]; d = 300")
    found = only(use)
    assert (found.how, found.eigenvalues) == ("measured", None)
    assert 0.5 < float(found.rates) < 0.51
    assert "the growth of a small change was measured" in text(report(use))


def test_counters_are_no_memory() -> None:
    use = written("state c = 0\n state h[d] = 0\n c' = c + 1\n h' = 0.5 * h + c' * x\n return h'")
    assert [found.states for found in transitions(use)] == [("h",)]


def test_stores_keep_what_they_see() -> None:
    facts = report(use_of("attention/window.seq", "window_attention"))
    assert facts["states"] == []
    assert all(store["kept"] is not None for store in facts["stores"])
    assert "that are visible as they came" in text(facts)


def test_half_lives_at_the_ends() -> None:
    found = Transition(
        ("h",), "affine", ("d",), None, torch.tensor([[0.0], [1.0], [0.5]], dtype=torch.float64)
    )
    shortest, longest = half_lives(found, ())
    assert (float(shortest), float(longest)) == (0, torch.inf)
    assert half_lives(found, ("d",))[0].tolist() == pytest.approx([0, torch.inf, 1])
    assert verdict(1.0) == "stay"
