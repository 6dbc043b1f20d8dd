"""The memories of the table: what a rule says of them, and what they answer, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

KEY, VALUE, HIDDEN = 4, 3, 5
SCALE = torch.tensor([0.7, 1.1, 1.4], dtype=torch.float64)  # of the norms at the end of the networks
Weights = dict[str, Tensor]
Token = Mapping[str, Tensor]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Memory:
    """One memory of a rule; `tensors` has the axes of every state, one letter each."""

    name: str
    axes: str
    kind: str
    tensors: Mapping[str, str]
    options: str = ""

    def text(self, mirror: str) -> str:
        options = ", ".join(x for x in (self.options, f"mirror = {mirror}" if mirror else "") if x)
        return f"memory {self.name}: {self.axes}" + (f" = {self.kind}({options})" if options else "")

    @property
    def linear(self) -> bool:
        return self.kind in ("vector", "matrix")


@dataclass(frozen=True)
class Structure:
    """The memories of a rule that learn, and how the rule reads them.

    `read` is what the objective sees and `answer` what the rule gives; `net` and `reply` are their meanings.
    `before` stands in front of the memories and `between` in front of the objective; `beside` adds to it and to the
    choices, and `move` says what that makes of the states that are not learned.
    """

    memories: tuple[Memory, ...]
    read: str
    answer: str
    net: Callable[[Weights, Token], Tensor]
    reply: Callable[[Weights, Token], Tensor]
    sizes: Mapping[str, int] = field(default_factory=lambda: {"n": KEY, "m": VALUE})
    before: str = ""
    between: str = ""
    target: str = "v"
    rate: str = "beta"
    beside: tuple[str, str] = ("", "")
    wanted: Callable[[Weights, Token], Tensor] = lambda w, x: x["v"]
    pace: Callable[[Weights, Token], Tensor] = lambda w, x: x["beta"]
    move: Callable[[Weights, Token], Weights] = lambda w, x: {}
    others: Weights = field(default_factory=Weights)

    def start(self) -> Weights:
        """What the states hold before the first token: linear memories nothing, unless `before` says so."""
        lengths = {**self.sizes, "h": HIDDEN}
        found = dict(self.others)
        for memory in self.memories:
            for seed, (name, axes) in enumerate(memory.tensors.items()):
                random = 0.5 * draw(*(lengths[axis] for axis in axes), seed=20 + seed)
                found[name] = random if self.before or not memory.linear else torch.zeros_like(random)
        return found


def read_at_keys(
    *memories: Memory,
    net: Callable[[Weights, Tensor], Tensor],
    read: str = "S(k)",
    answer: str = "S'(q)",
    key: int = KEY,
) -> Structure:
    """The objective sees what the memories answer to the key, and the rule gives what they answer to the query."""
    sizes = {"n": key, "m": VALUE}
    return Structure(memories, read, answer, lambda w, x: net(w, x["k"]), lambda w, x: net(w, x["q"]), sizes)


def _mlp(w: Weights, x: Tensor) -> Tensor:
    y = w["S.1.weight"] @ torch.tanh(w["S.0.weight"] @ x)
    return SCALE * y / torch.sqrt((y * y).mean() + 1e-6)


def _deep(w: Weights, x: Tensor) -> Tensor:
    y = F.silu(w["S.0.weight"] @ x + w["S.0.bias"])
    y = F.silu(w["S.1.weight"] @ y + w["S.1.bias"])
    y = w["S.2.weight"] @ y + w["S.2.bias"]
    y = y - y.mean()
    return x + SCALE * y / torch.sqrt((y * y).mean() + 1e-6)


def _slots(w: Weights, x: Tensor) -> Tensor:
    return w["S.values"] @ torch.softmax(w["S.keys"] @ x, 0)


MATRIX = Memory("S", "n -> m", "matrix", {"S": "mn"})
_DEEP = {"0.weight": "hn", "1.weight": "hh", "2.weight": "mh", "0.bias": "h", "1.bias": "h", "2.bias": "m"}


# --- A matrix that writes its own keys, queries and rates: its last rows. ---

_REST = 2
_SELF = {"n": KEY, "m": _REST + 2 * KEY + 1}


def _own(w: Weights, x: Token) -> tuple[Tensor, Tensor, Tensor]:
    """The key, the query and the rate that the matrix gives for a token; constants for the gradient."""
    told = (w["S"] @ x["k"]).detach()
    _, key, query, rate = told.split([_REST, KEY, KEY, 1])
    return torch.softmax(key, 0), torch.softmax(query, 0), 0.2 * torch.sigmoid(rate[0])


SELF = Structure(
    (Memory("S", "n -> m", "matrix", {"S": "mn"}, "initial = start"),),
    "S(key)",
    "S'(q)",
    lambda w, x: w["S"] @ _own(w, x)[0],
    lambda w, x: w["S"] @ x["q"],
    _SELF,
    before="param start[m, n] = normal(0, 1)",
    between="""
    let told[rest], for_key[own], for_query[other], pace[one] = split(S(k))
    let key = stop_gradient(softmax(for_key)[own -> n])
    let query = stop_gradient(softmax(for_query)[other -> n])
    let rate = 0.2 * sigmoid(sum(pace))
    let wanted = stop_gradient(S(query))""",
    target="wanted",
    rate="rate",
    wanted=lambda w, x: (w["S"] @ _own(w, x)[1]).detach(),
    pace=lambda w, x: _own(w, x)[2],
)


# --- A matrix and the Gram matrix of its keys, which is learned from the keys alone and solved with at the read. ---


def _solve(w: Weights, x: Token) -> Tensor:
    found: Tensor = torch.linalg.solve(w["H"] + torch.eye(KEY, dtype=torch.float64), x["q"])
    return w["S"] @ found


GRAM = Structure(
    (MATRIX,),
    "S(k)",
    "S'(conjugate_gradients[n, e](H', q, 1 + 0 * q, steps = 6, eps = 1e-30))",
    lambda w, x: w["S"] @ x["k"],
    _solve,
    beside=(" - sum(H(k) * k[n -> e])", "retention H: eta * H  learner H: gd(rate = g)"),
    move=lambda w, x: {"H": x["eta"] * w["H"] + x["g"] * torch.outer(x["k"], x["k"])},
    others={"H": torch.zeros(KEY, KEY).double()},
)

MLP = Memory(
    "S",
    "n -> m",
    "mlp",
    {"S.0.weight": "hn", "S.1.weight": "mh"},
    f"hidden = {HIDDEN}, activation = tanh, norm = rms",
)
DEEP = Memory(
    "S",
    "n -> m",
    "mlp",
    {f"S.{name}": axes for name, axes in _DEEP.items()},
    f"hidden = {HIDDEN}, depth = 3, activation = silu, norm = layer, residual = true, bias = true",
)
SLOTS = Memory("S", "n -> m", "slots", {"S.keys": "hn", "S.values": "mh"}, f"count = {HIDDEN}")

MEMORIES = {
    "vector": read_at_keys(
        Memory("S", "m", "vector", {"S": "m"}), net=lambda w, x: w["S"], read="S", answer="S'"
    ),
    "matrix": read_at_keys(MATRIX, net=lambda w, x: w["S"] @ x),
    "mlp": read_at_keys(MLP, net=_mlp),
    "deep": read_at_keys(DEEP, net=_deep, key=VALUE),
    "slots": read_at_keys(SLOTS, net=_slots),
    "several": read_at_keys(
        MATRIX,
        Memory("B", "m", "vector", {"B": "m"}),
        net=lambda w, x: w["S"] @ x + w["B"],
        read="(S(k) + B)",
        answer="S'(q) + B'",
    ),
    "self": SELF,
    "gram": GRAM,
}
