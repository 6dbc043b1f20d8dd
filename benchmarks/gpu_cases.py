"""The rules that `benchmarks.gpu` runs, what they are compared with, and numbers to feed them.

Logarithms of gates lie between -5 and 0, which lets some functions of flash-linear-attention be quicker: `safe_gate`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import seqc

SHAPES = (  # batch, time, heads, entries of a key and of a value
    (1, 8192, 96, 128),
    (2, 16384, 16, 128),
    (4, 2048, 16, 128),
    (4, 4096, 64, 128),
    (8, 2048, 32, 256),
    (8, 1024, 8, 64),
)
STEPS = 2  # corrections a token

Inputs = dict[str, Tensor]
Call = Callable[..., Any]
NAMES: Mapping[str, str] = {name: name for name in ("q", "k", "v", "beta")}


@dataclass(frozen=True)
class Rival:
    """A function that computes a case.

    `arguments` makes its tensors of the case's inputs, gates in the form that it wants; that is not measured.
    """

    package: str
    place: str
    name: str
    arguments: Callable[[Inputs], Inputs]
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def function(self) -> Call:
        """Raises ImportError or AttributeError where it is not installed."""
        found: Call = getattr(importlib.import_module(self.place), self.name)
        return found

    def leaves(self, inputs: Inputs) -> Inputs:
        """Its tensors, which ask for gradients."""
        given = {name: x.detach() for name, x in inputs.items()}
        return {name: x.contiguous().requires_grad_() for name, x in self.arguments(given).items()}

    def called(self, function: Call, leaves: Inputs) -> Tensor:
        """The outputs, with the shape of a case's."""
        out = function(**leaves, **self.fixed)
        found: Tensor = out[0] if isinstance(out, tuple) else out
        return found


