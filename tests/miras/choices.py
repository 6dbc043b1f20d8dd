"""The four choices in two tongues: what a rule says, and what it means in plain PyTorch.

The meaning is written from the papers' formulas with `torch.func.grad`, and shares nothing with the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.func import grad, hessian  # pyright: ignore[reportPrivateImportUsage]
from torch.nn import functional as F

KEY, VALUE, HIDDEN, TIME = 4, 3, 5, 6
Weights = dict[str, Tensor]
Token = Mapping[str, Tensor]
Map = Callable[[Tensor], Tensor]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tokens(time: int = TIME) -> dict[str, Tensor]:
    """One sequence of everything that a rule of the table may take."""
    return {
        "q": draw(time, KEY, seed=1),
        "k": draw(time, KEY, seed=2),
        "v": draw(time, VALUE, seed=3),
        "alpha": torch.sigmoid(draw(time, seed=4)),
        "a": torch.sigmoid(draw(time, KEY, seed=5)),
        "b": torch.sigmoid(draw(time, VALUE, seed=6)),
        "beta": 0.2 * torch.sigmoid(draw(time, seed=7)),
        "eta": torch.sigmoid(draw(time, seed=8)),
        "g": torch.sigmoid(draw(time, seed=9)),
        "delta": 0.5 + torch.sigmoid(draw(time, seed=10)),
    }


HEADER = "q[n], k[n], v[m], alpha, a[n], b[m], beta, eta, g, delta"


# --- Memories ---


@dataclass(frozen=True)
class Structure:
    """What follows `memory S: …`, without a mirror map; `net` answers a key."""

    axes: str
    kind: str
    options: str
    start: Weights
    net: Callable[[Weights, Tensor], Tensor]
    reads: str = "{0}({1})"

    def text(self, mirror: str) -> str:
        options = ", ".join(
            option for option in (self.options, f"mirror = {mirror}" if mirror else "") if option
        )
        return f"memory S: {self.axes}" + (f" = {self.kind}({options})" if options else "")

    def read(self, name: str, key: str) -> str:
        return self.reads.format(name, key)


def _mlp(w: Weights, x: Tensor) -> Tensor:
    return w["S.1.weight"] @ torch.tanh(w["S.0.weight"] @ x)


def _deep(w: Weights, x: Tensor) -> Tensor:
    y = F.silu(w["S.0.weight"] @ x + w["S.0.bias"])
    y = F.silu(w["S.1.weight"] @ y + w["S.1.bias"])
    y = w["S.2.weight"] @ y + w["S.2.bias"]
    return y / torch.sqrt((y * y).mean() + 1e-6)


def _weights(**shapes: tuple[int, ...]) -> Weights:
    return {
        f"S.{name}": 0.5 * draw(*shape, seed=20 + seed) for seed, (name, shape) in enumerate(shapes.items())
    }


MEMORIES = {
    "vector": Structure("m", "vector", "", {"S": torch.zeros(VALUE).double()}, lambda w, x: w["S"], "{0}"),
    "matrix": Structure(
        "n -> m", "matrix", "", {"S": torch.zeros(VALUE, KEY).double()}, lambda w, x: w["S"] @ x
    ),
    "mlp": Structure(
        "n -> m",
        "mlp",
        f"hidden = {HIDDEN}, activation = tanh",
        _weights(**{"0.weight": (HIDDEN, KEY), "1.weight": (VALUE, HIDDEN)}),
        _mlp,
    ),
    "deep": Structure(
        "n -> m",
        "mlp",
        f"hidden = {HIDDEN}, depth = 3, activation = silu, norm = rms, bias = true",
        _weights(
            **{
                "0.weight": (HIDDEN, KEY),
                "1.weight": (HIDDEN, HIDDEN),
                "2.weight": (VALUE, HIDDEN),
                "0.bias": (HIDDEN,),
                "1.bias": (HIDDEN,),
                "2.bias": (VALUE,),
            }
        ),
        _deep,
    ),
}


# --- Objectives ---


@dataclass(frozen=True)
class Loss:
    """`{y}` is what the memory answers to the key."""

    text: str
    meaning: Callable[[Tensor, Token], Tensor]


def _huber_length(y: Tensor, x: Token) -> Tensor:
    length = torch.linalg.vector_norm(y - x["v"])
    return torch.where(length <= x["delta"], 0.5 * length**2, x["delta"] * (length - 0.5 * x["delta"]))


def _cross_entropy(y: Tensor, x: Token) -> Tensor:
    return F.cross_entropy(y, torch.softmax(x["v"], 0))


OBJECTIVES = {
    "dot": Loss("-sum({y} * v)", lambda y, x: -(y * x["v"]).sum()),
    "l2": Loss("0.5 * sumsq({y} - v)", lambda y, x: 0.5 * ((y - x["v"]) ** 2).sum()),
    "l1": Loss("sum(abs({y} - v))", lambda y, x: (y - x["v"]).abs().sum()),
    "l3": Loss(
        "0.1 * sum(power_loss({y} - v, p = 3))", lambda y, x: 0.1 * (((y - x["v"]) ** 2 + 1e-6) ** 1.5).sum()
    ),
    "huber": Loss(
        "sum(huber({y} - v, delta))",
        lambda y, x: F.huber_loss(y, x["v"], reduction="sum", delta=float(x["delta"])),
    ),
    "huber length": Loss("huber_length({y} - v, delta)", _huber_length),
    "entropy": Loss("cross_entropy({y}, softmax(v))", _cross_entropy),
    "shifted": Loss("0.5 * sumsq({y} - (v - b))", lambda y, x: 0.5 * ((y - x["v"] + x["b"]) ** 2).sum()),
}


# --- Retentions ---


@dataclass(frozen=True)
class Keep:
    """A gate, what comes after the step, and a mirror map; `mirrors` has a text for each kind of memory."""

    text: str = ""
    gate: Callable[[Tensor, Token], Tensor] = lambda w, x: w
    after: Map = lambda w: w
    mirror: Map = lambda w: w
    mirrors: Mapping[str, str] = field(default_factory=dict[str, str])


def _q_norm(w: Tensor) -> Tensor:
    r = 4 / 3
    size = torch.sqrt(w * w + 1e-12)
    return w * size ** (r - 2) * (size**r).sum() ** ((2 - r) / r)


def _published(w: Tensor) -> Tensor:
    return w / (((w * w + 1e-6) ** 2).sum() ** 0.25) ** 2


def _soft(w: Tensor, amount: float) -> Tensor:
    return torch.sign(w) * F.relu(w.abs() - amount)


def _row(w: Tensor) -> Tensor:
    return w / torch.sqrt((w * w).sum(-1, keepdim=True) + 1e-12)


_ROWS = {"vector": "softmax", "matrix": "softmax[n]", "mlp": "simplex_rows", "deep": "simplex_rows"}
_Q = dict.fromkeys(MEMORIES, "q_norm(q = 4)")
_PUBLISHED = dict.fromkeys(MEMORIES, "moneta_normaliser(q = 4)")

RETENTIONS = {
    "none": Keep(),
    "gate": Keep("retention alpha * S", lambda w, x: x["alpha"] * w),
    "key gate": Keep("retention a * S", lambda w, x: x["a"] * w),
    "value gate": Keep("retention b * S", lambda w, x: x["b"].reshape(-1, *(1,) * (w.dim() - 1)) * w),
    "ridge": Keep("retention alpha * S  proximal ridge(0.1)", lambda w, x: x["alpha"] * w, lambda w: w / 1.1),
    "elastic net": Keep("proximal elastic_net(0.05, 0.1)", after=lambda w: _soft(w, 0.05) / 1.1),
    "sphere": Keep("proximal sphere{over}()", after=_row),
    "simplex": Keep(
        "retention alpha * S",
        lambda w, x: x["alpha"] * w,
        mirror=lambda w: torch.softmax(w, -1),
        mirrors=_ROWS,
    ),
    "bounded": Keep(mirror=torch.sigmoid, mirrors=dict.fromkeys(MEMORIES, "sigmoid")),
    "q norm": Keep("retention alpha * S", lambda w, x: x["alpha"] * w, mirror=_q_norm, mirrors=_Q),
    "published norm": Keep(
        "retention alpha * S", lambda w, x: x["alpha"] * w, mirror=_published, mirrors=_PUBLISHED
    ),
}


# --- Learners ---


@dataclass
class Run:
    """One sequence, token by token: the states that a learner keeps besides the memory are its own."""

    structure: Structure
    loss: Loss
    keep: Keep
    held: Weights = field(default_factory=Weights)
    velocity: Weights = field(default_factory=Weights)
    faded: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    past: list[tuple[Token, Tensor]] = field(default_factory=list[tuple[Token, Tensor]])

    def seen(self, held: Weights) -> Weights:
        return {name: self.keep.mirror(w) for name, w in held.items()}

    def objective(self, weights: Weights, x: Token) -> Tensor:
        return self.loss.meaning(self.structure.net(weights, x["k"]), x)

    def slope(self, held: Weights, x: Token) -> Weights:
        """∇ℓ with respect to the memory, at the memory whose states hold `held`."""
        slopes: Weights = grad(self.objective)(self.seen(held), x)
        return slopes

    def answers(self, learner: Learner, inputs: dict[str, Tensor]) -> tuple[Tensor, Weights]:
        held = dict(self.structure.start)
        rows: list[Tensor] = []
        for t in range(inputs["q"].shape[0]):
            x = {name: value[t] for name, value in inputs.items()}
            kept = {name: self.keep.gate(w, x) for name, w in held.items()}
            held = {name: self.keep.after(w) for name, w in learner.step(self, t, held, kept, x).items()}
            rows.append(self.structure.net(self.seen(held), x["q"]))
        return torch.stack(rows), held


def _less(start: Weights, rate: Tensor | float, slope: Weights, turn: Map = lambda g: g) -> Weights:
    return {name: w - rate * turn(slope[name]) for name, w in start.items()}


@dataclass(frozen=True)
class Learner:
    text: str
    step: Callable[[Run, int, Weights, Weights, Token], Weights]
    holds_memory: bool = True  # in the state of its name


def _steps(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    for _ in range(3):
        kept = _less(kept, x["beta"], run.slope(kept, x))
    return kept


def _every(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    run.held = held if t % 4 == 0 else run.held
    return _less(kept, x["beta"], run.slope(run.held, x))


def _window(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    run.past = [*run.past, (x, x["g"])][-3:]
    slope = {name: torch.zeros_like(w) for name, w in kept.items()}
    for token, weight in run.past:
        slope = {name: s + weight * run.slope(held, token)[name] for name, s in slope.items()}
    return _less(kept, x["beta"], slope)


def _normalised(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    length = (x["k"] ** 2).sum() if run.structure.reads != "{0}" else torch.ones((), dtype=torch.float64)
    return _less(kept, x["beta"] / (0.01 + length), run.slope(held, x))


def _momentum(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    slope = run.slope(held, x)
    before = run.velocity or {name: torch.zeros_like(w) for name, w in held.items()}
    run.velocity = {name: x["eta"] * z - x["beta"] * slope[name] for name, z in before.items()}
    return {name: w + run.velocity[name] for name, w in kept.items()}


def _muon(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    slope = run.slope(held, x)
    before = run.velocity or {name: torch.zeros_like(w) for name, w in held.items()}
    run.velocity = {name: x["eta"] * z - slope[name] for name, z in before.items()}
    return _less(kept, -x["beta"], run.velocity, newton_schulz)


def newton_schulz(g: Tensor) -> Tensor:
    y = g / torch.sqrt((g * g).sum() + 1e-12)
    for _ in range(5):
        gram = y @ y.T
        y = 3.4445 * y - 4.775 * gram @ y + 2.0315 * gram @ gram @ y
    return y


def _implicit(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    """The numerical minimiser of r·ℓ(V) + ½‖V - R‖²: a step of Newton's method, which is exact for a quadratic."""
    start = kept["S"]

    def cost(flat: Tensor) -> Tensor:
        moved = flat - start.flatten()
        return x["beta"] * run.objective({"S": flat.reshape(start.shape)}, x) + 0.5 * (moved * moved).sum()

    flat = start.flatten()
    return {"S": (flat - torch.linalg.solve(hessian(cost)(flat), grad(cost)(flat))).reshape(start.shape)}


