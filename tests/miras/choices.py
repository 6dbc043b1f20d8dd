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

from tests.miras.structures import Memory, Structure, Token, Weights, draw

TIME = 6
Map = Callable[[Tensor], Tensor]


def tokens(sizes: Mapping[str, int], time: int = TIME) -> dict[str, Tensor]:
    """One sequence of everything that a rule of the table may take."""
    key, value = sizes["n"], sizes["m"]
    return {
        "q": draw(time, key, seed=1),
        "k": draw(time, key, seed=2),
        "v": draw(time, value, seed=3),
        "alpha": torch.sigmoid(draw(time, seed=4)),
        "a": torch.sigmoid(draw(time, key, seed=5)),
        "b": torch.sigmoid(draw(time, value, seed=6)),
        "beta": 0.2 * torch.sigmoid(draw(time, seed=7)),
        "eta": torch.sigmoid(draw(time, seed=8)),
        "g": torch.sigmoid(draw(time, seed=9)),
        "delta": 0.5 + torch.sigmoid(draw(time, seed=10)),
        "c": torch.sigmoid(draw(time, value, key, seed=11)),
    }


# --- Objectives ---


@dataclass(frozen=True)
class Loss:
    """`{y}` is what the memory answers to the key, `{v}` what it should answer."""

    text: str
    meaning: Callable[[Tensor, Token], Tensor]


def _huber_length(y: Tensor, x: Token) -> Tensor:
    length = torch.linalg.vector_norm(y - x["v"])
    return torch.where(length <= x["delta"], 0.5 * length**2, x["delta"] * (length - 0.5 * x["delta"]))


def _cross_entropy(y: Tensor, x: Token) -> Tensor:
    return F.cross_entropy(y, torch.softmax(x["v"], 0))


OBJECTIVES = {
    "dot": Loss("-sum({y} * {v})", lambda y, x: -(y * x["v"]).sum()),
    "l2": Loss("0.5 * sumsq({y} - {v})", lambda y, x: 0.5 * ((y - x["v"]) ** 2).sum()),
    "l1": Loss("sum(abs({y} - {v}))", lambda y, x: (y - x["v"]).abs().sum()),
    "l3": Loss(
        "0.1 * sum(power_loss({y} - {v}, p = 3))",
        lambda y, x: 0.1 * (((y - x["v"]) ** 2 + 1e-6) ** 1.5).sum(),
    ),
    "huber": Loss(
        "sum(huber({y} - {v}, delta))",
        lambda y, x: F.huber_loss(y, x["v"], reduction="sum", delta=float(x["delta"])),
    ),
    "huber length": Loss("huber_length({y} - {v}, delta)", _huber_length),
    "entropy": Loss("cross_entropy({y}, softmax({v}))", _cross_entropy),
    "shifted": Loss("0.5 * sumsq({y} - ({v} - b))", lambda y, x: 0.5 * ((y - x["v"] + x["b"]) ** 2).sum()),
}


# --- Retentions ---


@dataclass(frozen=True)
class Keep:
    """A gate on the memory `{S}`, what comes after the step, and a mirror map, which has a text for each kind."""

    gate_text: str = ""
    gate: Callable[[Tensor, Token], Tensor] = lambda w, x: w
    after_text: str = ""
    after: Map = lambda w: w
    mirror: Map = lambda w: w
    mirrors: Mapping[str, str] = field(default_factory=dict[str, str])

    def text(self, memory: Memory) -> str:
        over = "[n]" if memory.kind == "matrix" else ""
        gate = f"retention {memory.name}: {self.gate_text}" if self.gate_text else ""
        after = f"proximal {memory.name}: {self.after_text}" if self.after_text else ""
        return f"{gate}  {after}".format(S=memory.name, over=over).strip()


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


_ROWS = {"vector": "softmax", "matrix": "softmax[n]", "mlp": "simplex_rows", "slots": "simplex_rows"}
_Q = dict.fromkeys(_ROWS, "q_norm(q = 4)")
_PUBLISHED = dict.fromkeys(_ROWS, "moneta_normaliser(q = 4)")


def _by_alpha(w: Tensor, x: Token) -> Tensor:
    return x["alpha"] * w


def _by_value(w: Tensor, x: Token) -> Tensor:
    return x["b"].reshape(-1, *(1,) * (w.dim() - 1)) * w


RETENTIONS = {
    "none": Keep(),
    "gate": Keep("alpha * {S}", _by_alpha),
    "key gate": Keep("a * {S}", lambda w, x: x["a"] * w),
    "value gate": Keep("b * {S}", _by_value),
    "entry gate": Keep("c * {S}", lambda w, x: x["c"] * w),
    "ridge": Keep("alpha * {S}", _by_alpha, "ridge(0.1)", lambda w: w / 1.1),
    "elastic net": Keep(after_text="elastic_net(0.05, 0.1)", after=lambda w: _soft(w, 0.05) / 1.1),
    "sphere": Keep(after_text="sphere{over}()", after=_row),
    "simplex": Keep("alpha * {S}", _by_alpha, mirror=lambda w: torch.softmax(w, -1), mirrors=_ROWS),
    "bounded": Keep(mirror=torch.sigmoid, mirrors=dict.fromkeys(_ROWS, "sigmoid")),
    # With `gd`, which then sums up gradients in the dual: dual averaging.
    "q norm": Keep("alpha * {S}", _by_alpha, mirror=_q_norm, mirrors=_Q),
    "published norm": Keep("alpha * {S}", _by_alpha, mirror=_published, mirrors=_PUBLISHED),
}