@dataclass(frozen=True)
class Case:
    """A rule, what it is compared with, and axes with a length of their own.

    `copied` says that the rate of copies is what limits it; `mapped` that its inputs have heads, which the rule knows
    nothing of.
    """

    name: str
    text: str
    rivals: tuple[Rival, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    copied: bool = False
    mapped: bool = False


def fla(place: str, name: str, arguments: Callable[[Inputs], Inputs], **fixed: Any) -> Rival:
    """A function of flash-linear-attention."""
    return Rival("flash-linear-attention", f"fla.ops.{place}", name, arguments, fixed)


def logarithm(x: Tensor) -> Tensor:
    return x.float().log()


def as_given(x: Inputs) -> Inputs:
    """Gates as their logarithms in single precision, all else under the name that it has."""
    gates = {"g": logarithm(x["alpha"])} if "alpha" in x else {}
    return {**{name: x[name] for name in NAMES if name in x}, **gates}


def diagonal(x: Inputs) -> Inputs:
    """All heads are one axis."""
    return {"x": x["v"].flatten(2), "g": logarithm(x["alpha"]).flatten(2)}


def low_rank(x: Inputs) -> Inputs:
    """S' = w·S + (S a)·b + v·k."""
    kept = {"r": x["q"], "k": x["k"], "v": x["v"], "w": logarithm(x["alpha"])}
    return {**kept, "a": -x["kappa"], "b": x["kappa"] * x["rate"]}


def products(x: Inputs) -> Inputs:
    """The corrections of a token stand one after another in time."""
    several = {name: x[name].transpose(2, 3).flatten(1, 2) for name in ("k", "v")}
    return {
        **several,
        "q": x["q"],
        "g": logarithm(x["alpha"]),
        "beta": x["beta"].transpose(2, 3).flatten(1, 2),
    }


def forgetting(x: Inputs) -> Inputs:
    return {"q": x["q"], "k": x["k"], "v": x["v"], "g": x["log_f"].float()}


def state_space(x: Inputs) -> Inputs:
    """One group of heads, which all decay at the rate 1."""
    heads = x["dt"].shape[-1]
    rates = torch.full((heads,), -1.0, device=x["dt"].device)
    return {"x": x["v"], "dt": x["dt"], "A": rates, "B": x["k"][:, :, None], "C": x["q"][:, :, None]}


MATRIX = "rule {name}(q[h, n], k[h, n], v[h, m]{gates}) {{\n    state  S[h, n, m] = 0\n"
READ = "    return sum[n](S' * q)\n}}\n"
HEBBIAN = MATRIX + "    S'     = {decay}S + k * v\n" + READ
DELTA = MATRIX + "    S'     = {decay}S + beta * k * (v - sum[n]({decay}S * k))\n" + READ
SCAN = "rule scan(v[h, m], alpha[h, m]) {\n    state  s[h, m] = 0\n    s'     = alpha * s + v\n    return s'\n}\n"
ROTATED = """
rule rotated(v[h, m], alpha[h, m], theta[h, m]) {
    state  s[h, m] complex = 0
    s'     = polar(alpha, theta) * s + v
    return real(s')
}
"""
LOW_RANK = """
rule low_rank(q[h, n], k[h, n], v[h, m], alpha[h, n], kappa[h, n], rate[h, n]) {
    state  S[h, m, n] = 0
    S'     = alpha * S - sum[n](S * kappa) * (rate * kappa) + v * k
    return sum[n](S' * q)
}
"""
PRODUCTS = """
rule products(q[h, n], k[h, steps, n], v[h, steps, m], alpha[h], beta[h, steps]; steps = 2) {
    state  S[h, m, n] = 0
    let    R = alpha * S
    repeat steps as i {
        let key = at[steps](k, i)
        R = R - at[steps](beta, i) * (sum[n](R * key) - at[steps](v, i)) * key
    }
    S'     = R
    return sum[n](S' * q)
}
"""
STABILISED = """
rule stabilised(q[n], k[n], v[m], i, f; scale = n^-0.5) {
    state  top = 0
    state  C[m, n] = 0
    state  z[n] = 0
    let    log_f = log_sigmoid(f)
    top'   = max(log_f + top, i)
    let    keep = exp(log_f + top - top')
    let    write = exp(i - top')
    C'     = keep * C + write * v * k
    z'     = keep * z + write * k
    return scale * sum[n](C' * q) / max(abs(scale * sum[n](q * z')), exp(-top'))
}
"""
GATED_UNIT = """
rule gated_unit(r[m], z[m], v[m]; e = m, reach = m^-0.5) {
    param  R_r[m, e] = uniform(-reach, reach)
    param  R_z[m, e] = uniform(-reach, reach)
    param  R_n[m, e] = uniform(-reach, reach)
    state  s[m] = 0
    let    keep = sigmoid(z + sum[e](R_z * s[m -> e]))
    let    reset = sigmoid(r + sum[e](R_r * s[m -> e]))
    s'     = keep * s + (1 - keep) * tanh(v + reset * sum[e](R_n * s[m -> e]))
    return s'
}
"""
HELD = """
rule held(q[n], k[n], v[m], forget, eta, theta; c = 16) {
    memory    M: n -> m
    objective 0.5 * sumsq(M(k) - v)
    retention (1 - forget) * M
    learner   momentum(rate = theta, decay = eta, every = c)
    return    M'(q)
}
"""
HELD_NORM = """
rule held_norm(q[n], k[n], v[m], rate; m = n, c = 16) {
    memory    W: n -> m = mlp(depth = 1, norm = layer, residual = true, bias = true)
    objective 0.5 * sumsq(W(k) - v)
    learner   gd(rate = rate, every = c)
    return    W'(q)
}
"""
FORGETTING = """
rule forgetting(q[h, n], k[h, n], v[h, m], log_f[h]; scale = n^-0.5) {
    state  F[h] = 0
    F'     = F + log_f
    store  K[s, h, n] = k
    store  V[s, h, m] = v
    store  G[s, h] = F'
    return sum[s](softmax[s](scale * sum[n](q * K') + F' - G') * V')
}
"""
STATE_SPACE = """
rule state_space(q[n], k[n], v[h, m], dt[h]) {
    state  H[h, m, n] = 0
    H'     = exp(-dt) * H + dt * v * k
    return sum[n](H' * q)
}
"""


def _matrix(name: str, form: str, gates: str, decay: str) -> str:
    return form.format(name=name, gates=gates, decay=decay)


CASES = (
    Case("scan", SCAN, (fla("hgrn", "chunk_hgrn", diagonal),), copied=True),
    Case(
        "gate a head",
        _matrix("gated", HEBBIAN, ", alpha[h]", "alpha * "),
        (fla("simple_gla", "chunk_simple_gla", as_given, scale=1.0),),
    ),
    Case(
        "gate a key",
        _matrix("gla", HEBBIAN, ", alpha[h, n]", "alpha * "),
        (fla("gla", "chunk_gla", as_given, scale=1.0),),
    ),
    Case(
        "delta",
        _matrix("delta", DELTA, ", beta[h]", ""),
        (fla("delta_rule", "chunk_delta_rule", as_given, scale=1.0),),
    ),
    Case(
        "gated delta",
        _matrix("gated_delta", DELTA, ", alpha[h], beta[h]", "alpha * "),
        (fla("gated_delta_rule", "chunk_gated_delta_rule", as_given, scale=1.0),),
    ),
    Case(
        "delta, gate a key",
        _matrix("kda", DELTA, ", alpha[h, n], beta[h]", "alpha * "),
        (fla("kda", "chunk_kda", as_given, scale=1.0, safe_gate=True),),
    ),
)
MORE = (
    Case("complex scan", ROTATED, copied=True),
    Case(
        "diagonal and low rank",
        LOW_RANK,
        (fla("rwkv7", "chunk_rwkv7", low_rank, scale=1.0, safe_gate=True),),
    ),
    Case(
        "two corrections",
        PRODUCTS,
        (
            fla(
                "gated_delta_product", "chunk_gated_delta_product", products, scale=1.0, num_householder=STEPS
            ),
        ),
        {"steps": STEPS},
    ),
    Case("stabilised", STABILISED, mapped=True),
    Case(
        "state space",
        STATE_SPACE,
        (
            Rival(
                "mamba-ssm",
                "mamba_ssm.ops.triton.ssd_combined",
                "mamba_chunk_scan_combined",
                state_space,
                {"chunk_size": 256},
            ),
        ),
    ),
    Case(
        "attention, forget gates",
        FORGETTING,
        (
            fla("forgetting_attn", "parallel_forgetting_attn", forgetting),
            Rival("FlexAttention", __name__, "flex_forgetting", forgetting),
        ),
    ),
    Case("gated unit", GATED_UNIT, mapped=True),
    Case("held gradients, momentum", HELD, mapped=True),
    Case("held gradients, norm", HELD_NORM, mapped=True),
)
DRAWN: Mapping[str, Callable[[Tensor], Tensor]] = {  # from normal numbers; the others stay such
    "alpha": lambda x: torch.sigmoid(x + 3),
    "beta": lambda x: torch.sigmoid(x + 3),
    "rate": lambda x: 0.1 * torch.sigmoid(x),
    "forget": lambda x: torch.sigmoid(x - 3),
    "eta": torch.sigmoid,
    "theta": lambda x: 0.1 * torch.sigmoid(x),
    "dt": lambda x: torch.sigmoid(x - 3),
    "f": lambda x: x + 3,
    "log_f": lambda x: F.logsigmoid(x + 3),
    "k": lambda x: F.normalize(x, dim=-1),
    "kappa": lambda x: F.normalize(x, dim=-1),
}


def recurrence(case: Case, heads: int, size: int) -> Any:
    """The rule with so many heads, and keys and values of so many entries."""
    spec = seqc.loads(case.text)
    (name,) = spec.rules
    own = {"h": heads, **case.sizes}
    axes = spec.checked.default_sizes(name)
    return spec.rule(name, **{axis: own.get(axis, size) for axis in axes}).recurrence


def drawn(case: Case, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Inputs:
    """Gates near 1, keys of length 1, small rates, all asking for gradients."""
    batch, time, heads, size = shape
    rule = recurrence(case, heads, size)
    lead = (batch, time, heads) if case.mapped else (batch, time)
    draw = torch.Generator(device).manual_seed(0)
    found: Inputs = {}
    for leaf in rule.inputs:
        x = torch.randn((*lead, *(rule.sizes[axis] for axis in leaf.axes)), generator=draw, device=device)
        if leaf.name in DRAWN:
            x = DRAWN[leaf.name](x)
        found[leaf.name] = x.to(dtype).requires_grad_()
    return found


def flex_forgetting(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    """The attention as PyTorch's FlexAttention compiles it."""
    total = g.cumsum(1).transpose(1, 2)  # [B, H, T]

    def score(x: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return x + total[batch, head, query] - total[batch, head, key]

    made = (x.transpose(1, 2) for x in (q, k, v))
    out: Tensor = _flex()(*made, score_mod=score, block_mask=_causal(q.shape[1], str(q.device)))
    return out.transpose(1, 2)


@cache
def _flex() -> Call:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


@cache
def _causal(time: int, device: str) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def past(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query >= key

    return create_block_mask(past, None, None, time, time, device=device)