def _diagonal(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    """Longhorn's: the product of the key with itself is replaced by its diagonal."""
    start = kept["S"]
    key = x["k"] if start.dim() == 2 else torch.ones(1, dtype=torch.float64)
    seen = start * key if start.dim() == 2 else start[:, None]
    slope = torch.stack(
        [grad(run.loss.meaning)(seen[:, i], x) * key[i] for i in range(key.numel())], -1
    ).reshape(start.shape)
    curvature = hessian(run.loss.meaning)(seen[:, 0], x).diagonal()
    rate = x["beta"] / (1 + x["beta"] * curvature * (key * key).sum())
    return {"S": start - rate.reshape(-1, *(1,) * (start.dim() - 1)) * slope}


def _least_squares(still: bool) -> Callable[[Run, int, Weights, Weights, Token], Weights]:
    """The minimiser of the weighted objectives of all tokens and a ridge, which decays with them or stays still."""

    def step(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
        run.past = [*((token, weight * x["eta"]) for token, weight in run.past), (x, x["beta"])]
        run.faded = run.faded * x["eta"]
        ridge = 0.5 * (1.0 if still else run.faded)
        shape = held["S"].shape

        def cost(flat: Tensor) -> Tensor:
            losses = [weight * run.objective({"S": flat.reshape(shape)}, token) for token, weight in run.past]
            return torch.stack(losses).sum() + 0.5 * ridge * (flat * flat).sum()

        flat = torch.zeros_like(held["S"]).flatten()
        return {"S": -torch.linalg.solve(hessian(cost)(flat), grad(cost)(flat)).reshape(shape)}

    return step


LEARNERS = {
    "gd": Learner("gd(rate = beta)", lambda r, t, w, k, x: _less(k, x["beta"], r.slope(w, x))),
    "retained": Learner(
        "gd(rate = beta, at = retained)", lambda r, t, w, k, x: _less(k, x["beta"], r.slope(k, x))
    ),
    "steps": Learner("gd(rate = beta, at = retained, steps = 3)", _steps),
    "every": Learner("gd(rate = beta, every = 4)", _every),
    "window": Learner("gd(rate = beta, window = 3, weights = g)", _window),
    "normalised": Learner("gd(rate = beta, normalised = 0.01)", _normalised),
    "sign": Learner(
        "gd(rate = beta, direction = sign)",
        lambda r, t, w, k, x: _less(k, x["beta"], r.slope(w, x), torch.sign),
    ),
    "momentum": Learner("momentum(rate = beta, decay = eta)", _momentum),
    "muon": Learner("momentum(rate = beta, decay = eta, direction = newton_schulz)", _muon),
    "implicit": Learner("implicit(rate = beta)", _implicit),
    "rls": Learner("rls(rate = beta, decay = eta, ridge = 0.5)", _least_squares(still=False)),
    "exact": Learner(
        "exact(rate = beta, decay = eta, ridge = 0.5, steps = 8)",
        _least_squares(still=True),
        holds_memory=False,
    ),
    "diagonal": Learner("implicit(rate = beta, diagonal = true)", _diagonal),
}
