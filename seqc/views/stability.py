"""The report of stability: eigenvalues of the transition, half-lives of the memory, what becomes of a perturbation."""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor

from seqc.ir.expr import Axes
from seqc.ir.recurrence import Store
from seqc.passes.cost import visible
from seqc.views.transition import Transition, transitions
from seqc.views.uses import Use

Data = dict[str, Any]

# What is nearer to 1 than this is 1.
EXACT = 1e-9


def report(use: Use) -> Data:
    """As JSON; a half-life is null where nothing is ever forgotten."""
    return {
        "rule": use.rule.name,
        "use": use.path,
        "tokens": use.time,
        "states": [_state(use, found) for found in transitions(use)],
        "stores": [{"name": store.name, "kept": _kept(store)} for store in use.rule.stores],
    }


def _state(use: Use, found: Transition) -> Data:
    heads = tuple(axis for axis in found.axes if axis in use.rule.mapped)
    shortest, longest = half_lives(found, heads)
    slowest = float(found.rates.max())
    return {
        "names": list(found.states),
        "how": found.how,
        "formulas": list(found.formulas),
        "eigenvalues": None if found.eigenvalues is None else _range(found.eigenvalues),
        "half_life": {"axes": list(heads), "shortest": _finite(shortest), "longest": _finite(longest)},
        "rate": slowest,
        "perturbations": verdict(slowest),
    }


def half_lives(found: Transition, heads: Axes) -> tuple[Tensor, Tensor]:
    """The shortest and the longest, in tokens, over everything but the axes `heads`."""
    lives = -log(2) / found.rates.log()
    lives = torch.where(found.rates >= 1 - EXACT, torch.inf, lives)
    axes = (*found.axes, "%number")
    order = [axes.index(axis) for axis in heads]
    order += [i for i, axis in enumerate(axes) if axis not in heads]
    lives = lives.permute(order).flatten(len(heads))
    return lives.amin(-1), lives.amax(-1)


def verdict(rate: float) -> str:
    """What becomes of a difference between two pasts, at the rate of the direction that keeps it best."""
    if rate > 1 + EXACT:
        return "grow"
    return "fade" if rate < 1 - EXACT else "stay"


def _range(values: Tensor) -> Data:
    turning = values.is_complex() and float(values.imag.abs().max()) > EXACT
    real = values.real if values.is_complex() else values
    return {
        "modulus": [float(values.abs().min()), float(values.abs().max())],
        "real": None if turning else [float(real.min()), float(real.max())],
    }


def _kept(store: Store) -> int | None:
    return visible(store)


def _finite(lives: Tensor) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]  # pyright: ignore[reportUnknownArgumentType]
        return None if value == float("inf") else value

    return plain(lives.tolist())


# --- as text -------------------------------------------------------------------------------------------------------

MOST_SHOWN = 8
_SAID = {
    "fade": "perturbations fade: tokens of different pasts converge",
    "stay": "perturbations stay: the past is neither forgotten nor amplified",
    "grow": "perturbations grow: tokens of different pasts diverge",
}
_HOW = {
    "affine": "read off the affine update",
    "jacobian": "of the Jacobian of a step",
    "measured": "too many states for their Jacobian: the growth of a small change was measured",
}


def text(facts: Data) -> str:
    used = f"  used as {facts['use']}" if facts["use"] else ""
    lines = [f"rule {facts['rule']}{used}, over {facts['tokens']} tokens"]
    for state in facts["states"]:
        lines += _state_text(state)
    for store in facts["stores"]:
        kept = "every token" if store["kept"] is None else f"the {store['kept']} tokens that are visible"
        lines.append(f"  {store['name']}: keeps {kept} as they came")
    if len(lines) == 1:
        lines.append("  no state that an input reaches")
    return "\n".join(lines)


def _state_text(state: Data) -> list[str]:
    lines = [f"  {', '.join(state['names'])}: {_HOW[state['how']]}"]
    values = state["eigenvalues"]
    if values is not None:
        what = f"  ({', '.join(state['formulas'])})" if state["formulas"] else ""
        real = values["real"]
        shown = _between(*real) if real is not None else f"complex, modulus {_between(*values['modulus'])}"
        lines.append(f"    eigenvalues  {shown}{what}")
    lines.append(f"    half-life    {_lives(state['half_life'])}")
    lines.append(f"    {_SAID[state['perturbations']]}, x {state['rate']:.4g} a token at the slowest")
    return lines


def _between(low: float, high: float) -> str:
    low, high = float(f"{low:.4g}"), float(f"{high:.4g}")
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _lives(half_life: Data) -> str:
    axes, shortest, longest = half_life["axes"], half_life["shortest"], half_life["longest"]
    if not axes:
        return _span(shortest, longest)
    low, high = _flat(shortest), _flat(longest)
    shown = [_span(a, b) for a, b in zip(low, high, strict=True)]
    more = f", … ({len(shown)} in all)" if len(shown) > MOST_SHOWN else ""
    return f"by {', '.join(axes)}: {'; '.join(shown[:MOST_SHOWN])}{more}"


def _flat(nested: Any) -> list[float | None]:
    return [each for part in nested for each in _flat(part)] if isinstance(nested, list) else [nested]


def _span(low: float | None, high: float | None) -> str:
    shown = list(dict.fromkeys("forever" if life is None else f"{life:.3g}" for life in (low, high)))
    unit = {"forever": "", "1": " token"}.get(shown[-1], " tokens")
    return " to ".join(shown) + unit