# --- Learners ---


@dataclass
class Run:
    """One memory over one sequence: the states that its learner keeps besides it are its own.

    `world` is all that the rule holds before the token: what other memories are to this one.
    """

    structure: Structure
    loss: Loss
    keep: Keep
    memory: Memory
    world: Weights = field(default_factory=Weights)
    held: Weights = field(default_factory=Weights)
    velocity: Weights = field(default_factory=Weights)
    faded: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    past: list[tuple[Token, Tensor, Weights]] = field(default_factory=list[tuple[Token, Tensor, Weights]])

    def seen(self, held: Weights) -> Weights:
        return {name: self.keep.mirror(w) if name in self.memory.tensors else w for name, w in held.items()}

    def objective(self, mine: Weights, x: Token, world: Weights | None = None) -> Tensor:
        weights = {**look(self.structure, self.keep, self.world if world is None else world), **mine}
        target = {**x, "v": self.structure.wanted(weights, x)}
        return self.loss.meaning(self.structure.net(weights, x), target)

    def slope(self, held: Weights, x: Token) -> Weights:
        """∇ℓ with respect to the memory, at the memory whose states hold `held`."""
        slopes: Weights = grad(self.objective)(self.seen(held), x)
        return slopes

    @property
    def only(self) -> str:
        """The state of a linear memory."""
        (name,) = self.memory.tensors
        return name


def look(structure: Structure, keep: Keep, held: Weights) -> Weights:
    """What all the memories are, of what the states hold."""
    learned = {name for memory in structure.memories for name in memory.tensors}
    return {name: keep.mirror(w) if name in learned else w for name, w in held.items()}


def answers(
    structure: Structure, loss: Loss, keep: Keep, learner: Learner, inputs: Mapping[str, Tensor]
) -> tuple[Tensor, Weights]:
    """What a rule of the table answers, token by token, and what its states hold in the end."""
    held = structure.start()
    runs = [Run(structure, loss, keep, memory) for memory in structure.memories]
    rows: list[Tensor] = []
    for t in range(inputs["q"].shape[0]):
        x = {name: value[t] for name, value in inputs.items()}
        x["beta"] = structure.pace(look(structure, keep, held), x)
        after = {**held, **structure.move(held, x)}
        for run in runs:
            run.world = held
            mine = {name: held[name] for name in run.memory.tensors}
            kept = {name: keep.gate(w, x) for name, w in mine.items()}
            after |= {name: keep.after(w) for name, w in learner.step(run, t, mine, kept, x).items()}
        held = after
        rows.append(structure.reply(look(structure, keep, held), x))
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


def _recent(run: Run, held: Weights, x: Token) -> Weights:
    """∇ℓ summed over the last three tokens, each with its weight."""
    run.past = [*run.past, (x, x["g"], held)][-3:]
    slope = {name: torch.zeros_like(w) for name, w in held.items()}
    for token, weight, _ in run.past:
        slope = {name: s + weight * run.slope(held, token)[name] for name, s in slope.items()}
    return slope


