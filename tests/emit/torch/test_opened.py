"""Rules mapped over axes of open length: grouped queries share a state, and the lengths are the inputs'."""

from __future__ import annotations

import copy

import pytest
import torch

import seqc
from seqc.errors import UserError

RULE = """
rule gated(q[n], k[n], v[m], alpha) {
    param  scale[n] = uniform(0.5, 1)
    state  S[m, n] = 0
    S'     = alpha * S + v * scale * k
    return sum[n](S' * q)
}
"""
AXES = {"q": "kv g n", "k": "kv n", "v": "kv m", "alpha": "kv"}


def _inputs(batch: int, time: int, kv: int, g: int) -> dict[str, torch.Tensor]:
    shapes = {"q": (kv, g, 5), "k": (kv, 5), "v": (kv, 3), "alpha": (kv,)}
    return {name: torch.rand(batch, time, *shape) for name, shape in shapes.items()}


def test_groups_share_a_state() -> None:
    op = seqc.loads(RULE).rule(n=5, m=3).torch(axes=AXES)
    for kv, g in [(2, 3), (1, 4)]:
        inputs = _inputs(2, 9, kv, g)
        out, state = op(**inputs)
        assert out.shape == (2, 9, kv, g, 3)
        assert state["S"].shape == op.init_state(2, kv=kv, g=g)["S"].shape == (2, kv, 3, 5)
        first, half = op(**{name: x[:, :4] for name, x in inputs.items()})
        second, end = op(**{name: x[:, 4:] for name, x in inputs.items()}, state=half)
        torch.testing.assert_close(torch.cat([first, second], 1), out)
        last, _ = op.step(**{name: x[:, 4] for name, x in inputs.items()}, state=half)
        torch.testing.assert_close(last, out[:, 4])
        torch.testing.assert_close(end["S"], state["S"])


def test_all_lengths_train_one_parameter() -> None:
    op = seqc.loads(RULE).rule(n=5, m=3).torch(axes=AXES).double()
    assert list(op.state_dict()) == ["scale"]
    for kv in (1, 2):
        out, _ = op(**{name: x.double() for name, x in _inputs(1, 6, kv, 2).items()})
        assert out.dtype == torch.float64
        op.zero_grad()
        out.sum().backward()
        assert op.scale.grad is not None
        assert op.scale.grad.abs().sum() > 0
    other = copy.deepcopy(op)
    with torch.no_grad():
        other.scale.mul_(2)
    inputs = {name: x.double() for name, x in _inputs(1, 6, 2, 2).items()}
    torch.testing.assert_close(other(**inputs)[0], 2 * op(**inputs)[0])


def test_what_does_not_fit_is_said() -> None:
    op = seqc.loads(RULE).rule(n=5, m=3).torch(axes=AXES)
    inputs = _inputs(1, 4, 2, 1)
    with pytest.raises(UserError, match="`kv` has the length 3"):
        op(**{**inputs, "v": torch.rand(1, 4, 3, 3)})
    with pytest.raises(UserError, match="after batch and time"):
        op(**{**inputs, "v": torch.rand(1, 4, 3)})
    with pytest.raises(UserError, match="is missing"):
        op(q=inputs["q"])
    with pytest.raises(UserError, match="not known"):
        op.init_state(1)
