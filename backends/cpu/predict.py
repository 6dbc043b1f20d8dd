"""How a rule is computed on a CPU by default, why, and what each way is predicted to take."""

from __future__ import annotations

from typing import Any

from seqc.explain import short_count
from seqc.ir.plan import Plan

from ..torch.cells import find_cell
from .cost import work
from .runtime.cost import BLOCK, Work, loop_seconds, token_seconds, torch_counts, torch_seconds, weights_of

TOKENS = 2048
LOOP, TORCH = "fused loop", "PyTorch"
# What a way does most of its time, by its counts.
REASONS = (
    "calls {} operations",
    "calls {} operations, one after another",
    "makes {} numbers in between",
    "computes {} elementary functions",
    "multiplies and adds {} numbers",
    "reads {} numbers of weights",
)


def predicted(plan: Plan) -> dict[str, Any]:
    """The default for a long sequence, and seconds for a sequence, with gradients, and for one token; on one thread."""
    rule = plan.recurrence
    if rule.stores:
        return {"way": TORCH, "because": "attention is matrix products over all pairs of tokens"}
    if not rule.states:
        return {"way": TORCH, "because": "nothing is carried from token to token"}
    if find_cell(rule, plan) is not None:
        return {"way": TORCH, "because": "it has an operator for the whole rule"}
    own = work(plan)
    seconds = {
        "forward": _both(own, training=False),
        "training": _both(own, training=True),
        "token": {LOOP: loop_seconds(own, 1, 1, False), TORCH: token_seconds(own, 1, False)},
    }
    forward = seconds["forward"]
    return {
        "way": min(forward, key=lambda way: forward[way]),
        "because": f"in {TOKENS:,} tokens PyTorch's {plan.mode} {_most(own)}",
        "how": _how(own),
        "tokens": TOKENS,
        "seconds": seconds,
    }


def _both(own: Work, training: bool) -> dict[str, float]:
    return {LOOP: loop_seconds(own, 1, TOKENS, training), TORCH: torch_seconds(own, 1, TOKENS, training)}


def _how(own: Work) -> dict[str, str]:
    """Which tokens of a fused loop go side by side."""
    ways = [
        name
        for name, share in (("forwards", own.loop.forward), ("backwards", own.loop.backward))
        if share != 1
    ]
    words = " and ".join(ways)
    return {f"blocks of {BLOCK} tokens": f"{words}, as products of matrices"} if ways else {}


def _most(own: Work) -> str:
    """What PyTorch spends most of its time on."""
    counts = torch_counts(own.forward, 1, TOKENS)
    shares = [weight * count for weight, count in zip(weights_of(training=False), counts, strict=True)]
    most = shares.index(max(shares))
    return REASONS[most].format(short_count(counts[most]))