def _window(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    return _less(kept, x["beta"], _recent(run, held, x))


def _normalised(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    length = (x["k"] ** 2).sum() if run.memory.kind == "matrix" else torch.ones((), dtype=torch.float64)
    return _less(kept, x["beta"] / (0.01 + length), run.slope(held, x))


def _pushed(run: Run, slope: Weights, x: Token, rate: Tensor | float) -> Weights:
    """The momentum: what is left of it, and the gradient times `rate`."""
    before = run.velocity or {name: torch.zeros_like(w) for name, w in slope.items()}
    run.velocity = {name: x["eta"] * z - rate * slope[name] for name, z in before.items()}
    return run.velocity


def _momentum(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    return _less(kept, -1.0, _pushed(run, run.slope(held, x), x, x["beta"]))


def _late_momentum(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    return _less(kept, -1.0, _pushed(run, run.slope(kept, x), x, x["beta"]))


def _titans(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    run.held = held if t % 4 == 0 else run.held
    return _less(kept, -1.0, _pushed(run, run.slope(run.held, x), x, x["beta"]))


def _muon(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    return _less(kept, -x["beta"], _pushed(run, run.slope(held, x), x, 1.0), newton_schulz)


def _atlas(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    return _less(kept, -x["beta"], _pushed(run, _recent(run, held, x), x, 1.0), newton_schulz)


def newton_schulz(g: Tensor) -> Tensor:
    """Three steps: five would make rounding 500 times larger where a singular value is 0."""
    y = g / torch.sqrt((g * g).sum() + 1e-12)
    for _ in range(3):
        gram = y @ y.T
        y = 3.4445 * y - 4.775 * gram @ y + 2.0315 * gram @ gram @ y
    return y


def _implicit(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    """The numerical minimiser of r·ℓ(V) + ½‖V - R‖²: a step of Newton's method, which is exact for a quadratic."""
    start = kept[run.only]

    def cost(flat: Tensor) -> Tensor:
        moved = flat - start.flatten()
        own = {run.only: flat.reshape(start.shape)}
        return x["beta"] * run.objective(own, x) + 0.5 * (moved * moved).sum()

    flat = start.flatten()
    step = torch.linalg.solve(hessian(cost)(flat), grad(cost)(flat))
    return {run.only: (flat - step).reshape(start.shape)}


def _diagonal(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
    """Longhorn's: the product of the key with itself is replaced by its diagonal."""
    start = kept[run.only]
    rest = run.structure.net({**run.world, run.only: torch.zeros_like(start)}, x)
    key = x["k"] if start.dim() == 2 else torch.ones(1, dtype=torch.float64)
    seen = start * key if start.dim() == 2 else start[:, None]
    slopes = [grad(run.loss.meaning)(seen[:, i] + rest, x) * key[i] for i in range(key.numel())]
    curvature = hessian(run.loss.meaning)(seen[:, 0], x).diagonal()
    rate = x["beta"] / (1 + x["beta"] * curvature * (key * key).sum())
    slope = torch.stack(slopes, -1).reshape(start.shape)
    return {run.only: start - rate.reshape(-1, *(1,) * (start.dim() - 1)) * slope}


def _least_squares(still: bool) -> Callable[[Run, int, Weights, Weights, Token], Weights]:
    """The minimiser of the weighted objectives of all tokens and a ridge, which decays with them or stays still."""

    def step(run: Run, t: int, held: Weights, kept: Weights, x: Token) -> Weights:
        run.past = [(token, weight * x["eta"], world) for token, weight, world in run.past]
        run.past.append((x, x["beta"], run.world))
        run.faded = run.faded * x["eta"]
        ridge = 0.5 * (1.0 if still else run.faded)
        shape = held[run.only].shape

        def cost(flat: Tensor) -> Tensor:
            own = {run.only: flat.reshape(shape)}
            losses = [weight * run.objective(own, token, world) for token, weight, world in run.past]
            return torch.stack(losses).sum() + 0.5 * ridge * (flat * flat).sum()

        flat = torch.zeros_like(held[run.only]).flatten()
        step = torch.linalg.solve(hessian(cost)(flat), grad(cost)(flat))
        return {run.only: -step.reshape(shape)}

    return step


LEARNERS = {
    "gd": Learner("gd(rate = {r})", lambda r, t, w, k, x: _less(k, x["beta"], r.slope(w, x))),
    "retained": Learner(
        "gd(rate = {r}, at = retained)", lambda r, t, w, k, x: _less(k, x["beta"], r.slope(k, x))
    ),
    "steps": Learner("gd(rate = {r}, at = retained, steps = 3)", _steps),
    "every": Learner("gd(rate = {r}, every = 4)", _every),
    "window": Learner("gd(rate = {r}, window = 3, weights = g)", _window),
    "normalised": Learner("gd(rate = {r}, normalised = 0.01)", _normalised),
    "sign": Learner(
        "gd(rate = {r}, direction = sign)",
        lambda r, t, w, k, x: _less(k, x["beta"], r.slope(w, x), torch.sign),
    ),
    "channels": Learner(
        "gd(rate = 0.2 * b)",
        lambda r, t, w, k, x: {
            name: kept - _by_value(0.2 * r.slope(w, x)[name], x) for name, kept in k.items()
        },
    ),
    "momentum": Learner("momentum(rate = {r}, decay = eta)", _momentum),
    "late momentum": Learner("momentum(rate = {r}, decay = eta, at = retained)", _late_momentum),
    "titans": Learner("momentum(rate = {r}, decay = eta, every = 4)", _titans),
    "atlas": Learner(
        "momentum(rate = {r}, decay = eta, window = 3, weights = g, direction = newton_schulz(steps = 3))",
        _atlas,
    ),
    "muon": Learner("momentum(rate = {r}, decay = eta, direction = newton_schulz(steps = 3))", _muon),
    "implicit": Learner("implicit(rate = {r})", _implicit),
    "rls": Learner("rls(rate = {r}, decay = eta, ridge = 0.5)", _least_squares(still=False)),
    "exact": Learner(
        "exact(rate = {r}, decay = eta, ridge = 0.5, steps = 8)",
        _least_squares(still=True),
        holds_memory=False,
    ),
    "diagonal": Learner("implicit(rate = {r}, diagonal = true)", _diagonal),
}
