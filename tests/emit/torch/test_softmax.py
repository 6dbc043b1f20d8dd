"""PyTorch's own attention: used where a rule is softmax attention and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqc
from tests.emit.torch.parts import BACKEND
from tests.emit.torch.rules import error

STORES = "store K[s, n] = k\n store V[s, m] = v\n"
WINDOW = "store K[s, n] = k, window = 5, sinks = 2\n store V[s, m] = v, window = 5, sinks = 2\n"
PLAIN = {
    "plain": STORES + "return sum[s](softmax[s](0.7 * sum[n](q * K')) * V')",
    "turned": STORES + "return sum[s](V' * softmax[s](sum[n](K' * g * q * 2) * 0.25))",
    "tempered": STORES + "return sum[s](softmax[s](g * sum[n](q * K')) * V')",
    "windowed": WINDOW + "return sum[s](softmax[s](sum[n](q * K')) * V')",
}
OTHERS = {
    "biased": STORES + "return sum[s](softmax[s](sum[n](q * K') - g * age[s]) * V')",
    "earlier": STORES + "return sum[s](softmax[s](sum[n](q * K)) * V)",
    "doubled": STORES + "return g * sum[s](softmax[s](sum[n](q * K')) * V')",
    "squared": STORES + "return sum[s](softmax[s](sum[n](q * K')) * V' * V')",
}
BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}


def spec(body: str) -> Any:
    return seqc.loads(f"rule read(q[n], k[n], v[m], g) {{ {body} }}").rule(n=5, m=3)


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_structure_decides(name: str) -> None:
    text = BACKEND.text(spec({**PLAIN, **OTHERS}[name]).program())
    assert ("(SoftmaxAttention)" in text) == (name in PLAIN)


def everything(
    op: Any, inputs: dict[str, Tensor], state: dict[str, Tensor] | None, reset: Tensor | None
) -> list[Tensor]:
    inputs = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    out, end = op(**inputs, state=state, reset=reset)
    grads = torch.autograd.grad(out.square().sum(), list(inputs.values()), materialize_grads=True)
    with torch.no_grad():
        alone, _ = op(**inputs, state=state, reset=reset)
    finals = [x for name, x in end.items() if not name.endswith(".count")]
    return [out, alone, *finals, *grads]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    ("time", "begun", "resets"), [(1, 0, False), (300, 0, False), (41, 9, False), (41, 3, True)]
)
def test_it_computes_what_the_token_loop_computes(
    name: str, time: int, begun: int, resets: bool, dtype: torch.dtype
) -> None:
    axes = {"q": "h g n", "k": "h n", "v": "h m", "g": "h g"}
    rule, draw = spec(PLAIN[name]), torch.Generator().manual_seed(time)
    shapes = {"q": (2, 3, 5), "k": (2, 5), "v": (2, 3), "g": (2, 3)}
    given = {n: torch.randn(2, begun + time, *x, generator=draw).to(dtype) for n, x in shapes.items()}
    reset = torch.rand(2, time, generator=draw) < 0.1 if resets else None
    found: list[list[Tensor]] = []
    for mode, kind in ((None, dtype), ("reference", torch.float64)):
        op = rule.torch(mode=mode, axes=axes).to(kind)
        exact = {n: x.to(kind) for n, x in given.items()}
        state = op(**{n: x[:, :begun] for n, x in exact.items()})[1] if begun else None
        found.append(everything(op, {n: x[:, begun:] for n, x in exact.items()}, state, reset))
    assert all(error(x.double(), y.double()) < BOUNDS[dtype] for x, y in zip(*found, strict=True))


def test_a_sequence_from_its_beginning_keeps_no_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: Any, **given: Any) -> Tensor:
        asked.append(given["is_causal"])
        return plain(*args, **given)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    op = spec(PLAIN["plain"]).torch()
    inputs = {name: torch.randn(1, 7, size) for name, size in (("q", 5), ("k", 5), ("v", 3))}
    inputs["g"] = torch.randn(1, 7)
    _, state = op(**inputs)
    op(**inputs, state=state)
    op(**inputs, reset=torch.zeros(1, 7, dtype=torch.bool))
    assert asked == [True, False, False]
